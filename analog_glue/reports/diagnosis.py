"""What a diagnosis shows (nn/diagnosis.py): a table of layers, what to do about them, `tiles.csv`, colours for columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analog_glue.reports.figures import Drawn, time_label
from analog_glue.reports.grids import Grid, as_markdown, as_text
from analog_glue.reports.heat_map import HeatMap, cells_per_colour, heat_figure
from analog_glue.runs.cells import read_cells

if TYPE_CHECKING:
    from analog_glue.nn.diagnosis import ColumnDiagnosis, TileDiagnosis
    from analog_glue.tiles.crossbar import Crossbar

TILES_FILE = "tiles.csv"
MOST_LINES = 20  # of the table at the end of the command
# From here on something stands out, as a share of the inputs of a layer and of the outputs of a column.
CLIPS, SATURATES = 0.001, 0.01
QUIET = 2.0  # codes whose root mean square is below so many times that of what the ADC adds itself


@dataclass(frozen=True)
class Subject:
    """What was diagnosed, in words."""

    run: str
    noise: str
    tile: str
    crossbar: Crossbar
    chip: int
    compensated: bool
    examples: str

    @property
    def title(self) -> str:
        return f"{self.run}: {self.noise} on {self.tile}"

    @property
    def chip_name(self) -> str:
        return f"chip {self.chip}".replace("-", "−")

    @property
    def adc_noise(self) -> float | None:
        """Root mean square of output noise and rounding [LSB], the codes that nothing would give; None without an ADC."""
        return None if self.crossbar.adc_bits is None else math.sqrt(self.crossbar.output_noise**2 + 1 / 12)


@dataclass(frozen=True)
class LayerLine:
    """All tiles of a layer together, as of `TileDiagnosis`: shares of all its inputs and outputs, means over tiles."""

    layer: str
    tiles: int
    clipped: list[float | None]  # at each time
    saturated: list[float | None]
    saturated_column: list[float | None]
    rms_code: list[float | None]
    codes_used: list[float | None]
    filled: float

    @property
    def lost(self) -> float:
        """What the table is sorted by: clipped and saturated shares together, at the worst time."""
        return max((a or 0.0) + (b or 0.0) for a, b in zip(self.clipped, self.saturated, strict=True))


def records(tiles: Sequence[TileDiagnosis]) -> list[dict[str, Any]]:
    """The lines of `tiles.csv`."""
    return [{f.name: getattr(tile, f.name) for f in fields(tile) if f.name != "by_column"} for tile in tiles]


def read_tiles(folder: Path) -> list[TileDiagnosis]:
    """What `tiles.csv` in `folder` says, without columns; nothing where there is none."""
    from analog_glue.nn.diagnosis import TileDiagnosis

    kinds = {field.name: str(field.type) for field in fields(TileDiagnosis)}

    def value(cell: str, kind: type | str) -> Any:
        if cell == "":
            return None
        return str(cell) if "str" in str(kind) else int(cell) if "int" in str(kind) else float(cell)

    return [
        TileDiagnosis(**{name: value(cell, kinds[name]) for name, cell in cells.items()})
        for cells in read_cells(folder / TILES_FILE)
    ]


def times_of(tiles: Sequence[TileDiagnosis]) -> list[float]:
    return sorted({tile.t for tile in tiles})


def layer_lines(tiles: Sequence[TileDiagnosis]) -> list[LayerLine]:
    """A line for each layer, the one that loses most first, then the one whose ADCs are used least."""
    lines = []
    for layer in dict.fromkeys(tile.layer for tile in tiles):
        by_time = [[tile for tile in tiles if (tile.layer, tile.t) == (layer, t)] for t in times_of(tiles)]
        one = by_time[0]
        rms = [_mean(own, lambda tile: tile.rms_code and tile.rms_code**2, by="columns") for own in by_time]
        worst = [[tile.saturated_column for tile in own if tile.saturated_column is not None] for own in by_time]
        line = LayerLine(
            layer,
            len(one),
            clipped=[_mean(own, lambda tile: tile.clipped, by="rows") for own in by_time],
            saturated=[_mean(own, lambda tile: tile.saturated, by="columns") for own in by_time],
            saturated_column=[max(own, default=None) for own in worst],
            rms_code=[None if square is None else math.sqrt(square) for square in rms],
            codes_used=[_mean(own, lambda tile: tile.codes_used) for own in by_time],
            filled=_mean(one, lambda tile: tile.filled, by="columns") or 0.0,
        )
        lines.append(line)
    return sorted(lines, key=lambda line: (-line.lost, line.rms_code[-1] or 0.0))


def _mean(tiles: Sequence[TileDiagnosis], value: Callable[[TileDiagnosis], float | None], by: str = "") -> float | None:
    """Mean over tiles, weighted `by` their rows or columns; None where a tile has none."""
    values = [value(tile) for tile in tiles]
    weights = [getattr(tile, by) if by else 1 for tile in tiles]
    known = [(v, w) for v, w in zip(values, weights, strict=True) if v is not None]
    return sum(v * w for v, w in known) / sum(weights) if len(known) == len(values) else None


def layer_grid(tiles: Sequence[TileDiagnosis], subject: Subject, most: int | None = None) -> Grid:
    """The layers, the worst first; at most so many lines."""
    lines, bits = layer_lines(tiles), subject.crossbar.adc_bits
    times = " → ".join(time_label(t) for t in times_of(tiles))
    header = ["layer", "tiles", "inputs clipped", "outputs saturated", "of worst column", "rms code", "codes used", "g filled"]

    def cell(shares: Sequence[float | None], decimals: int, none: str) -> str:
        said = [f"{100 * share:.{decimals}f}" for share in shares if share is not None]
        return none if not said else said[0] if len(set(said)) == 1 else " → ".join(said)

    rows = [
        [
            line.layer,
            str(line.tiles),
            cell(line.clipped, 3, "no DAC"),
            cell(line.saturated, 3, "no ADC"),
            cell(line.saturated_column, 2, "no ADC"),
            cell(line.rms_code, 2, "no ADC"),
            cell(line.codes_used, 1, "no ADC" if bits is None else "too fine"),
            f"{100 * line.filled:.1f}",
        ]
        for line in lines[:most]
    ]
    left_out = len(lines) - len(rows)
    vectors = max(tile.vectors for tile in tiles)
    codes = "" if bits is None else f" of {2**bits - 1:,}"
    compensation = "drift compensated" if subject.compensated else "drift not compensated"
    note = (
        f"At {times} after programming where two numbers stand. {subject.chip_name.capitalize()}, {compensation}, "
        f"{subject.examples}, up to {vectors:,} input vectors a layer. Clipped: |x| beyond the DAC's range. Saturated: at the "
        f"largest code of the ADC. rms code: over its full scale. Codes used: distinct ones{codes}, mean over tiles. "
        "g filled: largest target conductance of a column over g_max, mean over columns."
    )
    note += f" {left_out} more layers, which lose less, stand in diagnosis.md." if left_out else ""
    return Grid(f"Diagnosis of {subject.title}, in %", note, header, rows)


def findings(tiles: Sequence[TileDiagnosis], subject: Subject) -> list[str]:
    """What stands out, and what to do about it: a sentence each."""
    found, times = [], times_of(tiles)
    column = max(tiles, key=lambda tile: tile.saturated_column or 0.0)
    if (column.saturated_column or 0.0) > SATURATES:
        found.append(
            f"ADCs saturate: {_tile(column)} gives its largest code in {100 * (column.saturated_column or 0.0):.1f} % of the "
            f"outputs of one column after {time_label(column.t)}. Map its weights to less of the conductance range, widen its "
            "input range, or raise `tile.adc_bound`; training=hardware_aware learns both."
        )
    clips = max(tiles, key=lambda tile: tile.clipped or 0.0)
    if (clips.clipped or 0.0) > CLIPS:
        found.append(
            f"DACs clip: row block {clips.row_block + 1} of `{clips.layer}` cuts off {100 * (clips.clipped or 0.0):.2f} % of "
            f"its inputs after {time_label(clips.t)}. Widen its input range: raise `hardware.calibration.percentile`, or train "
            "with the ranges (training=hardware_aware)."
        )
    if (noise := subject.adc_noise) is not None:
        limit, full_scale = QUIET * noise, subject.crossbar.adc.full_scale
        by_time = [[tile for tile in tiles if tile.t == t] for t in times]
        quiet = [sum((tile.rms_code or 0.0) * full_scale < limit for tile in own) for own in by_time]
        if quiet[-1]:
            counts = " and ".join(f"{n} of {len(by_time[0])} after {time_label(t)}" for n, t in zip(quiet, times, strict=True))
            scale = "" if subject.crossbar.scale_per == "column" else " (tile.scale_per=column)"
            found.append(
                f"ADCs are hardly used: on {counts} the rms code is below {limit:.2g} LSB, {QUIET:g} times what output noise "
                f"and rounding give by themselves. Fill more of the conductance range{scale}, narrow the input range, or lower "
                "`tile.adc_bound`."
            )
    nothing = "Nothing stands out: "
    nothing += (
        f"no layer clips more than {100 * CLIPS:g} % of its inputs, no column saturates in more than {100 * SATURATES:g} % "
    )
    return found or [nothing + "of its outputs, and every tile's codes stand clear of the noise of its ADC."]


def _tile(tile: TileDiagnosis) -> str:
    return f"tile {tile.row_block + 1}/{tile.column_tile + 1} (row block/column tile) of `{tile.layer}`"


def terminal(tiles: Sequence[TileDiagnosis], subject: Subject) -> str:
    """The table and the sentences for the end of the command."""
    return "\n".join([as_text(layer_grid(tiles, subject, MOST_LINES)), *findings(tiles, subject)])


def page(tiles: Sequence[TileDiagnosis], subject: Subject, pictures: Sequence[str]) -> str:
    """diagnosis.md: sentences, pictures by name, the table of all layers."""
    parts = ["# Diagnosis", *findings(tiles, subject), *(f"![{name}]({name}.png)" for name in pictures)]
    parts += [as_markdown(layer_grid(tiles, subject)), f"Each tile at each time, as shares of 1: [{TILES_FILE}]({TILES_FILE})."]
    return "\n\n".join(parts) + "\n"


def pictures(tiles: Sequence[TileDiagnosis], subject: Subject) -> dict[str, Drawn]:
    """Name → layer × column in colours at the first time, when currents are largest; of saturation only where there is any."""
    first = [tile for tile in tiles if tile.t == times_of(tiles)[0]]
    if subject.crossbar.adc_bits is None:
        return {}
    drawn = {}
    if any(tile.saturated for tile in first):
        drawn["columns-saturated"] = _map(
            first, subject, "Outputs that saturate the ADC", "share of its outputs", 1e-4, lambda columns: columns.saturated
        )
    drawn["columns-rms"] = _map(
        first, subject, "Use of the ADC", "rms code over full scale", 1e-3, lambda columns: columns.rms_code
    )
    return drawn


def _map(
    tiles: Sequence[TileDiagnosis],
    subject: Subject,
    what: str,
    scale: str,
    lowest: float,
    of: Callable[[ColumnDiagnosis], Any],
) -> Drawn:
    by_row: dict[tuple[str, int], list[TileDiagnosis]] = {}
    for tile in tiles:
        by_row.setdefault((tile.layer, tile.row_block), []).append(tile)
    blocks = {layer: block + 1 for layer, block in by_row}
    labels, values, ends = [], [], []
    for (layer, block), own in by_row.items():
        part = f" {block + 1}/{blocks[layer]}" if blocks[layer] > 1 else ""
        labels.append(layer + part)
        values.append([value for tile in own if tile.by_column is not None for value in of(tile.by_column).tolist()])
        sizes = [tile.columns for tile in own]
        ends.append([sum(sizes[:i]) for i in range(1, len(sizes))])
    together = cells_per_colour(max(map(len, values)))
    neighbours = f"; the largest of {together} neighbouring columns" if together > 1 else ""
    note = (
        f"{subject.title}; {time_label(tiles[0].t)} after programming{neighbours}. Layers with their row blocks from top to "
        "bottom; gaps in a row divide its column tiles."
    )
    return heat_figure(HeatMap(what, note, "column (output of the layer)", scale, labels, values, ends, lowest))
