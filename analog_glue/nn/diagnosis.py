"""Where the layers of a chip lose: inputs that DACs clip, outputs that ADCs saturate, codes and conductances left unused.

Nothing is modelled: the chip's forward pass runs over examples, every layer's inputs are looked at as they arrive, behind the
errors of all layers before, and its converters are asked what they make of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from analog_glue.errors import UserError
from analog_glue.nn.calibration import observe
from analog_glue.nn.convert import Chip
from analog_glue.nn.programmed_linear import ProgrammedLinear

MOST_BITS = 16  # of an ADC whose used codes are counted: of a finer one, no number of outputs uses a share worth telling


@dataclass(frozen=True)
class ColumnDiagnosis:
    """What the ADC of each column of one tile answers [columns]."""

    saturated: Tensor  # share of its outputs at the largest code
    rms_code: Tensor  # over full scale


@dataclass(frozen=True)
class TileDiagnosis:
    """One tile of one layer at one time; shares lie in [0, 1], and are None where there is no such converter.

    Args:
        row_block, column_tile: Which tile of the layer, counted from 0.
        t: Time since programming [s].
        vectors: Input vectors that were looked at, padded positions left out.
        clipped: Share of the inputs with |x| > α, the range of their row block, where a scale of inputs has acted; all column
            tiles see the same inputs.
        saturated: Share of the outputs at the ADC's largest code, so beyond half an LSB below its bound.
        saturated_column: That share in the column that has the largest.
        rms_code: Root mean square of the ADC codes over full scale; a sine that just fits has 0.71.
        codes_used: Distinct codes that occurred in any column, among all 2^bits − 1; None for an ADC above `MOST_BITS`, too.
        filled: Largest target conductance of a column over g_max, the mean over columns; 1 with one weight scale per column.
        by_column: The same by column; None where it was read back from a file.
    """

    layer: str
    row_block: int
    column_tile: int
    rows: int
    columns: int
    t: float
    vectors: int
    clipped: float | None
    saturated: float | None
    saturated_column: float | None
    rms_code: float | None
    codes_used: float | None
    filled: float
    by_column: ColumnDiagnosis | None = field(default=None, repr=False, compare=False)


@torch.no_grad()
def diagnose(
    chip: Chip, batches: Iterable[dict[str, Tensor]], times: Sequence[float], compensated: bool = True
) -> list[TileDiagnosis]:
    """Run `batches` through the analog model of `chip` at each of `times` [s], and look at every tile.

    The chip stays at the last of `times`; scores that it gives there are what they were, since a score starts its noise anew.

    Args:
        batches: Keyword arguments of the model; padded positions (attention_mask 0) do not count.
        compensated: Whether the drift compensation acts. It is digital: of the currents of a layer it changes only what
            comes in from the layers before.

    Returns:
        Time by time, the tiles in the order of the model, row blocks before column tiles.

    Raises:
        UserError: a layer was never called by the model.
    """
    batches, found = list(batches), []
    for t in times:
        chip.set_time(t)
        found += _tiles_now(chip, batches, t, compensated)
    return found


def _tiles_now(chip: Chip, batches: list[dict[str, Tensor]], t: float, compensated: bool) -> list[TileDiagnosis]:
    seen = {name: _Seen(layer, t) for name, layer in chip.layers.items()}
    observe(chip.ready_to_score(compensated), chip.layers, batches, lambda name, vectors: seen[name].add(vectors))
    return [tile for one in seen.values() for tile in one.tiles()]


class _Seen:
    """What the converters of a layer did so far."""

    def __init__(self, layer: ProgrammedLinear, t: float) -> None:
        grid, crossbar = layer.grid, layer.hardware.crossbar
        blocks, device = len(grid.row_blocks), layer.input_range.device
        self._layer, self._t, self._calls, self._vectors = layer, t, 0, 0
        self._clipped = torch.zeros(blocks, dtype=torch.int64, device=device)  # inputs
        self._saturated = torch.zeros(blocks, grid.outputs, dtype=torch.int64, device=device)  # outputs
        self._squares = torch.zeros(blocks, grid.outputs, dtype=torch.float64, device=device)  # of codes [LSB²]
        counted = crossbar.adc_bits is not None and crossbar.adc_bits <= MOST_BITS
        codes = 2 * int(crossbar.adc.full_scale) + 1 if counted else 0
        self._used = torch.zeros(blocks, len(grid.column_blocks), codes, dtype=torch.bool, device=device)

    def add(self, x: Tensor) -> None:
        """Look at inputs `x` [vectors, inputs]."""
        layer, grid, adc = self._layer, self._layer.grid, self._layer.hardware.crossbar.adc
        self._vectors += len(x)
        beyond = layer.at_dac(x).abs() > grid.spread_over_rows(layer.input_range)
        self._clipped += torch.stack([part.sum() for part in beyond.split(grid.row_blocks, dim=1)])
        if adc.bits is None:
            return
        _, codes = layer.codes(x, self._t, self._calls)
        self._calls += 1
        self._saturated += adc.clipping(codes).ne(0).sum(dim=1)
        self._squares += codes.square().sum(dim=1, dtype=torch.float64)
        if self._used.numel():
            for block, used in zip(codes, self._used, strict=True):
                for part, of_tile in zip(block.split(grid.column_blocks, dim=1), used, strict=True):
                    of_tile[part.add(adc.full_scale).long()] = True

    def tiles(self) -> list[TileDiagnosis]:
        layer, grid, crossbar, vectors = self._layer, self._layer.grid, self._layer.hardware.crossbar, self._vectors
        if not vectors:
            raise UserError(
                f"Layer `{layer.name}` must be called by the model, but never was. Take it out with `hardware.layers`."
            )
        has_dac, has_adc = crossbar.dac_bits is not None, crossbar.adc_bits is not None
        saturated = (self._saturated.double() / vectors).cpu()
        rms = (self._squares / vectors).sqrt().cpu() / (crossbar.adc.full_scale or 1.0)
        used = self._used.double().mean(dim=2).tolist() if self._used.numel() else None
        filled = layer.filled.double().cpu()
        found = []
        for block, rows in enumerate(grid.row_blocks):
            parts = (of_columns[block].split(grid.column_blocks) for of_columns in (saturated, rms, filled))
            for tile, (beyond, code, full) in enumerate(zip(*parts, strict=True)):
                found.append(
                    TileDiagnosis(
                        layer=layer.name,
                        row_block=block,
                        column_tile=tile,
                        rows=rows,
                        columns=len(full),
                        t=self._t,
                        vectors=vectors,
                        clipped=int(self._clipped[block]) / (vectors * rows) if has_dac else None,
                        saturated=beyond.mean().item() if has_adc else None,
                        saturated_column=beyond.max().item() if has_adc else None,
                        rms_code=code.square().mean().sqrt().item() if has_adc else None,
                        codes_used=used[block][tile] if used else None,
                        filled=full.mean().item(),
                        by_column=ColumnDiagnosis(beyond, code) if has_adc else None,
                    )
                )
        return found
