"""Global drift compensation: one digital factor per tile (Spoon et al. 2021, Sec. 2.2.1).

Right after programming the one-hot inputs of a tile are run through its own non-ideal products and S_ref, the mean absolute
output, is kept; at time t the same read-out gives S_t. The digital scale of the tile is multiplied by S_ref / S_t, which
then stays constant over the test set. Both read-outs carry the noise of the periphery, whose floor biases the factor low.

Two extensions: S_ref may be what exact weights without wires would read instead (`target_read_out`), so that what wires and
programming take of the mean comes back, too; and every column of a tile may have a factor of its own, from the same read-outs.
"""

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import TileGrid
from analog_glue.tiles.one_hot import one_hot_currents, one_hot_outputs, one_hot_sums

FLOOR = 1e-4  # [full-on cells] of a read-out, so that an all-zero tile is not divided by zero


def read_out(
    blocks: Tensor,
    grid: TileGrid,
    crossbar: Crossbar,
    noise_key: int,
    kernel: str = "reference",
    how: str = "measured",
    per: str = "tile",
) -> Tensor:
    """S of every tile, the mean |output| over its one-hot inputs: [row blocks, column tiles], at least `FLOOR`.

    Args:
        blocks: Normalised weights at the time of the read-out [row blocks, columns, rows].
        noise_key: Names the noise of the read-out.
        how: "measured" through the tile's own noise and converters; "expected" takes the mean over that noise instead.
        per: "tile", or "column": S of every column of every tile [row blocks, columns].
    """
    if how == "expected":
        sums = expected_magnitudes(blocks, grid, crossbar).sum(dim=2)
    else:
        sums = one_hot_sums.by(kernel, blocks.device)(blocks, grid, crossbar, noise_key, kernel)
    per_column = sums / grid.row_counts(blocks.device).unsqueeze(1)
    return (per_column if per == "column" else grid.mean_over_tiles(per_column)).clamp_(min=FLOOR)


def target_read_out(targets: Tensor, grid: TileGrid, crossbar: Crossbar, per: str = "tile") -> Tensor:
    """S of tiles that hold `targets` exactly, without wires: what is known on paper. Shapes as of `read_out`."""
    return read_out(targets, grid, replace(crossbar, ir_drop=0.0), 0, how="expected", per=per)


def expected_magnitudes(blocks: Tensor, grid: TileGrid, crossbar: Crossbar) -> Tensor:
    """E|output| for all one-hot inputs, in units of a full-on cell, of the shape of `blocks`; padded rows answer 0.

    A current u [LSB] with Gaussian noise of variance s² = σ_out² + σ_w² |w| is rounded to a code k by the ADC:

        E|k| = Σ_{n ≥ 0} P(|u + s ξ| > n + ½) = Σ_{n ≥ 0} Φ((u − n − ½) / s) + Φ((−u − n − ½) / s)

    Since |w| = |u| LSB, this is a function of |u| alone, tabulated as far as the noise can change a sign; beyond, E|k| = |u|
    to 2·10⁻³ LSB. An ideal ADC leaves the folded mean s √(2/π) exp(−u² / 2s²) + u erf(u / √2 s); so does one whose steps are
    far smaller than its noise, but for the 1/12 LSB² that rounding adds to s².
    """
    if not crossbar.is_noisy:
        return one_hot_outputs(blocks, grid, crossbar, noise_key=0).abs_()
    current = one_hot_currents(blocks, grid, crossbar).abs_()
    if crossbar.adc_bits is None or crossbar.output_noise > SMOOTH:
        lsb = crossbar.adc.lsb
        fixed = 0.0 if crossbar.adc_bits is None else crossbar.output_noise**2 + 1 / 12
        s = (current * (crossbar.weight_read_noise**2 / lsb)).add_(fixed).sqrt_().clamp_(min=1e-12)
        ratio = current / s
        expected = torch.erf(ratio / math.sqrt(2)).mul_(current)
        expected.addcmul_(s, ratio.square_().mul_(-0.5).exp_(), value=math.sqrt(2 / math.pi)).mul_(lsb)
    else:
        table = _expected_codes(crossbar).to(current)
        end = (len(table) - 1) / TABLE_STEPS
        place = (current * TABLE_STEPS).clamp_(max=len(table) - 1)
        left = place.long().clamp_(max=len(table) - 2)
        tabulated = table[left].addcmul_(table[left + 1] - table[left], place.sub_(left))
        expected = torch.where(current < end, tabulated, current).mul_(crossbar.adc.lsb)
    for block, rows in zip(expected, grid.row_blocks, strict=True):
        block[:, rows:] = 0
    return expected


TABLE_STEPS = 32  # per LSB
SMOOTH = 8.0  # [LSB] of output noise, in which the steps of an ADC vanish


@cache
def _expected_codes(crossbar: Crossbar) -> Tensor:
    """E|k| at |u| = 0, 1/32, 2/32 … LSB, up to where u is more than five standard deviations of its noise, at least 16."""
    fixed, growing = crossbar.output_noise**2, crossbar.weight_read_noise**2 / crossbar.adc.lsb  # s² = fixed + growing · u
    end = math.ceil(max(16, 5 * math.sqrt(fixed) + 25 * growing))
    u = torch.arange(end * TABLE_STEPS + 1, dtype=torch.float64) / TABLE_STEPS
    s = (fixed + growing * u).sqrt().clamp(min=1e-9)
    steps = torch.arange(0.5, 3.0 * end, dtype=torch.float64).unsqueeze(1)
    return (torch.special.ndtr((u - steps) / s) + torch.special.ndtr((-u - steps) / s)).sum(dim=0)


def compensation_factor(reference: Tensor, now: Tensor) -> Tensor:
    """S_ref / S_t, of the shape of both."""
    return reference / now
