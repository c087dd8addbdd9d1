"""What a run would do, in numbers, before it does it: `dry_run=true`.

Layers, tiles and utilisation, parameters, steps; and every noise in three units: LSB of the ADC, a full-on cell driven by a
full-scale input, and percent of a typical output, so that "0.5 LSB" and "0.04" need no guessing. "Typical" is measured: the rms
output of each layer on real training text, the median over the layers.
"""

import math
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from analog_glue.commands.ablation import AblationJob
from analog_glue.commands.deploy import EvaluationJob
from analog_glue.commands.diagnose import DiagnosisJob
from analog_glue.commands.specify import SpecificationJob
from analog_glue.commands.specify import describe as describe_search
from analog_glue.commands.train import TrainingJob
from analog_glue.costs.tiles import count_tiles
from analog_glue.kernels.block_product import Float32Product
from analog_glue.kernels.gaussian import NormalStream
from analog_glue.nn.calibration import calibrate_input_ranges
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.placement import Placement, beside_tiles, clipped_weights
from analog_glue.reports.figures import time_label
from analog_glue.tiles.crossbar import Crossbar, ProgrammedCrossbar
from analog_glue.tiles.mapping import TileGrid, normalised, weight_scale
from analog_glue.tiles.wires import behind_wires

PROBED_EXAMPLES = 16  # training examples whose activations are looked at


WIRES = "wires (not random; of the target weights)"
PROBED_VECTORS = 256  # input vectors per layer


def describe(job: TrainingJob | EvaluationJob) -> str:
    """The text of `dry_run=true`; a few training examples are run through the digital model."""
    placement, raw, evaluation = job.placement, job.raw, job.settings.evaluation
    drifts = placement.hardware.device.drifts
    lines = _head(job)
    if isinstance(job, TrainingJob):
        mode = job.mode
        steps = math.ceil(len(raw.train) / mode.batch_size)
        total = mode.epochs * steps if mode.max_steps is None else min(mode.max_steps, mode.epochs * steps)
        state = "done already" if job.done else f"{total:,} steps of {mode.batch_size} examples, {steps:,} per epoch"
        lines.append(f"Training   {mode.name}: {state}")
    compensation = len(set(evaluation.compensation)) if drifts else 1
    scores = evaluation.chips * len(set(evaluation.times)) * compensation
    lines.append(
        f"Sweep      {evaluation.chips} chips × {len(set(evaluation.times))} times × {compensation} (drift compensation "
        f"{_words(evaluation.compensation) if drifts else 'off: no drift'}) = {scores:,} scores"
    )
    lines.append(f"Output     {job.folder}")
    if clipped := clipped_weights(job.loaded.model, placement):
        lines.append(f"Clipped    {clipped}")
    lines += ["", *_tile_lines(placement), "", *_noise_lines(_probe(job), placement.hardware.crossbar, drifts)]
    return "\n".join(lines)


def _head(job: TrainingJob | EvaluationJob) -> list[str]:
    """What there is: task, model, attention."""
    model, placement, raw = job.loaded.model, job.placement, job.raw
    lines = ["Dry run: nothing is trained, programmed or written.", ""]
    sizes = ", ".join(f"{len(split):,} in {name}" for name, split in raw.validation.items())
    lines.append(f"Task       {job.task.name}: {len(raw.train):,} training examples, {sizes}  ({raw.source})")
    parameters = sum(p.numel() for p in model.parameters())
    count = count_tiles(placement)
    share = 100 * count.weights / parameters
    on_tiles = f"{count.weights:,} of them on tiles ({share:.1f} %)"
    lines.append(f"Model      {parameters:,} parameters, {on_tiles}  ({job.loaded.source})")
    if beside := beside_tiles(model):
        lines.append(f"           not on tiles: {beside}")
    if job.loaded.remark:
        lines.append(f"           {job.loaded.remark}")
    if not job.attention.is_float32:
        lines.append(f"Attention  QKᵀ and PV in {job.attention.precision}, softmax in float32, beside the tiles")
    return lines


def describe_diagnosis(job: DiagnosisJob) -> str:
    """The text of `diagnose dry_run=true`: tiles, and what would be looked at."""
    one, placement = job.evaluation, job.evaluation.placement
    times = " and ".join(time_label(t) for t in one.settings.evaluation.times)
    done = ", done already" if job.done else ""
    lines = _head(one)
    lines.append(f"Diagnosis  {job.subject.chip_name} at {times} with {job.examples} training examples{done}")
    lines += [f"Output     {job.written_to}", "", *_tile_lines(placement)]
    return "\n".join(lines)


def describe_ablation(job: AblationJob) -> str:
    """`describe` of the full hardware, and how many scores its parts take."""
    wanted, missing = (sum(map(len, points)) for points in zip(*((p.wanted, p.missing) for p in job.parts), strict=True))
    times = " and ".join(time_label(t) for t in job.evaluation.settings.evaluation.times)
    lines = ["", f"Ablation   {wanted:,} scores at {times}, of which {missing:,} would be measured, in {job.below}"]
    lines += [f"  {len(part.wanted):>5} {part.variant.label}" for part in job.parts]
    return "\n".join([describe(job.evaluation), *lines])


def describe_specification(job: SpecificationJob) -> str:
    """Tiles, what would be searched, and the most that it takes."""
    return "\n".join([*_head(job.evaluation), "", *_tile_lines(job.evaluation.placement), *describe_search(job)])


def _words(compensation: list[bool]) -> str:
    return " and ".join("on" if value else "off" for value in sorted(set(compensation)))


def _tile_lines(placement: Placement) -> list[str]:
    crossbar, count = placement.hardware.crossbar, count_tiles(placement)
    lines = [f"{'layers':>8} {'inputs × outputs':>18} {'tiles each':>12} {'rows × columns':>16} {'utilisation':>12}"]
    for grid, layers in Counter(placement.grids.values()).items():
        each = f"{len(grid.row_blocks)} × {len(grid.column_blocks)}"
        largest = f"{grid.row_blocks[0]} × {grid.column_blocks[0]}"
        used = 100 * grid.outputs * grid.inputs / (grid.tiles * crossbar.rows * crossbar.columns)
        lines.append(f"{layers:>8} {f'{grid.inputs} × {grid.outputs}':>18} {each:>12} {largest:>16} {used:>10.2f} %")
    lines.append(
        f"{count.layers} layers on {count.tiles} tiles of {crossbar.rows} × {crossbar.columns}; "
        f"mean utilisation {count.over_layers:.2f} % over layers, {count.over_tiles:.2f} % over tiles"
    )
    return lines


def _noise_lines(probes: list[dict[str, float]], crossbar: Crossbar, drifts: bool) -> list[str]:
    """Every noise in LSB, full-on cells and percent of a typical output: medians over the layers that put out anything."""
    probes = [probe for probe in probes if probe["typical"] > 0]
    if not probes:
        return ["Every layer puts out zeros on the examples looked at: nothing that noise could be compared with."]
    lsb = crossbar.adc.lsb if crossbar.adc_bits is not None else math.nan
    typical = _median([probe["typical"] for probe in probes])
    lines = [f"{'at the output of a tile':<44} {'LSB of ADC':>11} {'full-on cells':>14} {'% of typical':>13}"]
    for name in probes[0]:
        value = _median([probe[name] for probe in probes])
        share = _median([100 * probe[name] / probe["typical"] for probe in probes])
        label = "typical output (rms, median over layers)" if name == "typical" else name
        lines.append(f"{label:<44} {value / lsb:>11.3g} {value:>14.4g} {share:>11.2f} %")
    if WIRES in probes[0]:
        shares = sorted(100 * probe[WIRES] / probe["typical"] for probe in probes)
        span = f"{shares[0]:.2g} to {shares[-1]:.2g} %, in the median {_median(shares):.2g} %"
        lines.append(f"Wires take {span}, of the output of a layer")
    bound = crossbar.adc_bound / typical
    lines.append(f"ADC: 1 LSB = {lsb:.5g} full-on cells; its bound is {bound:.1f} times the typical output")
    if drifts:
        lines.append("Of the devices everything is counted, and drift before any compensation.")
    return lines


@torch.no_grad()
def _probe(job: TrainingJob | EvaluationJob) -> list[dict[str, float]]:
    """Noises by name of every layer, see `_noise_of_layer`."""
    model, placement, train = job.loaded.model.eval(), job.placement, job.encoded.train
    layers = placement.layers(model)
    batch = train.batch(list(range(min(PROBED_EXAMPLES, len(train)))))
    batch.pop("labels")
    calibration = job.settings.hardware.calibration
    rule = calibration.percentile, calibration.adc_headroom, calibration.deviations
    ranges = calibrate_input_ranges(model, layers, placement, [batch], *rule)
    inputs: dict[str, Tensor] = {}
    handles = [layer.register_forward_pre_hook(_keep(inputs, name, layer)) for name, layer in layers.items()]
    model(**batch)
    for handle in handles:
        handle.remove()
    times = sorted(set(job.settings.evaluation.times))
    return [
        _noise_of_layer(layer.weight, placement.grids[name], inputs[name], ranges[name], placement.hardware, times)
        for name, layer in layers.items()
    ]


def _keep(inputs: dict[str, Tensor], name: str, layer: nn.Linear) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[name] = arguments[0].reshape(-1, layer.in_features)[:PROBED_VECTORS]

    return hook


def _noise_of_layer(
    weight: Tensor, grid: TileGrid, x: Tensor, input_range: Tensor, hardware: Hardware, times: list[float]
) -> dict[str, float]:
    """rms contribution of every noise to a tile's output, in full-on cells."""
    crossbar, device = hardware.crossbar, hardware.device
    blocks = grid.to_blocks(weight)
    weights = normalised(blocks, weight_scale(blocks, grid, crossbar.scale_per))
    scaled = x / grid.spread_over_rows(input_range)
    if crossbar.dac_bits is not None:
        scaled = scaled.clamp(-1, 1)
    padded = grid.pad_inputs(scaled)
    product = Float32Product(weights)

    def rms(outputs: Tensor) -> float:
        return outputs.square().mean().sqrt().item()

    noise = {"typical": rms(product.product(padded))}
    if crossbar.dac_bits is not None:
        steps = crossbar.dac.full_scale
        noise["DAC quantisation"] = rms(product.product((padded * steps).round() / steps - padded))
    noise["short-term read noise (every vector)"] = crossbar.weight_read_noise * rms(product.variance(padded).sqrt())
    if crossbar.adc_bits is not None:
        noise["output noise (every vector)"] = crossbar.output_noise * crossbar.adc.lsb
        noise["ADC quantisation"] = crossbar.adc.lsb / math.sqrt(12)
    if crossbar.wire_resistance > 0:
        g_max = device.g_max * crossbar.cells_per_weight
        pair = (weights.clamp(min=0) * g_max, weights.clamp(max=0).neg() * g_max)
        positive, negative = behind_wires(pair, grid, crossbar.wire_resistance, crossbar.pairs, crossbar.driven, "compiled")
        noise[WIRES] = rms(Float32Product((positive - negative) / g_max - weights).product(padded))
    cells = crossbar.cells_per_weight
    array = ProgrammedCrossbar.program(weights, device, NormalStream("dry run"), cells)
    spread = device.programming_spread(weights.abs()) * (weights != 0) / math.sqrt(cells)
    noise["programming noise (once per chip)"] = math.sqrt(
        Float32Product(spread.square()).product(padded.square()).mean().item()
    )
    for t in times:
        error = Float32Product(array.weights(t, NormalStream("dry run", t)) - weights).product(padded)
        noise[f"devices, all together, after {time_label(t)}"] = rms(error)
    return noise


def _median(values: list[float]) -> float:
    return torch.tensor(values).median().item()
