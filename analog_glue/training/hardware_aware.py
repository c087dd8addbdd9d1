"""Hardware-aware (HWA) fine-tuning after Spoon et al. (2021), Sec. 2.2: noise in the forward pass, exact backward pass.

Forward: weight noise that follows the device's programming noise, drawn anew for every mini-batch, and the whole periphery
(DAC and ADC quantisation, short-term read noise, output noise). Backward: products in float32, or in bfloat16 or 16-bit
integers where a machine is faster with them (`precision`; kernels/gradients.py). Trained together: weights, input ranges of
the DACs, scale and offset of the columns. Drift is no part of it; compensation takes care of drift at inference.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import nn

from analog_glue.errors import require, require_argument
from analog_glue.nn.backward import gradient_digits
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import to_analog
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.linear import DIGITS, RANGE_RULES, AnalogLinear
from analog_glue.nn.weight_clip import clip_to_spread
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.tiles.converters import ADC
from analog_glue.tiles.crossbar import FINEST_BITS, Crossbar
from analog_glue.training.mode import Preparation, TrainingMode, weight_groups

SMALLEST_SCALE = 1e-2  # of the learned output scale, which starts at 1


@dataclass(frozen=True)
class InputRange:
    """How the DAC ranges are learned, from their calibrated values on."""

    learning_rate: float = 3e-3  # of AdamW, relative change of a range per step
    rule: str = "clip"  # clip: derivative of clipping | toolkit: the heuristic of IBM's toolkit
    decay: float = 0.0  # shrinks a range while more than `inside` of the inputs lie inside it
    inside: float = 0.95  # share of the inputs
    outputs_inside: float | None = None  # toolkit: widens a range while fewer outputs lie within the ADC's bound; null: off
    after_clipping: bool = False  # whether ranges are calibrated once weights are clipped, which raises their currents

    def __post_init__(self) -> None:
        require_argument(self.learning_rate >= 0, "learning_rate", "be at least 0 (0: fixed)", self.learning_rate)
        require_argument(self.rule in RANGE_RULES, "rule", f"be one of {', '.join(RANGE_RULES)}", self.rule)
        require_argument(self.decay >= 0, "decay", "be at least 0", self.decay)
        require_argument(0 <= self.inside <= 1, "inside", "lie in [0, 1]", self.inside)
        share = self.outputs_inside
        require_argument(share is None or 0 <= share <= 1, "outputs_inside", "lie in [0, 1], or be null (off)", share)
        by_derivative = share is None or self.rule == "toolkit"
        told = "be null where `rule` is clip, whose derivative widens a range where ADCs clip"
        require_argument(by_derivative, "outputs_inside", told, share)


@dataclass(frozen=True, kw_only=True)
class HardwareAware(TrainingMode):
    digital_epochs: int | None = None  # first epochs without noise, of the same budget; null: a third of them, rounded down
    weight_noise: WeightNoise = field(default_factory=WeightNoise)
    input_range: InputRange = field(default_factory=InputRange)
    output_scale_learning_rate: float | None = 1e-3  # it starts at 1; null: as the weights; 0: fixed
    weight_clip: float | None = 2.5  # [standard deviations of the layer's weights], after every step; null: off
    quantisation: bool = True  # of inputs and outputs in training; False: not rounded, clipped at the same ranges and bounds
    output_noise: float | None = None  # [full-on cells] in training; None: that of the chips

    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "int16")  # int16: gradients, in the products of layers on tiles
    name: ClassVar[str] = "hardware_aware"
    uses_hardware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        TrainingMode.__post_init__(self)
        require_argument(
            0 <= self.first_epoch_on_hardware < self.epochs,
            "digital_epochs",
            f"be at least 0 and less than `epochs` = {self.epochs}, or null",
            self.digital_epochs,
        )
        require_argument(
            self.max_steps != 0, "max_steps", "be at least 1 or null", self.max_steps, "0 belongs to training=digital."
        )
        clip = self.weight_clip
        require_argument(clip is None or clip > 0, "weight_clip", "be positive [standard deviations] or null", clip)
        rate = self.output_scale_learning_rate
        require_argument(rate is None or rate >= 0, "output_scale_learning_rate", "be at least 0 or null", rate)
        noise = self.output_noise
        require_argument(noise is None or noise >= 0, "output_noise", "be at least 0 [full-on cells] or null", noise)

    @property
    def first_epoch_on_hardware(self) -> int:
        """Index of the epoch at whose beginning ranges are calibrated and noise sets in."""
        return self.epochs // 3 if self.digital_epochs is None else self.digital_epochs

    def tile_in_training(self, chips: Crossbar) -> Crossbar:
        """The periphery that the forward pass of training sees, of weights that are for tiles with the periphery `chips`.

        Rounding is taken away by the finest converters, so that inputs and currents still clip where they did and input
        ranges can be learned. Noise of a tile without ADC is counted in steps of the finest one that no current saturates.
        """
        if self.quantisation and self.output_noise is None:
            return chips

        def bits(of_chips: int | None) -> int | None:
            return of_chips if self.quantisation or of_chips is None else FINEST_BITS

        noise = chips.output_noise * chips.adc.lsb if self.output_noise is None else self.output_noise  # [full-on cells]
        adc = ADC(bits(chips.adc_bits), chips.adc_bound)
        if noise > 0 and adc.bits is None:
            adc = ADC(FINEST_BITS, float(chips.rows))
        return replace(
            chips, dac_bits=bits(chips.dac_bits), adc_bits=adc.bits, adc_bound=adc.bound, output_noise=noise / adc.lsb
        )

    def check(self, hardware: Hardware, computation: Computation) -> None:
        noise = self.weight_noise.of_cells(hardware.crossbar.cells_per_weight)
        beside = computation.beside_noise(noise.floor(hardware.device))
        require(
            self.precision != "int16" or DIGITS["int16"] in gradient_digits(self.tile_in_training(hardware.crossbar), beside),
            "training.precision",
            "be fp32 or bf16 where products are not of 8-bit weights by instructions for integers",
            self.precision,
            f"Here they are {beside.product} by the {beside.kernel} kernel. It takes a CPU with such instructions, compiled "
            "kernels, a DAC of at most 8 bits, no IR drop, and weight noise that hides the rounding (or "
            "runtime.product=int8_single).",
        )

    def prepare(self, model: nn.Module, preparation: Preparation) -> nn.Module:
        placement = preparation.placement
        self.check(placement.hardware, preparation.computation)
        crossbar = self.tile_in_training(placement.hardware.crossbar)
        model = to_analog(
            model,
            replace(placement, hardware=replace(placement.hardware, crossbar=crossbar)),
            preparation.computation,
            self.weight_noise.of_cells(crossbar.cells_per_weight),
            preparation.clock,
            self.input_range.rule,
            self.input_range.decay,
            self.input_range.inside,
            self.input_range.outputs_inside,
        )
        for layer in _analog_layers(model):
            layer.gradient_digits = DIGITS.get(self.precision, layer.gradient_digits)
        return model

    def begin_epoch(self, model: nn.Module, epoch: int, resumed: bool, preparation: Preparation) -> None:
        """Put the network on tiles at the epoch where noise begins, with ranges calibrated there and then."""
        layers = _analog_layers(model)
        begins = epoch == self.first_epoch_on_hardware and not resumed
        if begins and self.input_range.after_clipping:
            self._clip(layers)
        if begins:
            for layer in layers:
                layer.on_tiles = False
            for name, input_range in preparation.calibrate(model).items():
                model.get_submodule(name).input_range = input_range
        for layer in layers:
            layer.on_tiles = epoch >= self.first_epoch_on_hardware
        # Weights that were clipped have a narrower spread: clipping them once more would clip more.
        if not resumed and not (begins and self.input_range.after_clipping):
            self.after_step(model)

    def selectable(self, epoch: int) -> bool:
        return epoch >= self.first_epoch_on_hardware

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        layers = _analog_layers(model)
        ranges = [layer.log_input_range for layer in layers]
        scales = [layer.output_scale for layer in layers]
        rate = self.learning_rate if self.output_scale_learning_rate is None else self.output_scale_learning_rate
        excluded = {id(parameter) for parameter in (*ranges, *scales)}
        return [
            *weight_groups(model, self.learning_rate, self.weight_decay, excluded),
            {"params": ranges, "lr": self.input_range.learning_rate, "weight_decay": 0.0},
            {"params": scales, "lr": rate, "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        self._clip([layer for layer in _analog_layers(model) if layer.on_tiles])

    @torch.no_grad()
    def _clip(self, layers: list[AnalogLinear]) -> None:
        for layer in layers:
            layer.output_scale.clamp_(min=SMALLEST_SCALE)
            if self.weight_clip is not None:
                weight = layer.weight.detach()
                clip_to_spread.by(layer.computation.kernel, weight.device)(weight, self.weight_clip)


def _analog_layers(model: nn.Module) -> list[AnalogLinear]:
    return [module for module in model.modules() if isinstance(module, AnalogLinear)]
