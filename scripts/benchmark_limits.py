"""What one core of this machine can do at most, and where the time of a fused product goes."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from benchmark_timing import Measure, interleaved
from torch import nn

from analog_glue.kernels.gaussian import fill_normal


@torch.no_grad()
def limits(rounds: int) -> Iterator[Measure]:
    """What one core of this machine can do at most, and where the time of a fused product goes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _limits(rounds)
    finally:
        torch.set_num_threads(threads)


def _limits(rounds: int) -> Iterator[Measure]:
    from analog_glue.kernels import fused, integer_gemm
    from analog_glue.kernels.packed import NO_SHARES

    def rate(name: str, amount: float, case: Callable[[], object], what: str) -> Measure:
        rates = [amount / seconds / 1e9 for seconds in interleaved({"case": case}, rounds)["case"]]
        return Measure(name, "rate", max(rates), min(rates), max(rates), "", f"{what}, one core, best of {rounds}")

    vectors, blocks, rows, columns = 512, 2, 384, 3072
    macs = vectors * blocks * rows * columns
    x, layer = torch.randn(vectors, blocks * rows), nn.Linear(blocks * rows, columns)
    yield rate("fp32_macs", macs, lambda: layer(x), "multiply-adds of nn.Linear 768→3072, 512 tokens")
    source, target = torch.randn(2**26), torch.empty(2**26)
    yield rate("copied_bytes", 8 * 2**26, lambda: target.copy_(source), "bytes read and written by a copy")
    numbers = torch.empty(2**22)
    for kernel in ("reference", "compiled"):
        what = f"normal numbers ({kernel} kernel)"
        yield rate(f"normals_{kernel}", 2**22, lambda kernel=kernel: fill_normal(numbers, 1, kernel), what)
    if not integer_gemm.available():
        return
    draw = np.random.default_rng(0)
    integers = draw.integers(-127, 128, (blocks, columns, rows)).astype(np.int8)
    packed, part = integer_gemm.pack(integers), integer_gemm.PART
    codes = draw.integers(-127, 128, (part, rows)).astype(np.int8)
    sums = np.empty((part, columns), np.int32)
    repeats = 16

    def products() -> None:
        for _ in range(repeats):
            integer_gemm.multiply(codes, packed[0], sums)

    yield rate("int8_macs", repeats * part * rows * columns, products, "multiply-adds of 8-bit integers, 32 tokens at a time")
    all_sums, variances = (draw.integers(0, 1000, (blocks, part, columns)).astype(np.int32) for _ in range(2))
    f32, step, out = np.float32, np.ones((blocks, columns), np.float32), np.empty((part, columns), np.float32)
    none, ones = np.empty((0, 0, 0), np.int8), np.ones((blocks, part), f32)

    def outputs(noisy: bool) -> None:
        key = np.uint32(1), np.uint32(2)
        units, adc = (f32(0.1), f32(0.01)), (f32(0.25), noisy, f32(511))
        for _ in range(repeats):
            fused.digitise(
                all_sums, False, variances, ones, *NO_SHARES, *units, *adc, step, np.zeros(columns, f32), 0, *key, out, none
            )

    amount = repeats * blocks * part * columns
    yield rate("adc_outputs", amount, lambda: outputs(True), "ADC outputs with noise: draw, add, round, scale, sum")
    yield rate("adc_outputs_quiet", amount, lambda: outputs(False), "the same without noise")
    per_input = np.full(blocks * rows, 30, np.float32)
    inputs, driven = x[:part].numpy(), np.empty((blocks, part, rows), np.int8)
    dac = np.empty((part, blocks * rows), np.int8)

    def drive() -> None:
        for _ in range(repeats):
            arrays = np.full(blocks, rows), np.full(rows, 0.5, np.float32), dac, driven, driven.copy(), ones
            fused.drive(inputs, per_input, f32(127), *arrays)

    yield rate("dac_inputs", repeats * part * blocks * rows, drive, "DAC inputs: codes and their squares")
