"""Kernels against plain references: which one computes, on which threads, normal numbers, products of 8-bit codes."""

import logging
import math
import os
import subprocess
import sys
import threading

import pytest
import torch

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.devices.reram import ReRAM
from analog_glue.kernels import backend, fused
from analog_glue.kernels.backend import choose_kernel
from analog_glue.kernels.block_product import Float32Product
from analog_glue.kernels.gaussian import PART, NormalStream, fill_normal
from analog_glue.kernels.parallel import run
from analog_glue.kernels.products import LEVELS, MARGIN, ROUNDING, Int8Product, choose_product, make_product
from analog_glue.settings import Runtime

# --- which kernel --------------------------------------------------------------------------------------


@pytest.fixture
def without_a_compiler(monkeypatch):
    def fail(*arguments):
        raise OSError("no such target: z80\nand a long story")

    monkeypatch.setattr(fused, "noise_row", fail)
    backend._obstacle.cache_clear()
    yield
    backend._obstacle.cache_clear()


def test_compiled_kernels_are_taken_where_they_work(caplog):
    assert choose_kernel("auto", "cpu") == choose_kernel("compiled", torch.device("cpu")) == "compiled"
    assert choose_kernel("reference", "cpu") == "reference"
    assert not caplog.records


def test_without_a_compiler_auto_says_once_why_the_reference_computes(without_a_compiler, caplog):
    with caplog.at_level(logging.WARNING):
        assert choose_kernel("auto", "cpu") == "reference"
    (record,) = caplog.records
    assert "no such target: z80" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_without_a_compiler_compiled_kernels_are_refused(without_a_compiler):
    with pytest.raises(ValueError, match=r"`runtime.kernel` must be auto or reference .* but is 'compiled': .*z80"):
        choose_kernel("compiled", "cpu")
    assert choose_kernel("reference", "cpu") == "reference"


def test_there_are_no_compiled_kernels_for_other_devices():
    assert choose_kernel("auto", "mps") == "reference"
    with pytest.raises(ValueError, match="there are none for mps"):
        choose_kernel("compiled", "mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_kernels_are_refused():
    assert choose_kernel("auto", "cuda") == "reference"
    with pytest.raises(ValueError, match=r"but is 'compiled': Triton cannot compile \("):
        choose_kernel("compiled", "cuda")


@pytest.mark.parametrize("key", ["kernel", "product"])
def test_kernels_and_products_that_do_not_exist_are_refused_by_their_full_key(key):
    with pytest.raises(ValueError, match=rf"Setting `runtime.{key}` must be one of auto, .* but is 'foo'"):
        Runtime(**{key: "foo"})


# --- on several threads --------------------------------------------------------------------------------


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_pieces_run_once_each_without_gradients_also_from_within_a_piece(two_threads):
    done = torch.zeros(100)

    def mark(piece):
        assert not torch.is_grad_enabled()
        assert torch.get_num_threads() == 1  # a piece has one core to itself
        run(lambda inner: done[piece].add_(inner), [1, 2])  # a run inside a run

    run(mark, range(100))
    assert torch.equal(done, torch.full((100,), 3.0))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("fails_here", [True, False], ids=["calling thread", "other thread"])
def test_what_goes_wrong_on_any_thread_reaches_the_caller(two_threads, fails_here):
    caller = threading.current_thread()
    both_at_work = threading.Barrier(2, timeout=30)

    def piece(index):
        if index < 2:
            both_at_work.wait()  # so that either thread has a piece
        if (threading.current_thread() is caller) == fails_here:
            raise KeyError(f"piece {index}")

    for _ in range(2):  # and again: the first time leaves nothing broken behind
        with pytest.raises(KeyError, match="piece"):
            run(piece, range(20))
        assert torch.get_num_threads() == 2
    names = set()
    run(lambda index: (both_at_work.wait(), names.add(threading.current_thread().name)), range(2))
    assert len(names) == 2


@pytest.mark.parametrize("inference", [False, True])
def test_pieces_see_the_inference_mode_of_the_caller(two_threads, inference):
    seen = []
    with torch.inference_mode(inference):
        run(lambda index: seen.append(torch.is_inference_mode_enabled()), range(50))
    assert seen == [inference] * 50


# --- normal numbers ------------------------------------------------------------------------------------

N = 4 * PART + 12_345  # five parts, the last one short


@pytest.fixture(scope="module", params=["reference", "compiled"])
def fill(request):
    return lambda *shape, key=7: fill_normal(torch.empty(*shape), key, request.param)


@pytest.fixture(scope="module")
def sample(fill):
    return fill(N)


def test_moments_are_those_of_a_standard_normal(sample):
    # Standard errors of the first four moments over n draws: √(1/n), √(2/n), √(15/n), √(96/n).
    for power, expected, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        moment = sample.double().pow(power).mean().item()
        assert moment == pytest.approx(expected, abs=5 * math.sqrt(variance / N))


@pytest.mark.parametrize("beyond", [1.0, 2.0, 3.0, 4.0])
def test_both_tails_are_as_heavy_as_they_should_be(sample, beyond):
    expected = N * math.erfc(beyond / math.sqrt(2)) / 2
    for tail in (sample > beyond, sample < -beyond):
        assert tail.sum().item() == pytest.approx(expected, abs=5 * math.sqrt(expected))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_does_not_change_a_number(sample, fill, threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(fill(N), sample)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_shape_does_not_change_a_number(sample, fill):
    assert torch.equal(fill(5, N // 5).view(-1)[:1000], sample[:1000])


def test_keys_and_parts_are_independent(sample, fill):
    other = fill(N, key=8)
    bound = 5 / math.sqrt(PART)
    assert abs(torch.corrcoef(torch.stack([sample, other]))[0, 1]) < bound
    parts = sample[: 4 * PART].view(4, PART)
    assert (torch.corrcoef(parts) - torch.eye(4)).abs().max() < bound
    assert abs(torch.corrcoef(torch.stack([sample[1:], sample[:-1]]))[0, 1]) < bound


@pytest.mark.parametrize("bit", [0, 31, 32, 62])
def test_every_bit_of_a_key_matters(fill, bit):
    assert not torch.equal(fill(100, key=5), fill(100, key=5 ^ (1 << bit)))


def test_drawing_leaves_the_global_generator_alone(fill):
    before = torch.get_rng_state()
    fill(10)
    assert torch.equal(torch.get_rng_state(), before)


def test_fields_of_a_stream_are_independent_and_named_by_it(kernel):
    field = torch.empty(100, 2000)
    stream = NormalStream("chip", 3, kernel=kernel)
    one, two = stream.like(field), stream.like(field)
    again, other = NormalStream("chip", 3, kernel=kernel), NormalStream("chip", 4, kernel=kernel)
    assert torch.equal(again.like(field[:1])[0], one[0])  # a field of another shape is the same stream
    assert torch.equal(again.like(field), two)
    fields = torch.stack([one, two, other.like(field)]).flatten(1)
    assert (torch.corrcoef(fields) - torch.eye(3)).abs().max() < 5 / math.sqrt(field.numel())


# --- products ------------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (1, 5, 3), (2, 7, 13), (3, 33, 17), (2, 384, 384), (1, 3, 512)]  # row blocks, columns, rows


def weights_and_codes(shape, vectors=9, seed=0):
    draw = torch.Generator().manual_seed(seed)
    blocks, columns, rows = shape
    weights = torch.randn(blocks, columns, rows, generator=draw)
    codes = torch.randint(-127, 128, (vectors, blocks * rows), generator=draw).float()
    return weights, codes


def exactly(weights, codes):
    """Σ_j w_ij x_j in double precision, by the definition: [row blocks, vectors, columns]."""
    blocks, _, rows = weights.shape
    return torch.einsum("bcr,vbr->bvc", weights.double(), codes.double().view(len(codes), blocks, rows))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_float_product_is_the_sum_over_the_rows_of_every_block(shape):
    weights, codes = weights_and_codes(shape)
    bound = 1.2e-7 * shape[2] * 127 * weights.abs().max()  # one rounding of 2⁻²³ per term
    assert (Float32Product(weights).product(codes) - exactly(weights, codes)).abs().max() <= bound


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("kind", "levels"), [("int8", LEVELS), ("int8_single", 127)])
def test_the_int8_product_is_off_by_the_rounding_of_the_weights_alone(shape, kind, levels, kernel):
    weights, codes = weights_and_codes(shape)
    error = make_product(weights, kind, kernel).product(codes) - exactly(weights, codes)
    # A weight is off by at most half of largest / levels; the float scale costs a relative 2⁻²³ or two.
    half_step = weights.abs().max() / levels / 2
    bound = half_step * codes.abs().sum(dim=1).max() * 1.0001 + 3e-7 * exactly(weights, codes).abs().max()
    assert error.abs().max() <= bound
    # The roundings are independent and uniform, so the typical error is far smaller: √(Σ x² / 12) steps.
    if weights.numel() > 10_000:
        typical = 2 * half_step * codes.square().sum(dim=1).div(12 * shape[0]).mean().sqrt()
        assert error.square().mean().sqrt().item() == pytest.approx(typical.item(), rel=0.1)


def test_integer_weights_are_multiplied_exactly(kernel):
    draw = torch.Generator().manual_seed(1)
    integers = torch.randint(-LEVELS, LEVELS + 1, (2, 40, 512), generator=draw)
    integers[0, 0, 0] = LEVELS  # so that one step is exactly 1
    codes = torch.randint(-127, 128, (50, 1024), generator=draw)
    expected = exactly(integers, codes)
    assert expected.abs().max() < 2**24 * 40
    got = Int8Product(integers.float(), kernel=kernel).product(codes.float())
    assert torch.equal(got, expected.float())  # the one rounding is that of the result to float32


@pytest.mark.parametrize("bits", [8, 15])
def test_the_largest_sum_of_a_tile_does_not_overflow(bits, kernel):
    weights = torch.full((1, 2, 512), -1.0)
    codes = torch.full((1, 512), 127.0)
    product = Int8Product(weights, bits, kernel)
    assert torch.allclose(product.product(codes), torch.full((1, 1, 2), -512.0 * 127), rtol=2e-7)
    assert torch.allclose(product.variance(codes), torch.full((1, 1, 2), 512.0 * 127**2), rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bits", [8, 15])
def test_both_kernels_round_weights_to_the_same_integers(shape, bits):
    weights, _ = weights_and_codes(shape)
    weights[0, 0, 0] = 127 * 128.0
    weights[0, -1, -1] = -0.5  # ties go to the even integer
    reference, compiled = (Int8Product(weights, bits, kernel) for kernel in ("reference", "compiled"))
    assert reference.scale == compiled.scale
    assert torch.equal(reference.integers, compiled.integers)
    assert torch.equal(reference.magnitudes, compiled.magnitudes)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_float_variance_is_the_sum_of_magnitudes_times_squares(shape):
    weights, codes = weights_and_codes(shape)
    expected = exactly(weights.abs(), codes.square())
    assert torch.allclose(Float32Product(weights).variance(codes).double(), expected, rtol=1e-5)


# Inputs of a layer reach 15 to 90 standard deviations, so that most of its codes are small.
@pytest.mark.parametrize(("std_of_codes", "tolerance"), [(1.5, 0.03), (3.0, 0.02), (8.0, 0.005), (40.0, 0.001)])
@pytest.mark.parametrize("bits", [8, 15])
def test_the_int8_noise_has_the_right_strength_for_small_and_large_inputs(std_of_codes, tolerance, bits):
    draw = torch.Generator().manual_seed(2)
    weights = (0.25 * torch.randn(1, 384, 384, generator=draw)).clamp(-1, 1)
    codes = (std_of_codes * torch.randn(256, 384, generator=draw)).round().clamp(-127, 127)
    exact, got = exactly(weights.abs(), codes.square()), Int8Product(weights, bits).variance(codes).double()
    # 384 rows of dither decide about std²/127 per row: the fewer of them answer at all, the coarser the sum.
    assert (got.mean() / exact.mean()).sqrt().item() == pytest.approx(1, abs=tolerance)
    # Beside the output noise of a 10-bit ADC (half an LSB of 20/1022) even the coarsest does not matter.
    unit, output = (0.0175 / 127) ** 2, (10 / 1022) ** 2
    whole = ((got * unit + output) / (exact * unit + output)).sqrt()
    assert whole.mean().item() == pytest.approx(1, abs=0.003)


KINDS = ["int8", "int8_single", "float32"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_zero_give_zero(kind, kernel):
    product = make_product(torch.zeros(2, 4, 8), kind, kernel)
    codes = torch.full((3, 16), 127.0)
    assert not product.product(codes).any()
    assert not product.variance(codes).any()


@pytest.mark.parametrize("kind", KINDS)
def test_products_leave_weights_and_codes_as_they_are(kind, kernel):
    weights, codes = weights_and_codes((2, 7, 13))
    before = weights.clone(), codes.clone()
    product = make_product(weights, kind, kernel)
    product.product(codes), product.variance(codes), product.variance(codes)
    assert torch.equal(weights, before[0])
    assert torch.equal(codes, before[1])


@pytest.fixture
def integer_units(monkeypatch):
    """As on a CPU with fast products of 8-bit integers."""
    monkeypatch.setattr("analog_glue.kernels.integer_product.is_fast", lambda *tile: True)


def test_the_product_that_was_asked_for_is_taken():
    for kind in KINDS:
        assert choose_product(kind, "cpu", 0.0) == kind
    assert choose_product("auto", "cuda", 0.0) == "float16"
    assert choose_product("auto", "cuda", 0.0, "reference") == choose_product("auto", "mps", 1.0) == "float32"
    assert choose_product("auto", "cpu", 0.0) in ("int8", "float32")
    with pytest.raises(ValueError, match=r"`kind` must be one of int8, .*, float32, but is 'int4'"):
        make_product(torch.zeros(1, 1, 1), "int4")


def test_rounding_to_8_bits_is_as_strong_as_it_is_said_to_be():
    weights = torch.rand(1, 1000, 500, generator=torch.Generator().manual_seed(0))
    weights[0, 0, 0] = 1
    product = Int8Product(weights, 8)
    error = product.integers * product.scale - weights
    # The variance of a uniform error is known to √(4/5n).
    assert error.std().item() == pytest.approx(ROUNDING, rel=5 * math.sqrt(0.2 / weights.numel()) + 1e-3)


@pytest.mark.parametrize(
    ("noise_floor", "kind"),
    [
        (0.0, "int8"),
        (0.999 * MARGIN * ROUNDING, "int8"),
        (1.001 * MARGIN * ROUNDING, "int8_single"),
        (Ideal().noise_floor, "int8"),
        (PCM().noise_floor, "int8_single"),
        (PCM(noise_scale=0.5).noise_floor, "int8"),
        (PCM(noise_scale=0.0).noise_floor, "int8"),
        (ReRAM().noise_floor, "int8_single"),
    ],
)
def test_weights_are_rounded_to_8_bits_only_far_below_their_own_noise(integer_units, noise_floor, kind):
    assert choose_product("auto", "cpu", noise_floor) == kind


# --- what is kept on disk ------------------------------------------------------------------------------

CALLER = """
import numpy as np
from analog_glue.kernels.jit import compiled
from analog_glue.in_situ.kernels.lstm import softmax_gradient

@compiled
def losses(logits, gradients):
    total = 0.0
    for t in range(len(logits)):
        total += softmax_gradient(logits[t], logits.shape[1] - 9, t % 7, gradients[t])
    return total

logits = np.random.default_rng(0).normal(size=(200, 96)).astype(np.float32)
print(repr(losses(logits, np.empty_like(logits))))
"""


@pytest.mark.slow
def test_a_kernel_just_compiled_gives_the_bits_of_one_from_the_disk(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = [
        subprocess.run([sys.executable, tmp_path / "caller.py"], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert printed[0].stdout == printed[1].stdout
