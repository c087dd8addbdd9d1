"""Rows of numbers of different lengths as colours, on one logarithmic scale that stays the same from picture to picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analog_glue.reports.figures import FONT_SIZE, INK, Drawn, drawn, head, new_figure, own_style

MOST_CELLS = 1600  # side by side: a cell of a wider map would be narrower than a dot of the picture
BEYOND, BELOW = "#ffffff", "#f3f1ea"  # where a row has no more cells; a value below the scale


@dataclass(frozen=True)
class HeatMap:
    """Shares by row and cell.

    Args:
        labels: Of the rows, the first on top.
        values: Of the cells of each row; nan is left white.
        ends: Of each row, the cells before which a mark is drawn.
        lowest, highest: Ends of the scale, powers of ten apart. What is below has a colour of its own.
    """

    title: str
    note: str
    x_label: str
    scale_label: str
    labels: Sequence[str]
    values: Sequence[Sequence[float]]
    ends: Sequence[Sequence[int]]
    lowest: float
    highest: float = 1.0


def cells_per_colour(longest: int) -> int:
    """How many neighbouring cells share a colour, that of the largest of them, so that a single one is never lost."""
    return math.ceil(longest / MOST_CELLS)


def heat_figure(chart: HeatMap) -> Drawn:
    """The picture; the same map gives the same bytes with the same matplotlib."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter

    longest = max(map(len, chart.values))
    together = cells_per_colour(longest)
    image = np.full((len(chart.values), math.ceil(longest / together)), np.nan)
    for line, row in zip(image, chart.values, strict=True):
        padded = np.full(math.ceil(len(row) / together) * together, -np.inf)
        padded[: len(row)] = row
        line[: len(padded) // together] = padded.reshape(-1, together).max(axis=1)

    label_width = 0.062 * max(map(len, chart.labels)) + 0.25  # [inch]
    width, height = label_width + 10.2 + 1.0, 0.135 * len(chart.labels) + 1.35
    with own_style():
        figure = new_figure((width, height))
        axes = figure.add_axes((label_width / width, 0.5 / height, 10.0 / width, 1 - 1.15 / height))
        colours = colormaps["plasma_r"].with_extremes(bad=BEYOND, under=BELOW)
        norm = LogNorm(chart.lowest, chart.highest)
        shown = np.where(np.nan_to_num(image, nan=1.0) > 0, image, chart.lowest / 10)  # a logarithm of 0 would be no value
        picture = axes.imshow(
            shown, aspect="auto", interpolation="nearest", cmap=colours, norm=norm, extent=(0, image.shape[1] * together,
                                                                                         len(image) - 0.5, -0.5)
        )  # fmt: skip
        for number in range(1, len(chart.labels)):
            axes.axhline(number - 0.5, color="white", lw=0.8)
        for number, ends in enumerate(chart.ends):
            axes.vlines(list(ends), number - 0.5, number + 0.5, color="white", lw=2.0)
        axes.set_yticks(range(len(chart.labels)), chart.labels, fontsize=FONT_SIZE - 2.5)
        axes.set_xlabel(chart.x_label, color=INK)
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=INK, length=2)
        bar_height = min(height - 1.15, 4.0)  # [inch]
        bar = figure.add_axes(
            ((label_width + 10.15) / width, 1 - (0.65 + bar_height) / height, 0.16 / width, bar_height / height)
        )
        scale = figure.colorbar(picture, cax=bar, extend="min")
        scale.set_label(chart.scale_label, color=INK)
        scale.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        scale.ax.tick_params(colors=INK, labelsize=FONT_SIZE - 1)
        head(figure, chart.title, chart.note)
        return drawn(figure)
