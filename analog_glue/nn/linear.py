"""Linear layers on tiles: `AnalogLinear` trains with noise, `ProgrammedLinear` is frozen on devices."""

from typing import Any

import torch
from torch import Tensor, nn

from analog_glue.nn.backward import (
    as_used,
    effective_weight,
    finish_gradients,
    inputs_beyond,
    integer_gradients,
    take_back,
)
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.noise_clock import NoiseClock, UseCounter
from analog_glue.nn.weight_noise import WeightNoise, rounded
from analog_glue.tiles.mapping import TileGrid, largest_per_column, normalised, shared_scale
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.operands import ClippedOutputs, ReadyWeights, Scaling

RANGE_RULES = ("clip", "toolkit")
DIGITS = {"fp32": 3, "int16": 2}  # of 8 bits, that the gradient is cut into where backward products are of integers


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
        grid: TileGrid,
        hardware: Hardware,
        computation: Computation,
        weight_noise: WeightNoise,
        clock: NoiseClock,
        range_rule: str = "clip",
        range_decay: float = 0.0,
        range_inside: float = 0.95,
        range_outputs_inside: float | None = None,
        shared: bool = False,
    ) -> None:
        """
        Args:
            linear: The layer to replace; its parameters are shared. A missing bias is added, as the learned offset.
            name: Its name in the model, for the noise keys; `grid`: how it lies on the tiles of `hardware`.
            range_rule: Gradient of α. "clip": the derivative of clipping. "toolkit": the heuristic of IBM's toolkit.
            range_decay: Adds range_decay · α to that gradient while more than `range_inside` of the inputs lie inside.
            range_outputs_inside: Of the toolkit's rule: what its outputs do to a range, see `_range_gradient`; None: nothing.
            shared: Whether the model calls this layer several times in one forward pass.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features)) if linear.bias is None else linear.bias
        self.name = name
        self.hardware, self.computation, self.grid = hardware, computation, grid
        blocks = len(self.grid.row_blocks)
        self.log_input_range = nn.Parameter(self.weight.new_zeros(blocks))
        self.output_scale = nn.Parameter(self.weight.new_ones(blocks, self.out_features))
        self.on_tiles = False
        self.weight_noise = weight_noise
        self.clock = clock
        self.range_rule = range_rule
        self.range_decay = range_decay
        self.range_inside = range_inside
        self.range_outputs_inside = range_outputs_inside
        self.gradient_digits = DIGITS["fp32"]
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

    def digital_scale(self) -> Tensor:
        """The weight that becomes a full-on cell [row blocks, outputs]."""
        largest = largest_per_column.by(self.computation.kernel, self.weight.device)(self.weight.detach(), self.grid)
        return shared_scale(largest, self.grid, self.hardware.crossbar.scale_per)

    def weights_on_tiles(self, scale: Tensor, noise_key: int | None) -> Tensor:
        """What the products of a training step see, in units of a full-on cell [row blocks, outputs, rows].

        `noise_key` None: without weight noise.
        """
        weight, device, kernel = self.weight.detach(), self.hardware.device, self.computation.kernel
        if noise_key is None or not self.weight_noise.is_on:
            return normalised(self.grid.to_blocks(weight), scale)
        return self.weight_noise.noisy(weight, scale, self.grid, device, noise_key, kernel)

    def integers_on_tiles(self, scale: Tensor, noise_key: int | None, rounding: float) -> Tensor:
        """`weights_on_tiles` as the 8-bit products take them, in units of `rounding`: int8 [outputs, inputs]."""
        noise, device, kernel = self.weight_noise, self.hardware.device, self.computation.kernel
        if noise_key is not None and noise.is_on:
            return noise.noisy_integers(self.weight.detach(), scale, self.grid, device, noise_key, rounding, kernel)
        return self.grid.from_blocks(rounded(self.weights_on_tiles(scale, None), rounding))

    def ready(self, weights: Tensor, with_noise: bool) -> ReadyWeights:
        """`weights` [row blocks, outputs, rows] made ready for products, as coarse as their noise allows."""
        floor = self.weight_noise.floor(self.hardware.device) if with_noise else 0.0
        product, kernel = self.computation.beside_noise(floor).product, self.computation.kernel
        return ReadyWeights.of(weights, self.grid, self.hardware.crossbar, product, kernel)

    def effective_weight(self) -> Tensor:
        """The weight [outputs, inputs] that the layer has without noise and converters: with the learned output scale."""
        return effective_weight(self.weight.detach(), self.output_scale.detach(), self.grid)


class _AnalogProduct(torch.autograd.Function):
    """Noisy forward pass; hand-written backward pass.

    Rounding and noise are passed straight through; where a converter clips, the gradient goes to what sets the clipping level
    instead: the input range for the DAC (∂clip(x, ±α)/∂α = ±1), and α and the digital scale for the ADC, whose bound is worth
    α · scale · adc_bound at the output. Saved for backward: the 8-bit codes of the inputs, and where the converters clip. The
    noisy weights of the forward pass are drawn again, from their key.
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
        grid, crossbar = layer.grid, layer.hardware.crossbar
        ctx.compute_dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            input_range = log_input_range.exp()
            noise_key = layer.clock.shared_key(layer.name, "weight noise") if layer.training else None
            scale = layer.digital_scale()
            ready = layer.ready(layer.weights_on_tiles(scale, noise_key), noise_key is not None)
            scaling = Scaling.of(input_range, scale * output_scale, grid, crossbar, bias)
            clipped_outputs = ClippedOutputs() if keep_for_backward else None
            y, codes = mvm(x, ready, scaling, layer.clock.key(layer.name, "product noise", use), clipped_outputs)
            if clipped_outputs is not None:
                clipped_inputs = _clipped_inputs(x, input_range, layer)
                outputs = clipped_outputs.gathered(x.device)
                ctx.save_for_backward(codes, clipped_inputs, *outputs, weight, scale, input_range, output_scale)
                ctx.layer, ctx.noise_key = layer, noise_key
                ctx.rounding = ready.product.rounding
                ctx.has_integers = layer.gradient_digits in ready.product.gradient_digits
        return y if ctx.compute_dtype is None else y.to(ctx.compute_dtype)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        codes, clipped_inputs, places, signs, _, scale, input_range, output_scale = ctx.saved_tensors
        layer: AnalogLinear = ctx.layer
        grid, crossbar, kernel = layer.grid, layer.hardware.crossbar, layer.computation.kernel
        compute = ctx.compute_dtype or torch.float32
        digital_scale = scale * output_scale
        grad_bias = grad_y.sum(dim=0, dtype=torch.float32)
        grad_bound = torch.zeros_like(output_scale)
        if ctx.has_integers and compute == torch.float32:
            used, unit = layer.integers_on_tiles(scale, ctx.noise_key, ctx.rounding), digital_scale * ctx.rounding
            grad_x, grad_used = integer_gradients(grad_y, used, unit, codes, grid, layer.gradient_digits)
        else:
            blocks = layer.weights_on_tiles(scale, ctx.noise_key)
            used = as_used.by(kernel, blocks.device)(blocks, grid, ctx.rounding, digital_scale)
            unit = torch.ones_like(digital_scale)
            del blocks
            grad_y = grad_y.to(compute)
            grad_x = torch.mm(grad_y, used.to(compute)).float()
            grad_used = torch.mm(grad_y.t(), codes.to(compute)).float()
        if len(places):
            # Nothing reaches the currents of a row block where its ADC clips.
            reaching = grad_y.flatten()[places % grad_y.numel()].float()
            columns = places // grad_y.numel() * grid.outputs + places % grid.outputs
            grad_bound.view(-1).index_add_(0, columns, signs * reaching)
            take_back.by(kernel, used.device)(places, reaching, grid, used, unit, codes, grad_x, grad_used)
        grad_log_range = torch.zeros_like(input_range)
        if crossbar.dac_bits is not None:
            grad_log_range = _range_gradient(grad_x, codes, clipped_inputs, places, input_range, layer)
            grad_x.view(-1)[clipped_inputs] = 0
        per_code = grid.spread_over_rows(input_range / crossbar.dac.full_scale)
        finish = finish_gradients.by(kernel, grad_used.device)
        grad_weight, towards_scale = finish(grad_used, used, unit, per_code, output_scale, grid)

        # ∂L/∂used · used is ∂L/∂log(output scale), because what is used is proportional to it; the bound of an ADC is
        # proportional to the output scale and to the input range.
        grad_log_bound = grad_bound.mul_(digital_scale * input_range.unsqueeze(1) * crossbar.adc_bound)
        grad_output_scale = towards_scale.add_(grad_log_bound).div_(output_scale)
        if layer.range_rule == "clip":
            grad_log_range.add_(grad_log_bound.sum(dim=1))
        return grad_x, grad_weight, grad_bias, grad_log_range, grad_output_scale, None, None, None


def _clipped_inputs(x: Tensor, input_range: Tensor, layer: AnalogLinear) -> Tensor:
    """Where |x| exceeds its range: indices into x [vectors, inputs] flattened."""
    if layer.hardware.crossbar.dac_bits is None:
        return torch.empty(0, dtype=torch.int64, device=x.device)
    ranges = layer.grid.spread_over_rows(input_range)
    return inputs_beyond.by(layer.computation.kernel, x.device)(x, ranges)


def _range_gradient(
    grad_x: Tensor, codes: Tensor, clipped: Tensor, saturated: Tensor, input_range: Tensor, layer: AnalogLinear
) -> Tensor:
    """∂L/∂log α [row blocks] from the gradient at the unclipped inputs; `clipped` indexes those that are clipped.

    `saturated` indexes outputs at the bound of an ADC, as [row blocks, vectors, outputs] flattened.

    clip:     α Σ over clipped inputs of ∂L/∂x · sign(x), the derivative of clip(x, −α, α).
    toolkit:  α³ (Σ over x ≥ α of min(∂L/∂x, 0) − Σ over x ≤ −α of max(∂L/∂x, 0)): the heuristic of IBM's toolkit, not a
              derivative. It is never positive, so data can only widen the range and only the decay narrows it. While fewer
              than `range_outputs_inside` of the outputs of a row block lie within the bound of their ADCs, the share of the
              others times α² is taken off, which widens the range, too (the toolkit's `manage_output_clipping`).
    """
    sizes = torch.tensor(layer.grid.row_blocks, device=grad_x.device)
    row_block = torch.arange(len(sizes), device=grad_x.device).repeat_interleave(sizes, output_size=layer.in_features)
    of_block = row_block[clipped % layer.in_features]
    outward = grad_x.view(-1)[clipped] * codes.view(-1)[clipped].sign()
    if layer.range_rule == "toolkit":
        outward = outward.clamp_(max=0)
    gradient = torch.zeros_like(input_range).index_add_(0, of_block, outward).mul_(input_range)
    if layer.range_rule == "toolkit":
        gradient.mul_(input_range.square())
    if layer.range_decay > 0:
        inside = 1 - torch.bincount(of_block, minlength=len(sizes)) / (sizes * len(codes))
        gradient.addcmul_(input_range.square(), (inside > layer.range_inside).float(), value=layer.range_decay)
    if layer.range_rule == "toolkit" and layer.range_outputs_inside is not None:
        outputs = len(codes) * layer.out_features
        outside = torch.bincount(saturated // outputs, minlength=len(sizes)) / outputs
        gradient.addcmul_(input_range.square(), outside * (outside > 1 - layer.range_outputs_inside), value=-1)
    return gradient
