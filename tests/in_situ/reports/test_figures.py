"""Figures of lines: the same bytes every time, and no text over the edge of the page."""

import io

import matplotlib.image
import pytest

from analog_glue.reports.figures import Chart, Level, Line, line_figure


@pytest.mark.slow
def test_a_figure_of_lines_is_a_png_with_fixed_bytes():
    lines = [Line("a", [1, 2], [0.5, 0.4], [None, 0.1]), Line("law", [1, 2], [0.5, 0.3], [], law=True)]
    charts = [Chart("one", "x", "y", lines, [Level("level", 0.2)], log_x=True, log_y=True), Chart("two", "x", "y", lines[:1])]
    first = line_figure(charts, "title", "note")
    assert first.png.startswith(b"\x89PNG") and line_figure(charts, "title", "note") == first


@pytest.mark.slow
def test_no_text_of_a_figure_runs_over_the_edge_of_the_page():
    long = "soft bounds TTv2, dw_min 0.1, output_noise 0.006, transfer_decay_every 2, transfer_rate 0.004"
    lines = [Line(f"{long} {i}", [1, 2], [0.5, 0.4], [None, None]) for i in range(9)]
    chart = Chart("one", "epoch", "y", lines, [Level("level", 0.45, told="0.45")])
    for charts in ([chart], [chart, chart]):
        png = line_figure(charts, f"Figure 6: {long} {long}", f"Seeds a curve: {long} {long}").png
        pixels = matplotlib.image.imread(io.BytesIO(png))
        assert (pixels[:, -3:, :3] == 1).all()  # white
