"""What tuning measures with: chips that no result is reported of, and training examples in three shares.

Chips are numbered from −1 downwards, so that they are never those of a sweep: the first `chips` are searched on, the `judges`
after them decide whether a step is kept. Likewise the examples: ranges are taken from the first share, candidates are compared
on the second, a step is judged on the third.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from analog_glue.nn.calibration import observe
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import Chip, program, to_digital
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.nn.programmed_linear import ProgrammedLinear
from analog_glue.seeding import key
from analog_glue.tiles.mapping import TileGrid, normalised, weight_scale

Batches = list[dict[str, Tensor]]
Periphery = Mapping[str, LayerPeriphery]
MOST_VECTORS = 512  # of a layer, that products are compared on
LOST = 2  # judges that are all worse off say enough


@dataclass(frozen=True)
class Bench:
    """A plain network in eval mode, the hardware it is tuned for, and the examples to do it with."""

    model: nn.Module
    placement: Placement
    computation: Computation
    examples: Callable[[int, int], Batches]  # (first, how many) of a fixed order of the training examples
    calibration: int  # examples that ranges are taken from
    compared: int  # others, on which products of layers and outputs of the network are compared
    judged: int  # others again, by which a step is judged
    chips: int  # that they are compared on
    judges: int  # other chips, on which those outputs are judged
    time: float  # [s] after programming: the age of all these chips
    chip_seed: int
    _kept: dict[int, tuple[Periphery, Chip]] = field(default_factory=dict, init=False, repr=False)
    _exact: dict[tuple[int, int], list[Tensor]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def layers(self) -> dict[str, nn.Linear]:
        return self.placement.layers(self.model)

    @cached_property
    def shared(self) -> list[list[str]]:
        """Layers in groups that read the same tensor (queries, keys and values), in the model's order."""
        groups: dict[tuple[int, int], list[str]] = {}
        calls: list[tuple[str, tuple[int, int]]] = []
        kept: list[Tensor] = []  # a tensor that is gone could share its address with a later one

        def hook_of(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
                kept.append(arguments[0])
                calls.append((name, (arguments[0].data_ptr(), arguments[0].numel())))

            return hook

        handles = [layer.register_forward_pre_hook(hook_of(name)) for name, layer in self.layers.items()]
        try:
            with torch.no_grad():
                self.model(**self.examples(0, 1)[0])
        finally:
            for handle in handles:
                handle.remove()
        several = {name for name, _ in calls if sum(name == other for other, _ in calls) > 1}
        for name, place in calls:
            # A layer that is used several times (ALBERT) reads several tensors: it stands for itself.
            own = groups.setdefault((id(name), 0) if name in several else place, [])
            own += [] if name in own else [name]
        return list(groups.values())

    @cached_property
    def attention_outputs(self) -> frozenset[str]:
        """Layers whose input is what attention puts out: those that follow queries, keys and values."""
        order = [group[0] for group in self.shared]
        after = [index + 1 for index, group in enumerate(self.shared) if len(group) >= 3]
        return frozenset(order[index] for index in after if index < len(order))

    def chip(self, periphery: Periphery, number: int) -> Chip:
        """Chip −1 − `number`, aged to `time`.

        Those that candidates are compared on are kept, and not programmed anew where input ranges alone are others.
        """
        if number in self._kept:
            before, chip = self._kept[number]
            if all(_same_devices(before[name], layer) for name, layer in periphery.items()):
                for name, layer in chip.layers.items():
                    layer.set_input_range(periphery[name].input_range)
                return chip
        chip = program(self.model, self.placement, self.computation, dict(periphery), -1 - number, self.chip_seed)
        chip.set_time(self.time)
        if number < self.chips:
            self._kept[number] = dict(periphery), chip
        return chip

    def observe(self, periphery: Periphery, batches: Batches, see: Callable[[str, Tensor], None]) -> None:
        """Call `see(name, inputs)` for every call of every layer in the *analog* forward pass of the first chip.

        Inputs [vectors, inputs] come without padded positions, over the layer's `input_scale`.
        """
        chip = self.chip(periphery, 0)
        model = chip.ready_to_score(self.placement.hardware.device.drifts)

        def scaled(name: str, vectors: Tensor) -> None:
            scale = periphery[name].input_scale
            see(name, vectors if scale is None else vectors / scale)

        observe(model, chip.layers, batches, scaled)

    def inputs(self, periphery: Periphery) -> dict[str, Tensor]:
        """What each layer reads of the examples that products are compared on [vectors, inputs], at most `MOST_VECTORS`.

        Not over an `input_scale`.
        """
        seen: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        chip = self.chip(periphery, 0)
        model = chip.ready_to_score(self.placement.hardware.device.drifts)
        batches = self.examples(self.calibration, self.compared)
        observe(model, chip.layers, batches, lambda name, vectors: seen[name].append(vectors))
        return {name: evenly(torch.cat(parts)) for name, parts in seen.items()}

    def comparison(self, name: str, vectors: Tensor) -> Comparison:
        """Of the products of one layer, on `vectors` [vectors, inputs]."""
        return Comparison(self, name, vectors)

    def judged_errors(self, periphery: Periphery, than: Tensor | None = None) -> Tensor:
        """Squared error of the network's outputs against its digital self on the judges, mean over their examples [judges].

        Args:
            than: Errors that they are to be below; where the first `LOST` of them are not, the others are not looked at.
        """
        share = self.calibration + self.compared, self.judged
        first, last = self.chips, self.chips + self.judges
        if than is None or self.judges <= LOST:
            return self._errors(periphery, share, range(first, last))
        errors = self._errors(periphery, share, range(first, first + LOST))
        if bool((errors >= than[:LOST]).all()):
            return errors
        return torch.cat([errors, self._errors(periphery, share, range(first + LOST, last))])

    def compared_error(self, periphery: Periphery) -> float:
        """Squared error of the network's outputs where products are compared: on those chips, of those examples."""
        return float(self._errors(periphery, (self.calibration, self.compared), range(self.chips)).mean())

    def _errors(self, periphery: Periphery, share: tuple[int, int], chips: range) -> Tensor:
        """Of the examples of a `share` (first, how many). Tuning changes no output scale, hence no exact output: asked once."""
        batches, errors = self.examples(*share), []
        with torch.no_grad():
            if share not in self._exact:
                digital = to_digital(self.model, dict(periphery))
                self._exact[share] = [digital(**batch).logits.float() for batch in batches]
            exact = self._exact[share]
            for number in chips:
                model = self.chip(periphery, number).ready_to_score(self.placement.hardware.device.drifts)
                squares = [(model(**batch).logits.float() - own).square() for batch, own in zip(batches, exact, strict=True)]
                errors.append(torch.cat([part.flatten() for part in squares]).mean())
        return torch.stack(errors)

    def blocks(self, name: str, periphery: LayerPeriphery) -> Tensor:
        """Weights of a layer as they are to be programmed, in real units [row blocks, outputs, rows]."""
        weight = self.layers[name].weight.detach()
        return self.placement.grids[name].to_blocks(weight if periphery.input_scale is None else weight * periphery.input_scale)

    def weight_range(self, name: str, periphery: LayerPeriphery) -> Tensor:
        """The weight that is a full-on cell [row blocks, outputs]."""
        if periphery.weight_range is not None:
            return periphery.weight_range
        crossbar = self.placement.hardware.crossbar
        return weight_scale(self.blocks(name, periphery), self.placement.grids[name], crossbar.scale_per)

    def normalised(self, name: str, periphery: LayerPeriphery) -> Tensor:
        """Weights in units of a full-on cell [row blocks, outputs, rows]."""
        return normalised(self.blocks(name, periphery), self.weight_range(name, periphery))

    def grid(self, name: str) -> TileGrid:
        return self.placement.grids[name]


class Comparison:
    """The products of one layer on chips beside the exact ones, for one periphery after another."""

    def __init__(self, bench: Bench, name: str, vectors: Tensor) -> None:
        self._bench, self._name, self._vectors = bench, name, vectors
        self._layer = bench.layers[name]
        self._programmed: tuple[LayerPeriphery, list[ProgrammedLinear]] | None = None

    @torch.no_grad()
    def error(self, periphery: LayerPeriphery) -> float:
        """Squared error of the outputs relative to their squares, bias left out, mean over the chips compared on.

        Chips are the same for every periphery, hence paired; where the input range alone differs from the last periphery
        asked about, they are not programmed anew.
        """
        digital = to_digital(nn.Sequential(self._layer), {"0": periphery})
        exact = digital(self._vectors)
        power = (exact if self._layer.bias is None else exact - self._layer.bias).square().mean().clamp_min(1e-30)
        errors = []
        for layer in self._on_chips(periphery):
            layer.set_input_range(periphery.input_range)
            layer.clock.start("product noise of a comparison")
            layer.clock.tick()
            errors.append((layer(self._vectors) - exact).square().mean() / power)
        return float(torch.stack(errors).mean())

    def _on_chips(self, periphery: LayerPeriphery) -> list[ProgrammedLinear]:
        if self._programmed is not None and _same_devices(self._programmed[0], periphery):
            return self._programmed[1]
        bench, layers = self._bench, []
        for number in range(bench.chips):
            chip_key = key(bench.chip_seed, "chip", -1 - number)
            how = bench.grid(self._name), bench.placement.hardware, bench.computation, chip_key, NoiseClock(chip_key)
            layers.append(ProgrammedLinear(self._layer, periphery, self._name, *how))
            layers[-1].set_time(bench.time)
            layers[-1].compensated = bench.placement.hardware.device.drifts
        self._programmed = periphery, layers
        return layers


def _same_devices(one: LayerPeriphery, other: LayerPeriphery) -> bool:
    return all(getattr(one, field) is getattr(other, field) for field in ("output_scale", "weight_range", "input_scale"))


def evenly(vectors: Tensor, most: int = MOST_VECTORS) -> Tensor:
    """At most `most` of the vectors, evenly spread over all."""
    if len(vectors) <= most:
        return vectors
    return vectors[torch.linspace(0, len(vectors) - 1, most, device=vectors.device).long()]
