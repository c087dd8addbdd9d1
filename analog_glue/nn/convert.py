"""From a plain model to one on tiles: walk it once, swap linear layers by name.

to_analog(model, placement, …)   for training with noise; swaps inside `model`
to_digital(model, …)             the same weights without hardware; a copy that shares everything it can
program(model, placement, …)     one chip; a copy with its own device state, the master weights stay untouched
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from analog_glue.kernels.parallel import run
from analog_glue.nn.backward import effective_weight
from analog_glue.nn.computation import Computation
from analog_glue.nn.linear import AnalogLinear
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.nn.programmed_linear import ProgrammedLinear
from analog_glue.nn.weight_noise import WeightNoise
from analog_glue.seeding import key
from analog_glue.tiles.mapping import TileGrid


def to_analog(
    model: nn.Module,
    placement: Placement,
    computation: Computation,
    weight_noise: WeightNoise,
    clock: NoiseClock,
    range_rule: str = "clip",
    range_decay: float = 0.0,
    range_inside: float = 0.95,
    range_outputs_inside: float | None = None,
) -> nn.Module:
    """Swap the placed linear layers of `model` for `AnalogLinear` ones that share their parameters; returns `model`.

    The layers stay digital until their `input_range` is set and `on_tiles` switched on.
    """
    how = (
        placement.hardware,
        computation,
        weight_noise,
        clock,
        range_rule,
        range_decay,
        range_inside,
        range_outputs_inside,
        _called_several_times(model),
    )
    for name, linear in placement.layers(model).items():
        analog = AnalogLinear(linear, name, placement.grids[name], *how)
        model.set_submodule(name, analog.train(linear.training))
    clock.attach(model)
    return model


def fold_output_scales(model: nn.Module) -> None:
    """Move learned output scales into the weights, in place, where that changes nothing.

    With one scale per column the normalised weights, hence the conductances, stay what they are and only the digital scale
    takes the factor up. (With one scale per tile the factor would change the conductances; there it stays a parameter.)
    """
    for layer in model.modules():
        if isinstance(layer, AnalogLinear) and layer.hardware.crossbar.scale_per == "column":
            with torch.no_grad():
                layer.weight.copy_(layer.effective_weight())
                layer.output_scale.fill_(1)


def learned_periphery(model: nn.Module) -> dict[str, LayerPeriphery]:
    """What the analog layers of `model` have learned beside their weights and biases, by layer name."""
    return {
        layer.name: LayerPeriphery(layer.input_range.detach().clone(), layer.output_scale.detach().clone())
        for layer in model.modules()
        if isinstance(layer, AnalogLinear)
    }


def to_digital(model: nn.Module, periphery: dict[str, LayerPeriphery]) -> nn.Module:
    """A copy of the plain `model` without hardware: learned output scales, if any, multiplied into the weights."""

    def scaled(name: str, layer: nn.Linear) -> nn.Module:
        output_scale = periphery[name].output_scale if name in periphery else None
        if output_scale is None or bool((output_scale == 1).all()):
            return layer
        rows = len(output_scale)
        grid = TileGrid.of(layer.out_features, layer.in_features, -(-layer.in_features // rows), layer.out_features)
        digital = nn.Linear(layer.in_features, layer.out_features, device="meta")
        weight = effective_weight(layer.weight.detach(), output_scale.to(layer.weight), grid)
        digital.weight = nn.Parameter(weight, requires_grad=False)
        digital.bias = layer.bias
        return digital

    return _copy_with(model, scaled).eval()


class Chip:
    """One programmed chip: a model whose layers remember their own programming errors, drift exponents and read-outs.

    Scores need a time: `set_time(t)` ages all layers, `compensated` switches the drift compensation measured there.
    """

    def __init__(self, model: nn.Module, layers: dict[str, ProgrammedLinear], clock: NoiseClock, chip_key: int) -> None:
        self.model, self.layers = model, layers
        self.clock, self._key = clock, chip_key
        self.t: float | None = None

    @torch.no_grad()
    def set_time(self, t: float) -> None:
        """Age to `t` [s] after programming; only the short-term noise still changes from then on."""
        layers = list(self.layers.values())
        run(lambda layer: layer.set_time(t), layers, layers[0].input_range.device)
        self.t = t

    def ready_to_score(self, compensated: bool) -> nn.Module:
        """The model to score at the time that was set, its read noise at the beginning of its stream.

        The stream depends on chip and time alone, so scores with and without compensation see the same noise.
        """
        if self.t is None:
            raise RuntimeError("This chip has no time yet. Call `set_time` before scoring it.")
        for layer in self.layers.values():
            layer.compensated = compensated
        self.clock.start(self._key, "read noise", self.t)
        return self.model


class ChipGroup:
    """Several chips in one forward pass, whose batch holds the examples of the first chip, then those of the second, ….

    Every chip keeps its own weights, noise and scales, so its outputs are those that it has alone.
    """

    def __init__(self, chips: Sequence[Chip]) -> None:
        self.chips = tuple(chips)
        first = self.chips[0]
        beside: dict[int, nn.Module] = {}
        for name, layer in first.layers.items():
            beside[id(layer)] = _Beside([chip.layers[name] for chip in chips])
        self._model = _copy(first.model, beside)
        self._model._forward_pre_hooks.clear()
        for chip in self.chips:
            chip.clock.attach(self._model)

    def ready_to_score(self, compensated: bool) -> nn.Module:
        """See `Chip.ready_to_score`; all chips must be at the same time."""
        for chip in self.chips:
            chip.ready_to_score(compensated)
        return self._model


class _Beside(nn.Module):
    """The same layer on several chips, each for its share of the batch."""

    def __init__(self, layers: Sequence[ProgrammedLinear]) -> None:
        super().__init__()
        self._layers = list(layers)  # not submodules: they belong to their chips

    def forward(self, x: Tensor) -> Tensor:
        shares = x.chunk(len(self._layers))
        return torch.cat([layer(share) for layer, share in zip(self._layers, shares, strict=True)])


def program(
    model: nn.Module,
    placement: Placement,
    computation: Computation,
    periphery: dict[str, LayerPeriphery],
    chip: int,
    chip_seed: int = 0,
) -> Chip:
    """Program the weights of the plain `model` (left unchanged) onto chip number `chip`.

    Args:
        periphery: Input range and output scale of every layer put on tiles, by name.
        chip: Index of the chip. The same (chip_seed, chip) has the same random devices whatever is programmed on it.
    """
    chip_key = key(chip_seed, "chip", chip)
    clock = NoiseClock(chip_key)
    programmed: dict[str, ProgrammedLinear] = {}

    def on_devices(name: str) -> None:
        how = placement.grids[name], placement.hardware, computation, chip_key, clock
        programmed[name] = ProgrammedLinear(chosen[name], periphery[name], name, *how)

    chosen = placement.layers(model)
    run(on_devices, chosen, next(iter(chosen.values())).weight.device)
    on_chip = _copy_with(model, lambda name, layer: programmed.get(name, layer))
    clock.attach(on_chip)
    layers = {name: programmed[name] for name in chosen}  # in the model's order, whatever was ready first
    return Chip(on_chip.eval(), layers, clock, chip_key)


def _copy_with(model: nn.Module, replace: Callable[[str, nn.Linear], nn.Module]) -> nn.Module:
    """A structural copy that shares parameters and buffers with `model`, its linear layers passed through `replace`."""
    return _copy(
        model, {id(module): replace(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    )


def _copy(model: nn.Module, replaced: dict[int, nn.Module]) -> nn.Module:
    """A structural copy that shares parameters and buffers with `model`; modules by id are `replaced`."""
    shared: dict[int, object] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    # deepcopy takes what its memo holds for what it would have copied: parameters as they are, layers as replaced.
    return copy.deepcopy(model, {**shared, **replaced})


def _called_several_times(model: nn.Module) -> bool:
    """Whether the model runs its layers more than once per forward pass (ALBERT's shared groups)."""
    config: Any = getattr(model, "config", None)
    groups = getattr(config, "num_hidden_groups", None)
    return groups is not None and groups < config.num_hidden_layers
