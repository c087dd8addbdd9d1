"""One straight function for `extract` without a checkpoint: how well regression finds the weights of a random array (Figure 6).

The array holds normal weights, clipped to the nominal range ±`w_max` of the devices. Random inputs (or single columns, for
comparison) go through its noisy products, and the estimate is compared with the array on the way: after n, 1.25 n, 1.5 n, 2 n …
products of n inputs. All errors are in units of `w_max`, so that the range is [−1, 1] as in Gokmen (2021). One file is written,
`<output_root>/random_array-<outputs>x<inputs>-<form>-seed<seed>-<id>/extraction_error.csv`, and a run.json beside it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from analog_glue.in_situ.extraction.regression import (
    CHUNK,
    Regression,
    expected_error,
    products,
    random_inputs,
    unsaturated_amplitude,
)
from analog_glue.in_situ.files import ARRAY_ERROR
from analog_glue.in_situ.kernels.matvec import IO
from analog_glue.in_situ.nn.learner import Stream, zeros
from analog_glue.in_situ.training.mode import Periphery
from analog_glue.progress import Progress
from analog_glue.runs import legacy
from analog_glue.runs.cells import read_cells, write_cells
from analog_glue.runs.folder import recorded, working_in
from analog_glue.runs.identity import Identity, resolved
from analog_glue.runs.lookup import find_run
from analog_glue.runs.provenance import provenance
from analog_glue.seeding import key
from analog_glue.settings import Extract, RandomArray, RunSettings

LOOKS = (1, 1.25, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)  # products in units of the number of inputs
Row = dict[str, float | int | str | None]


def extract_array(settings: RunSettings, log: Callable[[str], None] = print) -> tuple[Path, str]:
    """Measure the error of extraction on the random array that `settings.extract.array` describes.

    Returns:
        The folder that was written, and a table for the terminal.
    """
    chosen = settings.extract
    assert chosen.array is not None
    if settings.runtime.threads:
        torch.set_num_threads(settings.runtime.threads)
    identity = Identity({**resolved("extract", chosen), "seed": settings.seed})
    size = f"{chosen.array.outputs}x{chosen.array.inputs}"
    stem, before = f"random_array-{size}-{chosen.inputs}-seed{settings.seed}", legacy.array_id(chosen, settings.seed)
    found = find_run(Path(settings.output_root), stem, identity, before, lambda folder, record: True)
    folder, name = found.folder, found.name
    if settings.dry_run:
        return folder, f"{name}: {chosen.products:,} products with an array of {size.replace('x', ' × ')}"
    if (folder / ARRAY_ERROR).is_file() and not settings.force:
        log(f"Already done: {folder}")
        return folder, _table(read_cells(folder / ARRAY_ERROR))
    facts = provenance(command="extract", name=name, seed=settings.seed, extract=asdict(chosen), identity=identity.payload)
    with working_in(folder), recorded(folder, facts):
        with Progress(f"seed {settings.seed}", chosen.products, "product", log=log) as progress:
            rows = list(measure(chosen, chosen.array, settings.seed, progress.update))
        write_cells(folder / ARRAY_ERROR, rows)
    return folder, _table(rows)


def random_weights(array: RandomArray, seed: int) -> np.ndarray:
    """Normal weights of spread `weight_std` in units of the range, clipped to it: float32 (outputs, inputs) [device units]."""
    random = np.random.Generator(np.random.Philox(key(seed, "random array")))
    values = random.normal(0, array.weight_std, (array.outputs, array.inputs)).clip(-1, 1)
    return (array.w_max * values).astype(np.float32)


def measure(chosen: Extract, array: RandomArray, seed: int, done: Callable[[int], None] = lambda _: None) -> Iterator[Row]:
    """Rows of `extraction_error.csv`, one for each look at the estimate; `done` as in `extraction.extract`."""
    io = Periphery(output_noise=array.output_noise).forward
    io = io._replace(noise_management=False, bound_management=False)
    true, stream = random_weights(array, seed), Stream.of(key(seed, "extraction"), 0)
    seen = zeros(*true.shape)
    seen[:, : array.inputs] = true
    quantised_noise = math.hypot(array.output_noise, 2 * io.bound / io.adc_steps / math.sqrt(12) if io.adc_steps else 0)
    sums = Regression(array.outputs, array.inputs)
    uniform = chosen.inputs == "uniform"
    if uniform:
        sums.amplitude = chosen.amplitude or unsaturated_amplitude(seen, array.inputs, io, stream)
    for number in looks(chosen.products, array.inputs, whole=not uniform):
        _send(sums, seen, io, number, stream, uniform, done)
        found = sums.weights()
        error = float(np.sqrt(np.mean((found - true) ** 2)))
        if uniform:
            law = expected_error(quantised_noise, number, array.inputs, sums.amplitude)
        else:
            law = quantised_noise * math.sqrt(array.inputs / number)
        estimated = sums.weight_error()
        yield {
            "outputs": array.outputs, "inputs": array.inputs, "output_noise": array.output_noise, "form": chosen.inputs,
            "amplitude": sums.amplitude, "seed": seed, "products": number, "error": error / array.w_max,
            "estimated_error": None if math.isnan(estimated) else estimated / array.w_max, "law": law / array.w_max,
            "correlation": float(np.corrcoef(found.ravel(), true.ravel())[0, 1]),
        }  # fmt: skip


def looks(number: int, inputs: int, whole: bool) -> list[int]:
    """After how many products to look at the estimate, up to `number`; `whole`: multiples of the number of columns only."""
    if whole:
        return [inputs * int(n) for n in LOOKS if n == int(n) and inputs * n <= max(number, inputs)]
    return sorted({math.ceil(inputs * n) for n in LOOKS if inputs < inputs * n < number} | {number})


def _send(
    sums: Regression, seen: np.ndarray, io: IO, until: int, stream: Stream, uniform: bool, done: Callable[[int], None]
) -> None:
    """Apply products until there are `until`."""
    eye = np.eye(sums.inputs, dtype=np.float32)
    while sums.products < until:
        first = sums.products
        count = min(CHUNK - first % CHUNK, until - first)
        if uniform:
            sums.apply(seen, random_inputs(first, count, sums.inputs, sums.amplitude, stream), io, first, stream)
        else:
            columns = eye[np.arange(first, first + count) % sums.inputs]
            sums.add(columns, products(seen, sums.inputs, columns, io, first, stream))
        done(count)


def _table(rows: list[Row]) -> str:
    lines = ["products     error  estimated       law  correlation    (errors in units of the range ±1)"]
    for row in rows:
        estimated = f"{float(row['estimated_error']):9.5f}" if row["estimated_error"] not in (None, "") else f"{'–':>9}"
        numbers = f"{float(row['law']):8.5f}  {float(row['correlation']):11.5f}"
        lines.append(f"{int(row['products']):8,}  {float(row['error']):8.5f}  {estimated}  {numbers}")
    return "\n".join(lines)
