"""Linear layers on tiles: `AnalogLinear` trains with noise, `ProgrammedLinear` is frozen on devices."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from analog_glue.nn.hardware import Hardware
from analog_glue.nn.noise_clock import NoiseClock, UseCounter
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.seeding import generator, key
from analog_glue.tiles.crossbar import ProgrammedCrossbar
from analog_glue.tiles.drift_compensation import compensation_factor, read_out
from analog_glue.tiles.mapping import TileGrid, normalised, weight_scale
from analog_glue.tiles.mvm import ReadyWeights, dac_codes, mvm

RANGE_RULES = ("clip", "toolkit")


@dataclass(frozen=True)
class Periphery:
    """The digital numbers beside a layer's tiles: `input_range` α [row blocks], `output_scale` [row blocks, outputs]."""

    input_range: Tensor
    output_scale: Tensor | None = None  # None: 1 everywhere


class AnalogLinear(nn.Linear):
    """A linear layer whose forward pass runs through tiles with noise; its backward pass is exact.

    `weight` and `bias` are the very parameters of the layer it replaces: real units, plain names, so any optimizer means what
    it says and a plain reload works. Normalisation happens inside the forward pass. Per row block r and column i

        y_i = Σ_r output_scale[r, i] · scale[r, i] · α_r · ADC( DAC(x / α_r) · noisy(w / scale)ᵀ ) + bias_i

    with learned `input_range` α [row blocks] and `output_scale` [row blocks, outputs]. The learned offset of the columns is the
    bias: offsets of the row blocks only ever act through their sum, which is added digitally after the ADCs.

    A new layer is digital; `on_tiles` puts it on tiles once its input range is calibrated. Then weight noise acts in training
    mode, the noise of the periphery always.
    """

    def __init__(
        self,
        linear: nn.Linear,
        name: str,
        hardware: Hardware,
        weight_noise: WeightNoise,
        clock: NoiseClock,
        range_rule: str = "clip",
        range_decay: float = 0.0,
        shared: bool = False,
    ) -> None:
        """
        Args:
            linear: The layer to replace; its parameters are shared. A missing bias is added, as the learned offset.
            name: Its name in the model, for the noise keys.
            range_rule: Gradient of α. "clip": the derivative of clipping. "toolkit": the heuristic of IBM's toolkit.
            range_decay: Adds range_decay · α to that gradient while more than 95 % of the inputs lie inside the range.
            shared: Whether the model calls this layer several times in one forward pass.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features)) if linear.bias is None else linear.bias
        self.name = name
        self.hardware = hardware
        self.grid = hardware.crossbar.grid(self.out_features, self.in_features)
        blocks = len(self.grid.row_blocks)
        self.log_input_range = nn.Parameter(self.weight.new_zeros(blocks))
        self.output_scale = nn.Parameter(self.weight.new_ones(blocks, self.out_features))
        self.on_tiles = False
        self.weight_noise = weight_noise
        self.clock = clock
        self.range_rule = range_rule
        self.range_decay = range_decay
        self._uses = UseCounter() if shared else None

    def forward(self, x: Tensor) -> Tensor:
        if not self.on_tiles:
            return nn.functional.linear(x, self.weight, self.bias)
        use = 0 if self._uses is None else self._uses.next(self.clock)
        y = _AnalogProduct.apply(
            x.reshape(-1, self.in_features),
            self.weight,
            self.bias,
            self.log_input_range,
            self.output_scale,
            self,
            use,
            torch.is_grad_enabled(),
        )
        return y.view(*x.shape[:-1], self.out_features)

    @property
    def input_range(self) -> Tensor:
        """α [row blocks], in units of the layer's input. Its logarithm is the parameter, so that a step is a relative one."""
        return self.log_input_range.detach().exp()

    @input_range.setter
    def input_range(self, value: Tensor) -> None:
        self.log_input_range.data.copy_(value.log())

    def normalised_weights(self) -> tuple[Tensor, Tensor]:
        """Weights in units of a full-on cell [row blocks, outputs, rows], and that unit [row blocks, outputs]."""
        blocks = self.grid.to_blocks(self.weight.detach())
        scale = weight_scale(blocks, self.grid, self.hardware.crossbar.scale_per)
        return normalised(blocks, scale), scale

    def effective_weight(self) -> Tensor:
        """The weight [outputs, inputs] that the layer has without noise and converters: with the learned output scale."""
        return effective_weight(self.weight.detach(), self.output_scale.detach(), self.grid)


def effective_weight(weight: Tensor, output_scale: Tensor, grid: TileGrid) -> Tensor:
    """Weight [outputs, inputs] with the learned `output_scale` [row blocks, outputs] multiplied in."""
    return grid.from_blocks(grid.to_blocks(weight).mul_(output_scale.unsqueeze(2)))


class _AnalogProduct(torch.autograd.Function):
    """Noisy forward pass; hand-written backward pass.

    Rounding and noise are passed straight through; where a converter clips, the gradient goes to what sets the clipping level
    instead: the input range for the DAC (∂clip(x, ±α)/∂α = ±1), and α and the digital scale for the ADC, whose bound is worth
    α · scale · adc_bound at the output. Saved for backward: 8-bit input codes, one byte per input and per ADC output that say
    what was clipped, and the weights that the forward pass used.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        log_input_range: Tensor,
        output_scale: Tensor,
        layer: AnalogLinear,
        use: int,
        keep_for_backward: bool,
    ) -> Tensor:
        hardware, grid = layer.hardware, layer.grid
        ctx.compute_dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            input_range = log_input_range.exp()
            weights, scale = layer.normalised_weights()
            if layer.training and layer.weight_noise.is_on:
                layer.weight_noise.add_(weights, hardware.device, layer.clock.key(layer.name, "weight noise"))
            digital_scale = scale.mul_(output_scale)
            codes = dac_codes(x, grid, hardware.crossbar, input_range)
            ready = ReadyWeights.of(weights, grid, hardware.crossbar, hardware.product)
            saturated = _saturation_buffer(len(x), layer) if keep_for_backward else None
            noise_key = layer.clock.key(layer.name, "product noise", use)
            y = mvm(codes, ready, input_range, digital_scale, noise_key, saturated).add_(bias)
            if keep_for_backward:
                bits = hardware.crossbar.dac_bits
                clipped = None if bits is None else x.abs() > grid.spread_over_rows(input_range)
                weights.mul_(digital_scale.unsqueeze(2))
                ctx.save_for_backward(codes, clipped, saturated, weights, input_range, output_scale, digital_scale)
                ctx.layer = layer
        return y if ctx.compute_dtype is None else y.to(ctx.compute_dtype)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        codes, clipped, saturated, used, input_range, output_scale, digital_scale = ctx.saved_tensors
        layer: AnalogLinear = ctx.layer
        grid, crossbar = layer.grid, layer.hardware.crossbar
        compute = ctx.compute_dtype or torch.float32
        grad_y = grad_y.float()
        grad_bias = grad_y.sum(dim=0)
        # What reaches the currents of every row block: nothing where its ADC saturates.
        per_block = grad_y.unsqueeze(0).expand(len(used), -1, -1)
        grad_bound = torch.zeros_like(output_scale)
        if saturated is not None:
            clipping = saturated.float()
            grad_bound = (clipping * grad_y).sum(dim=1)
            per_block = clipping.abs_().neg_().add_(1).mul_(grad_y)
        per_block = per_block.to(compute)

        grad_x = grid.unpad_inputs(torch.bmm(per_block, used.to(compute)).float().transpose(0, 1))
        grad_log_range = torch.zeros_like(input_range)
        if clipped is not None:
            grad_log_range = _range_gradient(grad_x, codes, clipped, input_range, layer)
            grad_x = grad_x.masked_fill_(clipped, 0)
        x_quantised = codes.float().mul_(grid.spread_over_rows(input_range) / crossbar.dac.full_scale)
        x_blocks = grid.pad_inputs(x_quantised).to(compute).view(len(codes), len(used), -1)
        grad_used = torch.bmm(per_block.transpose(1, 2), x_blocks.transpose(0, 1)).float()

        # ∂L/∂used · used is ∂L/∂log(output scale), because what is used is proportional to it; the bound of an ADC is
        # proportional to the output scale and to the input range.
        bound = digital_scale * input_range.unsqueeze(1) * crossbar.adc_bound
        grad_log_bound = grad_bound.mul_(bound)
        grad_output_scale = (grad_used * used).sum(dim=2).add_(grad_log_bound).div_(output_scale)
        if layer.range_rule == "clip":
            grad_log_range.add_(grad_log_bound.sum(dim=1))
        grad_weight = grid.from_blocks(grad_used.mul_(output_scale.unsqueeze(2)))
        return grad_x, grad_weight, grad_bias, grad_log_range, grad_output_scale, None, None, None


def _saturation_buffer(vectors: int, layer: AnalogLinear) -> Tensor | None:
    """Where `mvm` notes the ADCs that clip, −1, 0 or +1: int8 [row blocks, vectors, outputs]; None for ideal ADCs."""
    if layer.hardware.crossbar.adc_bits is None:
        return None
    shape = (len(layer.grid.row_blocks), vectors, layer.out_features)
    return torch.empty(shape, dtype=torch.int8, device=layer.weight.device)


def _range_gradient(grad_x: Tensor, codes: Tensor, clipped: Tensor, input_range: Tensor, layer: AnalogLinear) -> Tensor:
    """∂L/∂log α [row blocks] from the gradient at the unclipped inputs.

    clip:     α Σ over clipped inputs of ∂L/∂x · sign(x), the derivative of clip(x, −α, α).
    toolkit:  α³ (Σ over x ≥ α of min(∂L/∂x, 0) − Σ over x ≤ −α of max(∂L/∂x, 0)): the heuristic of IBM's toolkit, not a
              derivative. It is never positive, so data can only widen the range and only the decay narrows it.
    """
    outward = grad_x * codes.sign()
    if layer.range_rule == "toolkit":
        outward = outward.clamp_(max=0)
    per_input = outward.mul_(clipped).sum(dim=0)
    sizes = list(layer.grid.row_blocks)
    gradient = torch.stack([part.sum() for part in per_input.split(sizes)]).mul_(input_range)
    if layer.range_rule == "toolkit":
        gradient.mul_(input_range.square())
    if layer.range_decay > 0:
        inside = 1 - torch.stack([part.float().mean() for part in clipped.split(sizes, dim=1)])
        gradient.addcmul_(input_range.square(), (inside > 0.95).float(), value=layer.range_decay)
    return gradient


class ProgrammedLinear(nn.Module):
    """A linear layer frozen on the devices of one chip. Answers only after `set_time`."""

    def __init__(
        self,
        linear: nn.Linear,
        periphery: Periphery,
        name: str,
        hardware: Hardware,
        chip_key: int,
        clock: NoiseClock,
    ) -> None:
        """Program the weights of `linear` (left unchanged) onto the chip named `chip_key`."""
        super().__init__()
        crossbar, weight = hardware.crossbar, linear.weight.detach()
        self.name, self.hardware, self.clock = name, hardware, clock
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.input_range = periphery.input_range.to(weight)
        self.out_features, self.in_features = weight.shape
        self.grid = crossbar.grid(*weight.shape)
        self._chip_key = key(chip_key, name)
        blocks = self.grid.to_blocks(weight)
        scale = weight_scale(blocks, self.grid, crossbar.scale_per)
        self._scale = scale if periphery.output_scale is None else scale * periphery.output_scale.to(scale)
        self._array = ProgrammedCrossbar.program(normalised(blocks, scale), hardware.device, self._generator("programming"))
        self._uses = UseCounter()
        self._ready: ReadyWeights | None = None
        self.compensated = False
        if hardware.device.drifts:
            right_after = self._array.weights(0.0, self._generator("1/f noise at the reference"))
            self._reference = read_out(right_after, self.grid, crossbar, key(self._chip_key, "reference read-out"))

    def set_time(self, t: float) -> None:
        """Let the devices age to `t` [s] after programming: one frozen draw of 1/f noise, and a compensation read-out."""
        crossbar = self.hardware.crossbar
        weights = self._array.weights(t, self._generator("1/f noise", t))
        self.compensation = None
        if self.hardware.device.drifts:
            now = read_out(weights, self.grid, crossbar, key(self._chip_key, "read-out", t))
            self.compensation = compensation_factor(self._reference, now)
        self._ready = ReadyWeights.of(weights, self.grid, crossbar, self.hardware.product)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if self._ready is None:
            raise RuntimeError(f"Layer `{self.name}` was programmed, but no time was set. Call `set_time` on its chip first.")
        flat = x.reshape(-1, self.in_features).float()
        scale = self._scale
        if self.compensated and self.compensation is not None:
            scale = scale * self.grid.spread_over_columns(self.compensation)
        codes = dac_codes(flat, self.grid, self.hardware.crossbar, self.input_range)
        noise_key = self.clock.key(self.name, "product noise", self._uses.next(self.clock))
        y = mvm(codes, self._ready, self.input_range, scale, noise_key)
        if self.bias is not None:
            y.add_(self.bias)
        return y.view(*x.shape[:-1], self.out_features)

    def _generator(self, *purpose: str | float) -> torch.Generator:
        return generator(self._chip_key, *purpose, device=self._scale.device)
