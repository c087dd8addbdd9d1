"""Numbers of Gokmen (2021) that stand beside ours, and which line of a table each is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from analog_glue.in_situ.reports.groups import Group
from analog_glue.reports.published import published_cells
from analog_glue.runs.cells import Cells

READING = "Learning rates and the devices of Models I–III are lost; ours are our reading (docs/in_situ.md)."


def published_lines() -> list[Cells]:
    """The numbers of the literature in `published.csv`, each with its source; lost values are empty."""
    return published_cells("analog_glue.in_situ.reports")


def belongs(line: str, group: Group) -> bool:
    """Whether a published line is about this group: its label begins with the same words, and it learnt all there is."""
    return not group.short and f"{group.label.replace(',', ' ')} ".startswith(f"{line} ")


def sources(numbers: Iterable[Cells]) -> str:
    """Where each number stands and what is to be known of it; the numbers that are lost by name."""
    known: dict[str, list[str]] = defaultdict(list)
    lost = []
    for cells in numbers:
        note = f" ({cells['note']})" if cells["note"] else ""
        if cells["value"]:
            known[f"{cells['source']}{note}"].append(cells["value"])
        else:
            at = f" after {cells['at']} epochs" if cells["at"] else ""
            what = " ".join(filter(None, (cells["line"].replace("_", " "), cells["weights"]))) or "all values"
            lost.append(what + at)
    told = [f"{', '.join(dict.fromkeys(values))} from {source}" for source, values in known.items()]
    told += [f"lost: {', '.join(dict.fromkeys(lost))}"] if lost else []
    return f"Published: {'; '.join(told)}." if told else ""
