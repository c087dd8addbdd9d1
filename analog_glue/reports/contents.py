"""Everything that the runs of a folder show, before it is written down in any format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analog_glue.costs.estimate import Costs
from analog_glue.errors import UserError
from analog_glue.reports.ablation import ablation_chapter
from analog_glue.reports.answers import answers
from analog_glue.reports.drift import figure_note, label_of, panel_of
from analog_glue.reports.figure6 import figure6
from analog_glue.reports.figure7 import figure7
from analog_glue.reports.figure8 import figure8
from analog_glue.reports.glue import glue_grid
from analog_glue.reports.grids import GLUE, Chapter, Picture
from analog_glue.reports.lammie2024 import lammie2024
from analog_glue.reports.maintenance import Wish, maintenance
from analog_glue.reports.measured import Measured, find_measured
from analog_glue.reports.pareto import accuracy_against_cost
from analog_glue.reports.published import Published, published_numbers
from analog_glue.reports.sections import Bundle, Section, pivot
from analog_glue.reports.told_apart import tell_apart
from analog_glue.reports.variance import variance

ByTask = dict[str, Section]  # task → its headline section on one hardware


@dataclass(frozen=True)
class Contents:
    """What there is to show.

    Args:
        measured: Rows and settings of the runs, and what could not be read.
        sections: All scores, the headline first.
        hardwares: Headline sections of each hardware; of a task that was scored on several data, the further ones stand apart.
        chapters: Figures of the literature, the variance of scores, answers of `specify` and `place`; some are empty.
        ablations: What every non-ideality costs; None where nothing was ablated.
        remarks: On rows that cannot be taken as they are.
    """

    measured: Measured
    published: list[Published]
    sections: list[Section]
    hardwares: list[ByTask]
    chapters: list[Chapter]
    ablations: Chapter | None
    in_situ: Chapter | None
    remarks: list[str]


def contents(
    root: Path | str, in_situ: Chapter | None = None, costs: Costs | None = None, wish: Wish | None = None
) -> Contents:
    """Read every `results.csv` at or below `root`.

    Args:
        root: A folder of runs; `outputs` or the folder of one experiment.
        in_situ: What the in-situ runs below `root` show (`in_situ.reports.chapter`).
        costs: What prices an inference, beside its score; None: nothing is priced.
        wish: What a fleet of chips has to keep up; None: no plan of its maintenance is made.

    Raises:
        UserError: There is no row and no learning curve below `root`.
    """
    measured = find_measured(root)
    rows, settings = measured.rows, measured.settings
    if not rows and in_situ is None:
        if measured.left_out:
            raise UserError("\n".join(measured.left_out))
        raise UserError(
            f"Argument `root` must hold a results.csv or learning_curve.csv with measured scores, but `{root}` has none at "
            "or below it (`records` not counted). Name the folder that `analog-glue train` or `analog-glue evaluate` wrote to, "
            "or one of outputs/records."
        )
    sections, remarks = pivot(rows, settings)
    tell_apart(sections, measured.hardware)
    published = published_numbers()
    chapters = [
        figure6(rows, settings, published),
        figure7(rows),
        figure8(rows, settings),
        lammie2024(rows, settings, published),
        variance(sections),
        accuracy_against_cost(sections, measured, costs),
        *([maintenance(sections, measured, costs, wish)] if wish else []),
        *answers(root, measured.left_out),
    ]
    ablations = ablation_chapter(rows, settings)
    return Contents(measured, published, sections, _by_task(sections), chapters, ablations, in_situ, sorted(remarks))


def hardware_chapter(by_task: ByTask, published: Sequence[Published]) -> Chapter:
    """The eight tasks in one table where there are any of them, and the scores over time in one picture."""
    made = Chapter()
    if glue := {task: section for task, section in by_task.items() if task in GLUE}:
        made.parts.append((label_of("glue", next(iter(glue.values()))), glue_grid(glue, published)))
    if drawn := [section for section in by_task.values() if section.cells]:
        title = drawn[0].hardware_title
        picture = Picture(f"Scores over time: {title}", [panel_of(section) for section in drawn], figure_note(drawn), title)
        made.parts.append((label_of("drift", drawn[0]), picture))
    return made


def _by_task(sections: Sequence[Section]) -> list[ByTask]:
    tables: dict[Bundle, list[ByTask]] = defaultdict(list)
    for section in sections:
        if section.headline:
            own = tables[section.bundle]
            free = next((by_task for by_task in own if section.score.task not in by_task), None)
            if free is None:
                own.append(free := {})
            free[section.score.task] = section
    return [by_task for own in tables.values() for by_task in own]
