"""Triton kernels against the reference and the compiled kernels: on a GPU where there is one, else in Triton's interpreter."""

import importlib.util
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed (extra `dev`, Linux only)", allow_module_level=True)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read where kernels are defined, so before they are imported

import triton
import triton.language as tl

from analog_glue.devices.pcm import PCM
from analog_glue.kernels import threefry as cpu
from analog_glue.kernels import triton_threefry as gpu
from analog_glue.kernels.gaussian import fill_normal
from analog_glue.kernels.triton_product import Float16Product
from analog_glue.kernels.triton_weights import noisy
from analog_glue.nn.weight_noise import WeightNoise, _polynomial
from analog_glue.seeding import key
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.tiles.mapping import weight_scale
from analog_glue.tiles.mvm import mvm
from analog_glue.tiles.operands import ClippedOutputs, ReadyWeights, Scaling
from analog_glue.tiles.triton_mvm import triton_mvm

KEY = key("test of Triton")
# Both are the same number within the last places of √(−2 ln u) ≤ 5.9 and of a sine.
SAME_NORMAL = 5.9 * 2.0**-19

# --- random numbers ------------------------------------------------------------------------------------


@triton.jit
def words_of(out, c1, c2, c3, k0, k1, COUNTERS: tl.constexpr):
    i = tl.arange(0, COUNTERS)
    c0 = i.to(tl.uint32)
    words = gpu.threefry(c0, c1.to(tl.uint32), c2.to(tl.uint32), c3.to(tl.uint32), k0.to(tl.uint32), k1.to(tl.uint32))
    for n in tl.static_range(4):
        tl.store(out + 4 * i + n, words[n].to(tl.int32, bitcast=True))


@pytest.mark.parametrize("name", [(0, 0, 0), (1, 2, 3), (2**31 - 1, 0, 7)], ids=str)
@pytest.mark.parametrize("stream", [0, KEY, 2**63 - 1, 0x80000000_FFFFFFFF], ids=hex)
def test_words_are_those_of_the_cpu_bit_for_bit(name, stream):
    out = torch.empty(256, 4, dtype=torch.int32, device=DEVICE)
    words_of[(1,)](out, *name, *gpu.key_words(stream), COUNTERS=256)
    expected = np.empty((256, 4), np.uint32)
    halves = np.uint32(stream & 0xFFFFFFFF), np.uint32(stream >> 32)
    cpu.words(expected, *map(np.uint32, name), *halves, np.uint32(0), np.uint32(0))
    assert np.array_equal(out.cpu().numpy().view(np.uint32), expected)


@pytest.fixture(scope="module")
def sample():
    return gpu.fill(torch.empty(60 * cpu.ROW + 777, device=DEVICE), KEY).cpu()


@pytest.mark.slow
def test_a_key_names_the_stream_that_it_names_on_the_cpu(sample):
    assert (sample - fill_normal(torch.empty_like(sample), KEY, "compiled")).abs().max() < SAME_NORMAL


def test_moments_are_those_of_a_standard_normal(sample):
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        moment = sample.double().pow(power).mean().item()
        assert moment == pytest.approx(expected, abs=5 * math.sqrt(variance / len(sample)))


def test_both_tails_of_three_sigma_hold_as_many_numbers_as_they_should(sample):
    expected = len(sample) * math.erfc(3 / math.sqrt(2)) / 2
    for tail in (sample > 3, sample < -3):
        assert tail.sum().item() == pytest.approx(expected, abs=5 * math.sqrt(expected))


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("inputs", [8, 21, 30])  # two row blocks of the same and of different length
def test_weight_noise_is_that_of_the_compiled_kernel(inputs, mirrored):
    crossbar, noise = Crossbar(rows=16), WeightNoise(scale=2.0, mirrored=mirrored)
    grid = crossbar.grid(13, inputs)
    weight = torch.randn(13, inputs, generator=torch.Generator().manual_seed(0))
    weight[3, 5] = 0
    scale = weight_scale(grid.to_blocks(weight), grid, "column") * 0.9  # some weights are clipped
    expected = noise.noisy(weight, scale, grid, PCM(), KEY, "compiled")
    spread = tuple(_polynomial(noise, PCM()).tolist())
    got = noisy(weight.to(DEVICE), scale.to(DEVICE), grid.row_blocks, spread, mirrored, KEY)
    assert (got.cpu() - expected).abs().max() < SAME_NORMAL  # the spread is less than 1


# --- products ------------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (5, 3, 2), (37, 53, 9), (64, 96, 70), (130, 200, 33)]  # outputs, inputs, vectors
PRODUCTS = ["float16", "float32"]


def layer(shape, crossbar, fine=False):
    """Inputs, weights and scaling of a layer.

    Weights are multiples of 1/128 (of 2⁻²⁰ if `fine`), so float16 holds them and sums of up to 2⁹ products with codes below
    2⁷ are multiples of 1/128 below 2¹⁶: float32 holds them too, in whatever order they are added.
    """
    outputs, inputs, vectors = shape
    draw = torch.Generator().manual_seed(outputs)
    grid = crossbar.grid(outputs, inputs)
    steps = 2**20 if fine else 128
    blocks = grid.to_blocks(torch.randint(-steps, steps + 1, (outputs, inputs), generator=draw) / steps)
    x = torch.randn(vectors, inputs, generator=draw)
    count = len(grid.row_blocks)
    input_range, scale = torch.full((count,), 2.5), torch.rand(count, outputs, generator=draw) + 0.5
    bias = torch.randn(outputs, generator=draw) if outputs > 1 else None
    return x, blocks, grid, Scaling.of(input_range, scale, grid, crossbar, bias)


def by_triton(x, blocks, grid, crossbar, scaling, product):
    """Output, DAC codes, and where outputs clip."""
    ready = ReadyWeights.of(blocks.to(DEVICE), grid, crossbar, "float32")
    if product == "float16":
        ready = replace(ready, product=Float16Product(blocks.to(DEVICE)))
    bias = None if scaling.bias is None else scaling.bias.to(DEVICE)
    scaling = Scaling(scaling.per_input.to(DEVICE), scaling.step.to(DEVICE), bias)
    clipped = ClippedOutputs()
    y, codes = triton_mvm(x.to(DEVICE), ready, scaling, KEY, clipped)
    return y.cpu(), codes.cpu(), [part.cpu() for part in clipped.gathered(torch.device(DEVICE))]


def by_cpu(x, blocks, grid, crossbar, scaling, kernel):
    clipped = ClippedOutputs()
    y, codes = mvm(x, ReadyWeights.of(blocks, grid, crossbar, "float32", kernel), scaling, KEY, clipped)
    return y, codes, clipped.gathered(x.device)


@pytest.mark.slow
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("periphery", [{}, {"adc_bits": 4}, {"adc_bits": None}, {"dac_bits": 4}], ids=str)
def test_without_noise_it_is_the_reference_bit_for_bit(shape, periphery, product):
    crossbar = Crossbar(rows=48, adc_bound=2.0, read_noise=0.0, output_noise=0.0)
    crossbar = replace(crossbar, **periphery)
    x, blocks, grid, scaling = layer(shape, crossbar)
    y, codes, (places, signs) = by_triton(x, blocks, grid, crossbar, scaling, product)
    expected, expected_codes, (expected_places, expected_signs) = by_cpu(x, blocks, grid, crossbar, scaling, "reference")
    assert torch.equal(codes, expected_codes) and codes.dtype == torch.int8
    assert torch.equal(y, expected)
    order = expected_places.argsort()  # the reference notes chunk by chunk
    assert torch.equal(places, expected_places[order]) and torch.equal(signs, expected_signs[order])
    assert len(places) > 0 or crossbar.adc_bits is None or shape[0] < 37  # the larger layers do clip


def largest_noise(codes, blocks, grid, crossbar, scaling):
    """5.9 σ of every output, by the law, in double precision: what no noise exceeds."""
    padded = grid.pad_inputs(codes).double().view(len(codes), len(grid.row_blocks), -1) / crossbar.dac.full_scale
    variance = torch.einsum("vbr,bcr->vbc", padded.square(), blocks.double().abs()) * crossbar.read_noise**2
    std = (variance / crossbar.adc.lsb**2 + crossbar.output_noise**2).sqrt()  # [LSB]
    return 5.9 * (std * scaling.step.double()).sum(dim=1)


@pytest.mark.slow
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("noise", ["read", "output", "both"])
def test_the_noise_of_a_key_is_that_of_the_compiled_kernel(shape, noise, product):
    crossbar = Crossbar(rows=48, adc_bits=None, output_noise=0.0, read_noise=0.03 * (noise != "output"))
    if noise != "read":  # output noise counts in LSB, so there must be some: much finer than the noise
        crossbar = replace(crossbar, adc_bits=20, adc_bound=64.0, output_noise=3000.0)
    x, blocks, grid, scaling = layer(shape, crossbar)
    y, codes, _ = by_triton(x, blocks, grid, crossbar, scaling, product)
    expected, _, _ = by_cpu(x, blocks, grid, crossbar, scaling, "compiled")
    # float16 rounds squares of codes by 2⁻¹¹ at most, so a std by 2⁻¹²; then normals as above, and the last place of a sum.
    bound = largest_noise(codes, blocks, grid, crossbar, scaling) * (2.0**-12 + 2.0**-20) + 1e-6 * (1 + expected.abs().max())
    if crossbar.adc_bits is not None:
        bound += 1.001 * scaling.step.sum(dim=0)  # one code
    assert ((y - expected).abs() <= bound).all()


@pytest.mark.slow
@pytest.mark.parametrize("product", PRODUCTS)
def test_with_all_noise_hardly_a_code_differs_from_the_compiled_kernel(product):
    crossbar = Crossbar(rows=48)
    x, blocks, grid, scaling = layer((130, 200, 33), crossbar)
    y, _, _ = by_triton(x, blocks, grid, crossbar, scaling, product)
    expected, _, _ = by_cpu(x, blocks, grid, crossbar, scaling, "compiled")
    # A std of 2 LSB that is off by 2⁻¹² at most moves one of five codes across a tie in less than 1 % of the sums.
    assert (y != expected).float().mean() < 0.01
    assert ((y - expected).abs() <= 1.001 * scaling.step.amax(dim=0)).all()


def test_float16_weights_cost_no_more_than_their_rounding():
    crossbar = Crossbar(rows=48, adc_bits=None, read_noise=0.0, output_noise=0.0)
    x, blocks, grid, scaling = layer((130, 200, 33), crossbar, fine=True)
    y, codes, _ = by_triton(x, blocks, grid, crossbar, scaling, "float16")
    expected, _, _ = by_cpu(x, blocks, grid, crossbar, scaling, "reference")
    padded = grid.pad_inputs(codes).double().abs().view(len(x), len(grid.row_blocks), -1)
    worth = scaling.step.double() / crossbar.dac.full_scale
    bound = torch.einsum("vbr,bcr,bc->vc", padded, blocks.double().abs(), worth) * 2.0**-11
    assert not torch.equal(y, expected)
    assert ((y - expected).abs() <= bound + 1e-5).all()


@pytest.mark.parametrize("periphery", [{"dac_bits": 10}, {"dac_bits": None}, {"ir_drop": 1.0}], ids=str)
def test_finer_inputs_and_the_ir_drop_take_float32_products(periphery):
    crossbar = replace(Crossbar(rows=48, read_noise=0.0, output_noise=0.0, adc_bits=None), **periphery)
    x, blocks, grid, scaling = layer((37, 53, 9), crossbar, fine=True)
    y, codes, _ = by_triton(x, blocks, grid, crossbar, scaling, "float32")
    expected, expected_codes, _ = by_cpu(x, blocks, grid, crossbar, scaling, "reference")
    assert torch.equal(codes, expected_codes)
    assert torch.allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("part", [slice(0, 20), slice(0, 1)], ids=str)
def test_the_noise_of_a_vector_does_not_depend_on_how_many_follow(part):
    crossbar = Crossbar(rows=48)
    x, blocks, grid, scaling = layer((37, 53, 70), crossbar)
    whole, _, _ = by_triton(x, blocks, grid, crossbar, scaling, "float16")
    assert torch.equal(by_triton(x[part], blocks, grid, crossbar, scaling, "float16")[0], whole[part])


# --- on paper, for a GPU -------------------------------------------------------------------------------

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from analog_glue.kernels import triton_mvm, triton_threefry, triton_weights

def compile(kernel, types, constants):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    fixed = {(names.index(name),): value for name, value in constants.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    source = ASTSource(kernel, signature, fixed, aligned)
    return triton.compile(source, GPUTarget("cuda", capability, 32), {"enable_fp_fusion": False}).asm["ptx"]

for capability in (80, 90):
    floats = dict.fromkeys(("unit", "variance_unit", "output_variance", "full_scale"), "fp32")
    arrays = dict.fromkeys(("x", "per_input", "weight", "scale", "step", "bias", "out", "blocks"), "*fp32")
    ptx = compile(triton_threefry._fill, arrays, {})
    assert "shf.l.wrap.b32" in ptx  # a rotation is one instruction
    compile(triton_mvm._drive, {**arrays, **floats, "codes": "*i8"}, {"BLOCK": 1024})
    compile(triton_weights._noisy, arrays, {"spread": (0.1, 0.2, 0.3, 0.4, 0.5), "MIRRORED": False, "BLOCK": 128})

    of_layer = {**arrays, **floats, "clipped": "*i8", "blocks": "i32"}
    flags = {"NOISY": True, "CONVERTS": True, "BLOCK_V": 64, "BLOCK_C": 64, "BLOCK_R": 64}
    product = {"codes": "*i8", "weights": "*fp16", "magnitudes": "*fp16"}
    sums = {"currents": "*fp32", "variances": "*fp32"}
    ptx = compile(triton_mvm._layer.fn, {**of_layer, **product}, {**flags, **dict.fromkeys(sums)})
    assert ptx.count("mma") > 0 and "f32.f16.f16" in ptx  # on tensor cores, summed in float32
    assert "mma" not in compile(triton_mvm._layer.fn, {**of_layer, **sums}, {**flags, **dict.fromkeys(product)})
"""


@pytest.mark.slow
def test_kernels_compile_for_gpus_that_are_not_there(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
