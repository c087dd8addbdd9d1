"""All tables and figures of a folder, from the rows of its `results.csv` alone; the chapter of in-situ runs is handed in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analog_glue.costs.estimate import Costs
from analog_glue.errors import UserError
from analog_glue.reports.ablation import ablation_chapter
from analog_glue.reports.drift import difference_records, drift_grid, drift_records, figure_note, label_of, panel_of
from analog_glue.reports.figure6 import figure6
from analog_glue.reports.figure7 import figure7
from analog_glue.reports.figure8 import figure8
from analog_glue.reports.figures import drift_figure
from analog_glue.reports.glue import glue_grid, glue_records
from analog_glue.reports.grids import (
    GLUE,
    Chapter,
    Grid,
    as_csv,
    as_latex,
    as_markdown,
)
from analog_glue.reports.lammie2024 import lammie2024
from analog_glue.reports.measured import find_measured
from analog_glue.reports.missing import missing_commands
from analog_glue.reports.pareto import accuracy_against_cost
from analog_glue.reports.published import published_numbers
from analog_glue.reports.sections import Bundle, Section, pivot
from analog_glue.reports.variance import variance
from analog_glue.runs.files import write_bytes_atomic


@dataclass(frozen=True)
class Report:
    """What `build` made: the files, and the Markdown of all tables for the terminal."""

    paths: list[Path]
    markdown: str
    left_out: list[str]  # runs that could not be read, and why


def build(
    root: Path | str, out: Path | str | None = None, in_situ: Chapter | None = None, costs: Costs | None = None
) -> Report:
    """Read every `results.csv` at or below `root`, and write all tables and figures.

    Args:
        root: A folder of runs; `outputs` or the folder of one experiment.
        out: Where to write; `<root>/tables` if not given.
        in_situ: What the in-situ runs below `root` show (`in_situ.reports.chapter`).
        costs: What prices an inference, beside its score; None: nothing is priced.

    Returns:
        The files, and what `tables.md` says. The same rows give the same bytes.

    Raises:
        UserError: There is no row and no learning curve below `root`.
    """
    root = Path(root)
    measured = find_measured(root)
    rows = measured.rows
    if not rows and in_situ is None:
        if measured.left_out:
            raise UserError("\n".join(measured.left_out))
        raise UserError(
            f"Argument `root` must hold a results.csv or learning_curve.csv with measured scores, but `{root}` has none at "
            "or below it (`records` not counted). Name the folder that `analog-glue train` or `analog-glue evaluate` wrote to, "
            "or one of outputs/records."
        )
    sections, remarks = pivot(rows, measured.settings)
    published = published_numbers()
    tables = _by_task(sections)
    content: dict[str, bytes] = {}
    markdown, latex = ["# Scores over time"] if rows else [], []

    for by_task in tables:
        glue = {task: section for task, section in by_task.items() if task in GLUE}
        if glue:
            grid = glue_grid(glue, published)
            markdown.append(as_markdown(grid))
            latex.append(as_latex(grid, label_of("glue", next(iter(glue.values())))))
        drawn = [section for section in by_task.values() if section.cells]
        if drawn:
            name, title = label_of("drift", drawn[0]), drawn[0].hardware_title
            content |= drift_figure([panel_of(s) for s in drawn], title, figure_note(drawn)).files(name)
            markdown.append(f"![Scores over time: {title}]({name}.png)")
    for section in sections:
        grid = drift_grid(section)
        markdown.append(as_markdown(grid))
        latex.append(as_latex(grid, label_of("-".join(("drift", *section.score)), section)))
    chapters = [
        figure6(rows, measured.settings, published),
        figure7(rows),
        figure8(rows, measured.settings),
        lammie2024(rows, measured.settings, published),
        variance(sections),
        accuracy_against_cost(sections, measured, costs),
    ]
    for made in chapters:
        _set(made, markdown, latex, content)
        if made.missing:
            markdown.append(
                "\n".join(["Missing cells, each with the command that measures it:", "", *(f"- {m}" for m in made.missing)])
            )
    commands = missing_commands(sections)
    if commands:
        intro = "Each command measures only what is not there. Add the overrides that your other runs used."
        markdown.append("## Missing\n\n" + intro + "\n\n```\n" + "\n".join(commands) + "\n```")
    for heading, chapter in (("# Ablations", ablation_chapter(rows, measured.settings)), ("# In-situ training", in_situ)):
        if chapter is not None:
            chapters.append(chapter)
            markdown.append(heading)
            _set(chapter, markdown, latex, content)
    if in_situ is not None:
        if in_situ.missing:
            intro = "What the paper shows and no run here has measured, each with the command that makes it."
            markdown.append("## Missing in-situ runs\n\n" + intro + "\n\n" + "\n".join(f"- {line}" for line in in_situ.missing))
    if remarks:
        markdown.append("## Remarks\n\n" + "\n".join(f"- {remark}" for remark in sorted(remarks)))

    report = "\n\n".join(markdown) + "\n"
    preamble = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"
    content["tables.md"] = report.encode()
    content["tables.tex"] = (preamble + "\n" + "\n".join(latex)).encode()
    for name, records in (
        ("drift.csv", drift_records(sections)),
        ("differences.csv", difference_records(sections)),
        ("glue.csv", glue_records(tables, published)),
        *(item for made in chapters for item in made.records.items()),
    ):
        if records:
            content[name] = as_csv(records)
    folder = Path(out) if out is not None else root / "tables"
    for name, data in sorted(content.items()):
        write_bytes_atomic(folder / name, data)
    return Report(paths=[folder / name for name in sorted(content)], markdown=report, left_out=measured.left_out)


def _set(chapter: Chapter, markdown: list[str], latex: list[str], content: dict[str, bytes]) -> None:
    """Add the tables and figures of a chapter to what is written."""
    for name, part in chapter.parts:
        if isinstance(part, Grid):
            markdown.append(as_markdown(part))
            latex.append(as_latex(part, name))
        else:
            content |= part.draw().files(name)
            markdown.append(f"![{part.title}]({name}.png)")


def _by_task(sections: Sequence[Section]) -> list[dict[str, Section]]:
    """Headline sections of one hardware by task; of a task that was scored on several data, the further ones stand apart."""
    tables: dict[Bundle, list[dict[str, Section]]] = defaultdict(list)
    for section in sections:
        if section.headline:
            own = tables[section.bundle]
            free = next((by_task for by_task in own if section.score.task not in by_task), None)
            if free is None:
                own.append(free := {})
            free[section.score.task] = section
    return [by_task for own in tables.values() for by_task in own]
