"""What a command of the in-situ half would do, in numbers, before it does it: `dry_run=true`.

Arrays and their devices; updates and reads; rates and thresholds in steps and pulses, which decide whether anything is learnt;
and the time, from learning and scoring for a moment with the run's own kernels.
"""

import math
import time

import torch

from analog_glue.costs.tiles import count_tiles
from analog_glue.in_situ.commands.deploy import DeploymentJob
from analog_glue.in_situ.commands.extract import ExtractionJob
from analog_glue.in_situ.commands.extract_array import ArrayJob
from analog_glue.in_situ.commands.train import InSituJob
from analog_glue.in_situ.devices.device import PulsedDevice
from analog_glue.in_situ.training.loop import Trainable, forgotten
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2
from analog_glue.progress import duration

MEASURED_FOR = 1.0  # [s]


def describe(job: InSituJob | ExtractionJob | ArrayJob | DeploymentJob) -> str:
    """The text of `dry_run=true`."""
    match job:
        case InSituJob():
            return _training(job)
        case ExtractionJob():
            shapes = ", ".join(f"{learner.outputs} × {learner.inputs}" for learner in job.trainable.network.learners)
            return f"{job.settings.extract.products:,} products with each of the arrays {shapes}"
        case ArrayJob():
            size = f"{job.array.outputs} × {job.array.inputs}"
            return f"{job.folder.name}: {job.chosen.products:,} products with an array of {size}"
        case DeploymentJob():
            tiles = count_tiles(job.placement)
            sizes = f"{tiles.layers} layers, {tiles.weights:,} weights on {tiles.tiles} tiles"
            return f"{job.file.stem} weights of {job.folder}: {sizes}"


def _training(job: InSituJob) -> str:
    trainable, device, mode, names, done = job.trainable, job.device, job.mode, job.names, job.epochs_done
    unit, units = trainable.unit, trainable.units * trainable.unit_size
    part, whole = trainable.test_sizes
    lines = [
        "Dry run: nothing is trained or written.", "",
        f"Task       {names['task']}: {units:,} {unit}s an epoch; tests: {part:,} {unit}s after an epoch, "
        f"{whole:,} after the last  ({job.data['source']})",
        f"Training   {names['training']}: {mode.epochs} epoch{'s' if mode.epochs > 1 else ''}"
        f"{f', {done} of them done' if done else ''}",
        *(f"           {line}" for line in _algorithm(device, mode)),
    ]  # fmt: skip
    if mode.on_devices:
        lines.append(
            f"Devices    {names['device']}: dw_min {device.dw_min:g} on ±{device.w_max:g}, {device.states:,.0f} states; "
            f"one pulse has noise of {device.dw_min_std:g} steps"
        )
        lines.append(f"Products   {_periphery(mode)}")
    lines += [f"Time       {_time(trainable, mode, done)}", f"Output     {job.folder}", "", *_arrays(trainable, mode)]
    return "\n".join(lines)


def _periphery(mode: InSituMode) -> str:
    """Converters and noise of products, and of reads of A."""

    def adc(bits: int) -> str:
        return f"ADC {bits} bits" if bits else "no ADC"

    io = mode.periphery
    products = f"DAC {io.dac_bits} bits" if io.dac_bits else "no DAC"
    products += f", {adc(io.adc_bits)} on ±{io.output_bound:g}, noise {io.output_noise:g}"
    if not mode.reads_a:
        return products
    bits = io.adc_bits if io.read_adc_bits is None else io.read_adc_bits
    return f"{products}; reads of A: {adc(bits)}, noise {mode.periphery.single.noise:g}"


def _algorithm(device: PulsedDevice, mode: InSituMode) -> list[str]:
    """Rates and thresholds of the first epoch, in steps and pulses."""
    rate = f"learning rate {mode.learning_rate:g}"
    if not mode.on_devices:
        return [rate]
    steps = mode.rate(0) / device.step
    lines = [f"{rate}: {steps:.3g} steps of a device for x · d = 1, {mode.pulses.longest} in one update at most"]
    if isinstance(mode, TTv2):
        pulses = mode.transfer_rate * device.w_max / (mode.threshold * device.step)
        lines.append(
            f"λ {mode.transfer_rate:g}, T {mode.threshold:g} steps: a read of a device at w_max = {device.w_max:g} is worth "
            f"{pulses:.3g} pulses of C, one at most"
        )
    elif isinstance(mode, TikiTaka):
        pulses = mode.transfer_rate * device.w_max / device.step
        lines.append(
            f"λ {mode.transfer_rate:g}: a read of a device at w_max = {device.w_max:g} sends {pulses:.3g} pulses to C, "
            f"{mode.pulses.longest} at most"
        )
    return lines


def _time(trainable: Trainable, mode: InSituMode, done: int) -> str:
    left = mode.epochs - done
    if left <= 0:
        return "nothing is left to do"
    if not trainable.ready:
        return "not estimated: the encoder's features of all sentences come first, and are then kept"
    speed, scored = _speeds(trainable, mode)
    part, whole = trainable.test_sizes
    epoch = trainable.units * trainable.unit_size / speed
    seconds = left * epoch + ((left - 1) * part + whole) / scored
    return (
        f"about {duration(seconds)}: {duration(epoch)} an epoch at {speed:,.0f} {trainable.unit}s/s, {scored:,.0f}/s in tests "
        f"(measured just now for a moment, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)})"
    )


def _speeds(trainable: Trainable, mode: InSituMode) -> tuple[float, float]:
    """Units that progress counts, per second: learnt, and scored; nothing of it is kept."""
    with forgotten(trainable):
        trainable.train(0, 0, mode.rate(0))  # compiles
        number, started = 0, time.monotonic()
        while (passed := time.monotonic() - started) < MEASURED_FOR or not number:
            trainable.train(0, number % trainable.units, mode.rate(0))
            number += 1
        trainable.test(0, False)
        started = time.monotonic()
        trainable.test(0, False)
        return number * trainable.unit_size / passed, trainable.test_sizes[0] / (time.monotonic() - started)


def _arrays(trainable: Trainable, mode: InSituMode) -> list[str]:
    unit, learners = trainable.unit, trainable.network.learners
    rows = [("array", "outputs × inputs", "weights", "devices", f"updates per {unit}", f"reads per {unit}")]
    weights = devices = 0
    for number, learner in enumerate(learners):
        own, uses = learner.outputs * learner.inputs, trainable.uses[number] if trainable.uses else 1
        every = getattr(learner, "transfer_every", 0)
        size, read = f"{learner.outputs} × {learner.inputs}", f"{uses / every:.3g}" if every else "–"
        rows.append((str(number), size, f"{own:,}", f"{own * len(learner.arrays()):,}", str(uses), read))
        weights, devices = weights + own, devices + own * len(learner.arrays())
    held = f"on {devices:,} devices" if mode.on_devices else "in floating point"
    widths = (5, 17, 9, 9, 19, 17)
    table = ["".join(f"{cell:>{width}} " for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    clipped = _clipped(mode, max(learner.inputs for learner in learners))
    return [*table, f"{weights:,} weights {held}; inputs count the bias", *clipped]


def _clipped(mode: InSituMode, inputs: int) -> list[str]:
    """At which weights of A the reads of all columns at once leave the ADC's range, by 3 σ of as many weights of any sign."""
    if not isinstance(mode, TTv2) or mode.vectors != "hadamard":
        return []
    bound = mode.periphery.output_bound
    return [f"Hadamard reads sum up to {inputs} devices of A and are clipped at ±{bound:g}: now and then from "
            f"an rms weight of A of {bound / (3 * math.sqrt(inputs)):.2g}, often above it"]  # fmt: skip
