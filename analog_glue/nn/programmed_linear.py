"""A linear layer whose weights lie on programmed devices: frozen, as they are at one time after programming."""

import torch
from torch import Tensor, nn

from analog_glue.kernels.gaussian import NormalStream
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.noise_clock import NoiseClock, UseCounter
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.seeding import key
from analog_glue.tiles.crossbar import ProgrammedCrossbar
from analog_glue.tiles.drift_compensation import compensation_factor, read_out, target_read_out
from analog_glue.tiles.mapping import TileGrid, in_normalised_blocks, largest_per_column, shared_scale
from analog_glue.tiles.mvm import adc_codes, dac_codes, mvm
from analog_glue.tiles.operands import ReadyWeights, Scaling


class ProgrammedLinear(nn.Module):
    """A linear layer frozen on the devices of one chip. Answers only after `set_time`."""

    def __init__(
        self,
        linear: nn.Linear,
        periphery: LayerPeriphery,
        name: str,
        grid: TileGrid,
        hardware: Hardware,
        computation: Computation,
        chip_key: int,
        clock: NoiseClock,
    ) -> None:
        """Program the weights of `linear` (left unchanged) onto the chip named `chip_key`."""
        super().__init__()
        crossbar, weight = hardware.crossbar, linear.weight.detach()
        self.name, self.grid, self.hardware, self.clock = name, grid, hardware, clock
        self.computation = computation.beside_noise(hardware.noise_floor)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.input_range = periphery.input_range.to(weight)
        self._input_scale = None if periphery.input_scale is None else periphery.input_scale.to(weight)
        self.out_features, self.in_features = weight.shape
        self._chip_key = key(chip_key, name)
        if self._input_scale is not None:
            weight = weight * self._input_scale
        if periphery.weight_range is None:
            largest = largest_per_column.by(computation.kernel, weight.device)(weight, grid)
            scale = shared_scale(largest, grid, crossbar.scale_per)
        else:
            scale = periphery.weight_range.to(weight)
        self._scale = scale if periphery.output_scale is None else scale * periphery.output_scale.to(scale)
        target = in_normalised_blocks.by(computation.kernel, weight.device)(weight, scale, grid)
        self._array = ProgrammedCrossbar.program(target, hardware.device, self._noise("programming"), crossbar.cells_per_weight)
        self._uses = UseCounter()
        self._ready: ReadyWeights | None = None
        self.compensation: Tensor | None = None  # [row blocks, column tiles or columns] of the time that is set
        self.compensated = False
        if hardware.device.drifts:
            if computation.reference == "target":
                self._reference = target_read_out(target, self.grid, crossbar, computation.factor_per)
            else:
                right_after = self._weights(0.0, self._noise("1/f noise at the reference"))
                self._reference = self._read_out(right_after, key(self._chip_key, "reference read-out"))

    def set_time(self, t: float) -> None:
        """Let the devices age to `t` [s] after programming: one frozen draw of 1/f noise, and a compensation read-out."""
        hardware, computation = self.hardware, self.computation
        weights = self._weights(t, self._noise("1/f noise", t))
        self._ready = ReadyWeights.of(weights, self.grid, hardware.crossbar, computation.product, computation.kernel)
        if hardware.device.drifts:
            now = self._read_out(weights, key(self._chip_key, "read-out", t))
            self.compensation = compensation_factor(self._reference, now)
        self.set_input_range(self.input_range)

    def set_input_range(self, input_range: Tensor) -> None:
        """Drive the rows with another range [row blocks]; the devices stay what they are."""
        self.input_range = input_range
        scales = {False: self._scale, True: self._scale}
        if self.compensation is not None:
            per_column = self.computation.factor_per == "column"
            factor = self.compensation if per_column else self.grid.spread_over_columns(self.compensation)
            scales[True] = self._scale * factor
        self._scaling = {
            compensated: Scaling.of(input_range, scale, self.grid, self.hardware.crossbar, self.bias, self._input_scale)
            for compensated, scale in scales.items()
        }

    def at_dac(self, x: Tensor) -> Tensor:
        """Inputs `x` [vectors, inputs] as they reach the DACs: over the layer's scale of inputs."""
        return x if self._input_scale is None else x / self._input_scale

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        ready = self._at_its_time()
        noise_key = self.clock.key(self.name, "product noise", self._uses.next(self.clock))
        flat = x.reshape(-1, self.in_features).float()
        y, _ = mvm(flat, ready, self._scaling[self.compensated], noise_key)
        return y.view(*x.shape[:-1], self.out_features)

    @torch.no_grad()
    def codes(self, x: Tensor, *look: str | float) -> tuple[Tensor, Tensor]:
        """What the converters make of inputs `x` [vectors, inputs], beside the forward pass, of which it changes nothing.

        Args:
            look: Names the noise, which is drawn anew.

        Returns:
            DAC codes [vectors, inputs], and ADC codes [row blocks, vectors, columns] in LSB.
        """
        ready = self._at_its_time()
        driven = dac_codes(x.float(), self._scaling[self.compensated].per_input, ready.crossbar)
        return driven, adc_codes(self.grid.pad_inputs(driven), ready, key(self._chip_key, "look", *look))

    def spread_error(self, x: Tensor) -> Tensor | None:
        """Relative error of the σ of the noise drawn for inputs `x` [vectors, inputs]: [row blocks, vectors, columns].

        None where the variance of the read noise is that of all rows.
        """
        ready = self._at_its_time()
        crossbar, product = ready.crossbar, ready.product
        if not product.estimates_variance:
            return None
        driven = self.grid.pad_inputs(dac_codes(x, self._scaling[self.compensated].per_input, crossbar))
        per_unit = (crossbar.weight_read_noise / (crossbar.dac.full_scale * crossbar.adc.lsb)) ** 2  # [LSB²]
        of_both = (variance(driven).mul_(per_unit) for variance in (product.drawn_variance, product.variance))
        drawn, true = (variance.add_(crossbar.output_noise**2) for variance in of_both)
        return (drawn / true.clamp(min=1e-30)).sqrt_().sub_(1)

    @property
    def filled(self) -> Tensor:
        """The largest conductance that each column was to be programmed to, over g_max: [row blocks, columns]."""
        return self._array.active.g_target.amax(dim=2) / self.hardware.device.g_max

    def _at_its_time(self) -> ReadyWeights:
        if self._ready is None:
            raise RuntimeError(f"Layer `{self.name}` was programmed, but no time was set. Call `set_time` on its chip first.")
        return self._ready

    def _read_out(self, weights: Tensor, noise_key: int) -> Tensor:
        computation = self.computation
        how = computation.kernel, computation.read_out, computation.factor_per
        return read_out(weights, self.grid, self.hardware.crossbar, noise_key, *how)

    def _weights(self, t: float, noise: NormalStream) -> Tensor:
        """Normalised weights [row blocks, columns, rows] at `t` [s], as they act at the ends of the wires."""
        return self._array.weights_behind(t, noise, self.grid, self.hardware.crossbar, self.computation.kernel)

    def _noise(self, *purpose: str | float) -> NormalStream:
        return NormalStream(self._chip_key, *purpose, kernel=self.computation.kernel)
