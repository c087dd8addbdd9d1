"""All tables and figures of a folder, from the rows of its `results.csv` alone; the chapter of in-situ runs is handed in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analog_glue.costs.estimate import Costs
from analog_glue.reports.contents import contents, hardware_chapter
from analog_glue.reports.drift import difference_records, drift_grid, drift_records, label_of
from analog_glue.reports.glue import glue_records
from analog_glue.reports.grids import (
    Chapter,
    Grid,
    as_csv,
    as_latex,
    as_markdown,
)
from analog_glue.reports.maintenance import Wish
from analog_glue.reports.missing import missing_commands
from analog_glue.runs.files import write_bytes_atomic


@dataclass(frozen=True)
class Report:
    """What `build` made: the files, and the Markdown of all tables for the terminal."""

    paths: list[Path]
    markdown: str
    left_out: list[str]  # runs that could not be read, and why


def build(
    root: Path | str,
    out: Path | str | None = None,
    in_situ: Chapter | None = None,
    costs: Costs | None = None,
    wish: Wish | None = None,
) -> Report:
    """Read every `results.csv` at or below `root`, and write all tables and figures.

    Args:
        root: A folder of runs; `outputs` or the folder of one experiment.
        out: Where to write; `<root>/tables` if not given.
        in_situ: What the in-situ runs below `root` show (`in_situ.reports.chapter`).
        costs: What prices an inference, beside its score; None: nothing is priced.
        wish: What a fleet of chips has to keep up; None: no plan of its maintenance is made.

    Returns:
        The files, and what `tables.md` says. The same rows give the same bytes.

    Raises:
        UserError: There is no row and no learning curve below `root`.
    """
    found = contents(root, in_situ, costs, wish)
    sections, published, chapters = found.sections, found.published, [*found.chapters]
    content: dict[str, bytes] = {}
    markdown = ["# Scores over time"] if found.measured.rows else []
    latex: list[str] = []

    for by_task in found.hardwares:
        _set(hardware_chapter(by_task, published), markdown, latex, content)
    for section in sections:
        grid = drift_grid(section)
        markdown.append(as_markdown(grid))
        latex.append(as_latex(grid, label_of("-".join(("drift", *section.score)), section)))
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
    for heading, chapter in (("# Ablations", found.ablations), ("# In-situ training", in_situ)):
        if chapter is not None:
            chapters.append(chapter)
            markdown.append(heading)
            _set(chapter, markdown, latex, content)
    if in_situ is not None:
        if in_situ.missing:
            intro = "What the paper shows and no run here has measured, each with the command that makes it."
            markdown.append("## Missing in-situ runs\n\n" + intro + "\n\n" + "\n".join(f"- {line}" for line in in_situ.missing))
    if found.remarks:
        markdown.append("## Remarks\n\n" + "\n".join(f"- {remark}" for remark in found.remarks))

    report = "\n\n".join(markdown) + "\n"
    preamble = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"
    content["tables.md"] = report.encode()
    content["tables.tex"] = (preamble + "\n" + "\n".join(latex)).encode()
    for name, records in (
        ("drift.csv", drift_records(sections)),
        ("differences.csv", difference_records(sections)),
        ("glue.csv", glue_records(found.hardwares, published)),
        *(item for made in chapters for item in made.records.items()),
    ):
        if records:
            content[name] = as_csv(records)
    folder = Path(out) if out is not None else Path(root) / "tables"
    for name, data in sorted(content.items()):
        write_bytes_atomic(folder / name, data)
    return Report(paths=[folder / name for name in sorted(content)], markdown=report, left_out=found.measured.left_out)


def _set(chapter: Chapter, markdown: list[str], latex: list[str], content: dict[str, bytes]) -> None:
    """Add the tables and figures of a chapter to what is written."""
    for name, part in chapter.parts:
        if isinstance(part, Grid):
            markdown.append(as_markdown(part))
            latex.append(as_latex(part, name))
        else:
            content |= part.draw().files(name)
            markdown.append(f"![{part.title}]({name}.png)")
