"""A FactSheet as documents: Markdown, JSON and one HTML file that needs no other. Names of a run are escaped in all of them."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from analog_glue.reports.factsheet import Fact, FactSheet, Part
from analog_glue.reports.grids import Grid, as_markdown, in_markdown

SCHEMA = 1  # of the JSON


def as_json(sheet: FactSheet) -> str:
    """The whole tree; nan and infinities, which JSON does not know, become null."""
    return json.dumps({"schema": SCHEMA, **_plain(sheet)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def as_page(sheet: FactSheet) -> str:
    """Markdown."""
    lines = [f"# {in_markdown(sheet.title)}", ""]
    for number, part in enumerate(sheet.parts, 1):
        lines += _part_in_markdown(part, 2, f"{number}. ")
    return "\n".join(lines).rstrip() + "\n"


def _part_in_markdown(part: Part, depth: int, number: str = "") -> list[str]:
    lines = [f"{'#' * depth} {number}{part.heading}", ""]
    for paragraph in part.text:
        lines += [in_markdown(paragraph), ""]
    for fact in part.facts:
        about = "; ".join(filter(None, (_origin(fact), fact.source)))
        lines.append(in_markdown(f"- {fact.name}: {fact.text}" + (f" ({about})" if about else "")))
    lines += [""] if part.facts else []
    for table in part.tables:
        lines += [as_markdown(table).replace("## ", f"{'#' * (depth + 1)} ", 1), ""]
    for inner in part.parts:
        lines += _part_in_markdown(inner, depth + 1)
    return lines


def _origin(fact: Fact) -> str:
    """What has to be said of where a fact comes from."""
    return fact.origin if fact.origin in ORIGINS and fact.origin != fact.text else ""


ORIGINS = ("given", "scaled", "measured", "unknown")  # that are said; the others are what a reader expects

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5b6470; --line: #d7dce2; --back: #ffffff; --shade: #f4f6f8;
  --mark: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa4b0; --line: #39414b; --back: #14171b; --shade: #1d2228; --mark: #7db8f5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .4rem; }
p.about, figcaption, td.from { color: var(--soft); }
nav { columns: 16rem; margin: 1rem 0; font-size: .92rem; }
nav a { display: block; color: var(--mark); text-decoration: none; }
.answer { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.answer div { background: var(--shade); border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem; }
.answer span { display: block; color: var(--soft); font-size: .85rem; }
.answer b { font-size: 1.05rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child, table.facts td, table.words td, table.words th { text-align: left; }
table.facts td:first-child { color: var(--soft); width: 16rem; }
caption { text-align: left; font-weight: 600; padding: .8rem 0 .2rem; }
.note { color: var(--soft); font-size: .85rem; margin: .3rem 0 1rem; }
.origin { border: 1px solid var(--line); border-radius: .3rem; padding: 0 .3rem; font-size: .75rem; color: var(--soft); }
figure { margin: 1rem 0; } figure img { max-width: 100%; background: #fff; border-radius: .3rem; }
details > summary { cursor: pointer; color: var(--mark); margin: .6rem 0; }
@media print { body { max-width: none; font-size: 11px; } nav { display: none; } tr { break-inside: avoid; } }
"""
LONG = 30  # lines from which a table waits behind a click


def as_html(sheet: FactSheet, answer: Sequence[tuple[str, str]], pictures: Sequence[tuple[str, bytes]] = ()) -> str:
    """One file: style and pictures inside, no script, nothing loaded from elsewhere.

    Args:
        answer: What stands in the first screen: name and text.
        pictures: Title and SVG, put under performance metrics.
    """
    safe = html.escape
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{safe(sheet.title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{safe(sheet.title)}</h1>",
        '<div class="answer">',
        *(f"<div><span>{safe(name)}</span><b>{safe(text)}</b></div>" for name, text in answer),
        "</div><nav>",
        *(f'<a href="#{safe(part.key)}">{number}. {safe(part.heading)}</a>' for number, part in enumerate(sheet.parts, 1)),
        "</nav>",
    ]
    for number, part in enumerate(sheet.parts, 1):
        parts += _part_in_html(part, 2, f"{number}. ", pictures if part.key == "performance" else ())
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _part_in_html(part: Part, depth: int, number: str, pictures: Sequence[tuple[str, bytes]]) -> list[str]:
    safe = html.escape
    lines = [f'<h{depth} id="{safe(part.key)}">{number}{safe(part.heading)}</h{depth}>']
    lines += [f"<p>{safe(paragraph)}</p>" for paragraph in part.text]
    if part.facts:
        lines.append('<div class="scroll"><table class="facts">')
        for fact in part.facts:
            origin = f' <span class="origin">{safe(said)}</span>' if (said := _origin(fact)) else ""
            cells = f"<td>{safe(fact.name)}</td><td>{safe(fact.text)}{origin}</td>"
            lines.append(f'<tr>{cells}<td class="from">{safe(fact.source)}</td></tr>')
        lines.append("</table></div>")
    for title, svg in pictures:
        coded = base64.b64encode(svg).decode()  # as an image, which runs no script whatever it holds
        lines.append(f'<figure><img alt="{safe(title)}" src="data:image/svg+xml;base64,{coded}"></figure>')
    for table in part.tables:
        lines += _table(table)
    for inner in part.parts:
        lines += _part_in_html(inner, min(depth + 1, 4), "", ())
    return lines


def _table(grid: Grid) -> list[str]:
    safe = html.escape
    words = ' class="words"' if "why they differ" in grid.header else ""
    lines = [f'<div class="scroll"><table{words}><caption>{safe(grid.title)}</caption>']
    lines.append(f"<thead><tr>{''.join(f'<th>{safe(cell)}</th>' for cell in grid.header)}</tr></thead><tbody>")
    lines += [f"<tr>{''.join(f'<td>{safe(cell)}</td>' for cell in cells)}</tr>" for cells in grid.rows]
    legend = "<br>".join(safe(line) for line in grid.legend)
    note = f"{legend}{'<br>' if legend else ''}{safe(grid.note)}"
    lines.append(f'</tbody></table></div><p class="note">{note}</p>')
    if len(grid.rows) < LONG:
        return lines
    return [f"<details><summary>{safe(grid.title)}: {len(grid.rows)} lines</summary>", *lines, "</details>"]
