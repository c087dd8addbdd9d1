"""One self-contained HTML file over the runs of a folder: everything is inside, nothing is loaded from anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from analog_glue.costs.estimate import Costs
from analog_glue.errors import UserError
from analog_glue.reports.contents import ByTask, Contents, contents, hardware_chapter
from analog_glue.reports.drift import drift_grid
from analog_glue.reports.grids import Chapter, Grid, Sources
from analog_glue.reports.maintenance import Wish
from analog_glue.reports.missing import missing_commands
from analog_glue.reports.page.answer import QUESTION, answer
from analog_glue.reports.page.charts import Drawing, drawing
from analog_glue.reports.page.runs import Index, run_records
from analog_glue.reports.sections import Section
from analog_glue.runs.files import write_bytes_atomic

PAGE = "report.html"


@dataclass(frozen=True)
class Part:
    """One thing that stands on the page: a table or a picture. `folded`: it opens when it is clicked."""

    grid: Grid | None = None
    drawing: Drawing | None = None
    folded: bool = False


@dataclass(frozen=True)
class Heading:
    """What stands under one heading.

    Args:
        id: Of the heading, for links.
        commands: What measures that which is not there, a line each.
    """

    id: str
    title: str
    parts: list[Part]
    commands: list[str]


def build_page(
    root: Path | str,
    out: Path | str | None = None,
    in_situ: Chapter | None = None,
    left_out: Sequence[str] = (),
    costs: Costs | None = None,
    wish: Wish | None = None,
) -> tuple[Path, list[str]]:
    """Write the page of all runs at or below `root`.

    Args:
        out: The file to write; `<root>/report.html` if not given.
        in_situ: What the in-situ runs below `root` show (`in_situ.reports.chapter`).
        left_out: Runs that could not be read for it, and why.
        costs: What prices an inference, beside its score; None: nothing is priced.
        wish: What a fleet of chips has to keep up; None: no plan of its maintenance is made.

    Returns:
        The file, and all runs that could not be read, with why. The same rows give the same bytes with the same libraries.

    Raises:
        UserError: There is no row and no learning curve below `root`, or the chart library is not installed.
    """
    library = chart_library()
    root = Path(root)
    found = contents(root, in_situ, costs, wish)
    unread = [*left_out, *found.measured.left_out]
    index = Index.of(run_records(root, unread))
    unread = list(dict.fromkeys(unread))
    path = Path(out) if out is not None else root / PAGE
    page = render(found, index, unread, library)
    write_bytes_atomic(path, page.encode(errors="replace"))  # JSON may hold halves of signs, which no file can
    return path, unread


def chart_library() -> str:
    """The script that draws Vega-Lite specifications in a browser.

    Raises:
        UserError: The package that brings it is not installed.
    """
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise UserError(
            "`analog-glue report` must have the chart library of the package vl-convert-python, but it is not installed. "
            "Install it with `pip install analog-glue[report]`."
        ) from error
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def render(found: Contents, index: Index, left_out: Sequence[str], library: str) -> str:
    """The page as text.

    Args:
        index: The runs that numbers lead to.
        library: Script that defines `vegaEmbed`.
    """
    from jinja2 import Environment, StrictUndefined

    # What is put into the template is escaped, so that names of runs are text and never markup; `safe` there is our own alone.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    own = files("analog_glue.reports.page")
    script, style, template = (own.joinpath(name).read_text("utf-8") for name in ("page.js", "page.css", "page.html"))
    specifications: list[Any] = []

    def chart(specification: Any) -> int:
        """Number of the chart on the page."""
        specifications.append(specification)
        return len(specifications) - 1

    numbered: dict[tuple[int, ...], int] = {}

    def runs(numbers: Sequence[int]) -> str:
        """A link to one run, or to those of a number, which are listed once."""
        if len(numbers) == 1:
            return f"run-{numbers[0]}"
        return f"runs-{numbered.setdefault(tuple(numbers), len(numbered))}"

    def link(text: str, sources: Sources) -> str:
        """Where a cell or fact leads to; empty where it is no number, or one that no run at hand has measured."""
        numbers = index.of_sources(sources) if is_number(text) else []
        return runs(numbers) if numbers else ""

    page = environment.from_string(template).render(
        question=QUESTION,
        answer=answer(found.sections),
        chapters_list=list(_chapters(found)),
        records=index.records,
        summary=_summary(found, index),
        remarks=found.remarks,
        left_out=left_out,
        link=link,
        link_of=lambda number: runs([number]),
        is_number=is_number,
        chart=chart,
        style=style,
        packed=lambda: _script_json({**index.packed(), "sets": list(numbered)}),
        specifications=lambda: _script_json(specifications),
        library=library.replace("</script", "<\\/script"),
        script=script,
    )
    return str(page) + "\n"


def is_number(text: str) -> bool:
    """Whether a cell begins with a number, as scores, differences and counts do."""
    return re.match(r"[+−-]?\d", text) is not None


def _script_json(value: Any) -> str:
    """JSON inside of a script element: no name in it can end the element, and none is a line end of JavaScript."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _summary(found: Contents, index: Index) -> str:
    """How much there is, in words."""
    names = {record.source[0] for record in index.records}
    rows = len(found.measured.rows)
    return f"{len(names):,} run{'s' * (len(names) != 1)}, {rows:,} measured score{'s' * (rows != 1)}"


def _chapters(found: Contents) -> Iterator[Heading]:
    """Everything that `tables` writes, in its order; a hardware's own tables stand below its picture."""
    homes = [(section, _home(section, found.hardwares)) for section in found.sections if found.hardwares]
    for number, by_task in enumerate(found.hardwares):
        first = next(iter(by_task.values()))
        parts = list(_parts(hardware_chapter(by_task, found.published)))
        glue = [replace(part, folded=len(by_task) == 1) for part in parts if part.grid]  # with a column for all eight
        parts = [part for part in parts if part.drawing]
        own = [section for section, home in homes if home == number]
        parts += [Part(grid=drift_grid(section), folded=not section.headline) for section in own]
        parts += glue
        data = [section.data_title for section in by_task.values() if section.data_title]
        yield Heading(f"hardware-{number}", ", ".join([first.hardware_title, *dict.fromkeys(data)]), parts, [])
    for number, chapter in enumerate(found.chapters):
        if chapter.parts:
            yield _chapter(f"chapter-{number}", chapter)
    if found.ablations is not None:
        yield _chapter("ablations", found.ablations, "What every non-ideality costs")
    if found.in_situ is not None:
        yield _chapter("in-situ", found.in_situ, "Training on the devices")
    if commands := missing_commands(found.sections):
        yield Heading("missing", "Not measured yet", [], commands)


def _home(section: Section, hardwares: Sequence[ByTask]) -> int:
    """Number of the hardware whose heading a score stands under: that of the headline score of the same data."""

    def likeness(by_task: ByTask) -> tuple[bool, bool, bool]:
        own = by_task.get(section.score.task)
        if own is None or own.bundle != section.bundle:
            return False, False, False
        return own is section, own.data == section.data, own.examples == section.examples

    return max(range(len(hardwares)), key=lambda number: likeness(hardwares[number]))


def _chapter(name: str, chapter: Chapter, title: str = "") -> Heading:
    parts = list(_parts(chapter))
    first = next(part for _, part in chapter.parts)
    return Heading(name, title or first.title.partition(":")[0], parts, chapter.missing)


def _parts(chapter: Chapter) -> Iterator[Part]:
    for _, part in chapter.parts:
        yield Part(grid=part) if isinstance(part, Grid) else Part(drawing=drawing(part))
