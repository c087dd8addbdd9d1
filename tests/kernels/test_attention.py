"""Attention in integers: the compiled form has the reference's bits, sums are exact, and steps learn as LSQ says."""

import importlib
import math

import numpy as np
import pytest
import torch
from llvmlite import ir

pytest.importorskip("numba", reason="numba does not import here", exc_type=ImportError)

from analog_glue.kernels import integer_gemm
from analog_glue.kernels.attention import (
    Codes,
    Scales,
    attend,
    gradients_of_multiples,
    learned_step,
    to_codes,
    to_multiples,
)
from analog_glue.kernels.instruction_sets import AVX2, AVX512_BW, AVX512_VNNI, AVX_VNNI, chosen, vector
from analog_glue.nn.attention import Attention
from tests.kernels.test_integer_gemm import assembly

needs_products = pytest.mark.skipif(
    chosen() is None or chosen().words is None, reason="this CPU has no integer products that numba compiles for"
)
ODD_SHAPES = (  # examples, heads, tokens, d
    *((1, 1, 1, 1), (1, 2, 1, 4), (2, 3, 5, 7), (2, 2, 8, 16), (1, 2, 33, 5), (2, 12, 31, 32), (1, 3, 130, 64)),
    *((2, 2, 17, 65), (1, 1, 64, 48), (3, 1, 3, 130)),
)
HIDDEN = torch.finfo(torch.float32).min


def bits_of(x):
    return x.contiguous().view(torch.int32)


def as_codes(bits, signed=False):
    attention = Attention(bits=bits, signed_probabilities=signed)
    return Codes(attention.largest, attention.largest_probability)


def masks(shape, draw):
    """None, hidden keys, hidden pairs, and a bias of every head: of each example, of all, of all keys."""
    examples, heads, tokens, _ = shape
    keys = torch.where(torch.rand(examples, 1, 1, tokens, generator=draw) < 0.3, HIDDEN, 0.0)
    keys[..., 0] = 0
    pairs = keys.expand(examples, 1, tokens, tokens).contiguous()
    bias = torch.randn(examples, heads, tokens, tokens, generator=draw)
    return None, keys, pairs, keys + bias, bias[:1], bias[..., :1]


@pytest.mark.parametrize("shape", ODD_SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_compiled_form_has_the_bits_of_the_reference(shape, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    draw = torch.Generator().manual_seed(sum(shape))
    examples, heads, tokens, d = shape
    for bits, signed in ((2, True), (2, False), (4, False), (8, True), (8, False), (9, False), (10, True), (12, False)):
        codes = as_codes(bits, signed)
        for number, mask in enumerate(masks(shape, draw)):
            q, k, v = (torch.randn(examples, tokens, heads, d, generator=draw).transpose(1, 2) for _ in range(3))
            if number % 2:  # another order in memory
                q, v = q.contiguous(), v.transpose(2, 3).contiguous().transpose(2, 3)
            # From a range that clips half of the numbers to one that clips none.
            scales = Scales(*(torch.rand(3, generator=draw) * 4 / codes.operands + 1e-3).tolist(), 0.7 / codes.probabilities)
            given = q, k, v, mask, d**-0.5, scales, codes
            out, p = attend(*given)
            compiled_out, compiled_p = attend.by("compiled", "cpu")(*given)
            out_alone, nothing = attend.by("compiled", "cpu")(*given, wants_p=False)
            assert torch.equal(bits_of(out), bits_of(compiled_out)), (bits, signed, number)
            assert torch.equal(bits_of(p), bits_of(compiled_p)), (bits, signed, number)
            assert torch.equal(bits_of(out), bits_of(out_alone)) and nothing is None


@pytest.mark.parametrize("v_sign", [1, -1])
@pytest.mark.parametrize("bits, tokens", [(8, 512), (10, 512), (12, 256)])
def test_the_largest_sums_of_probabilities_are_exact(kernel, bits, tokens, v_sign):
    codes = as_codes(bits)
    own, p = codes.operands, codes.probabilities
    equal = torch.full((1, 1, tokens, 3), 9.0)  # so all probabilities are 1 / tokens, which the largest code stands for
    scales = Scales(9 / own, 9 / own, 9 / own, 1 / p / tokens / 4)
    out, multiples = attend.by(kernel, "cpu")(equal, equal, equal * v_sign, None, 1.0, scales, codes)
    assert torch.equal(multiples, torch.full_like(multiples, p).mul_(scales.p))
    expected = np.float32(v_sign * own * p * tokens) * np.float32(scales.p * scales.v)
    assert (out == float(expected)).all()


@needs_products
@pytest.mark.parametrize("kind, own", [(np.uint8, 31), (np.uint8, 127), (np.int16, 511), (np.int16, 2047)])
@pytest.mark.parametrize("d", [1, 6, 37, 500])
def test_scores_are_those_of_integer_arithmetic(kind, own, d):
    from analog_glue.kernels.attention_heads import HEIGHT, SET, scores_of

    if kind is np.uint8 and SET.bytes is None:
        kind = np.int16  # as it is taken there
    tokens, unit = 33, np.float32(1)
    draw = np.random.default_rng(d)
    q, k = (draw.choice([-own, 1 - own, 0, own - 1, own], (tokens, d)) for _ in range(2))
    q[0], q[1], k[0], k[1] = own, -own, own, -own
    rows = np.empty((HEIGHT, -(-d // 4) * 4), kind)
    steps, nothing = (0, 0, d), (np.empty(0, np.float32), (0, 0, 0))
    memory = [(x.astype(np.float32).ravel(), steps) for x in (q, k)]
    out = np.empty((1, tokens, tokens), np.float32)
    assert scores_of(*memory[0], *memory[1], d, *nothing, (unit, unit), np.float32(own), unit, 1, 0, rows, out)
    sums = q.astype(np.int64) @ k.T.astype(np.int64)
    assert abs(sums).max() == own * own * d < 2**31
    np.testing.assert_array_equal(out[0], sums.astype(np.float32))


@pytest.mark.parametrize(
    ("instructions", "bits", "expected"),
    [
        *((AVX512_VNNI, 8, "vpdpbusd"), (AVX512_VNNI, 16, "vpdpwssd"), (AVX512_BW, 16, "vpmaddwd")),
        *((AVX_VNNI, 8, "{vex}\tvpdpbusd"), (AVX_VNNI, 16, "{vex}\tvpdpwssd"), (AVX2, 16, "vpmaddwd")),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_tiles_compile_to_the_instructions_of_every_set(instructions, bits, expected, monkeypatch):
    heads = importlib.import_module("analog_glue.kernels.attention_heads")
    lanes = instructions.signed.lanes
    for name, value in (("SET", instructions), ("LANES", lanes), ("SUMS", vector(32, lanes))):
        monkeypatch.setattr(heads, name, value)
    module = ir.Module()
    module.triple = "x86_64-linux-gnu"
    heads._tile_function(module, bits).linkage = "external"
    text = assembly(module, ",".join(instructions.features[0]))
    assert expected in text
    assert ("zmm" in text) == (lanes == 16)


@pytest.mark.parametrize("step", [0.25, 0.1])
def test_half_steps_are_rounded_to_even_codes_after_a_division(kernel, step):
    step = float(np.float32(step))
    x = (torch.arange(-12, 13) + 0.5).mul_(step)  # 4.5 · 0.1 in float32 times 1 / 0.1 would lie beside the half step
    expected = (x.numpy() / np.float32(step)).round().clip(-7, 7)
    assert torch.equal(to_codes(x, step, -7, 7), torch.from_numpy(expected))
    found = to_multiples.by(kernel, "cpu")(x, torch.tensor(step), -7, 7)
    assert torch.equal(found, torch.from_numpy(expected * np.float32(step)))
    # One token with one entry: P is 1 and the output is the code of V.
    v = x.view(-1, 1, 1, 1)
    out, _ = attend.by(kernel, "cpu")(v, v, v, None, 1.0, Scales(step, step, step, 1 / 15), Codes(7, 15))
    unit = np.float32(1 / 15 * step)
    assert torch.equal(out.flatten(), torch.from_numpy(expected * 15 * unit))


@pytest.mark.parametrize("where", range(3))
def test_what_is_not_a_number_is_not_hidden_in_a_code(kernel, where):
    operands = [torch.ones(2, 1, 6, 4) for _ in range(3)]
    operands[where][1, 0, 2, 3] = math.nan
    out, _ = attend.by(kernel, "cpu")(*operands, None, 0.5, Scales(0.1, 0.1, 0.1, 0.01), Codes(127, 255))
    assert out[0].isfinite().all() and out[1].isnan().any()
    multiples = to_multiples.by(kernel, "cpu")(operands[where], torch.tensor(0.1), -127, 127)
    assert torch.equal(multiples.isnan(), operands[where].isnan())


def test_sums_that_exceed_32_bits_are_left_to_the_reference(kernel):
    codes, tokens = as_codes(12), 600
    ones = torch.ones(1, 1, tokens, 1)
    scales = Scales(1 / codes.operands, 1 / codes.operands, 1 / codes.operands, 1 / codes.probabilities / tokens / 2)
    out, _ = attend.by(kernel, "cpu")(ones, ones, ones, None, 1.0, scales, codes)
    total = codes.operands * codes.probabilities * tokens
    assert total > 2**31
    assert (out == float(np.float32(total) * np.float32(scales.p * scales.v))).all()


def test_no_token_is_no_error(kernel):
    nothing = torch.empty(0, 2, 5, 4)
    out, p = attend.by(kernel, "cpu")(nothing, nothing, nothing, None, 1.0, Scales(1, 1, 1, 1), Codes(127, 255))
    assert out.shape == (0, 2, 5, 4) and p.shape == (0, 2, 5, 5)


def test_a_cpu_without_the_instructions_takes_the_reference(monkeypatch):
    def refused(*_):
        raise AssertionError("taken")

    monkeypatch.setattr(integer_gemm, "available", lambda: False)
    monkeypatch.setattr("analog_glue.kernels.attention_heads.attend_heads", refused)
    q, k, v = torch.randn(3, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    given = q, k, v, None, 0.3, Scales(0.1, 0.1, 0.1, 0.01), Codes(127, 255)
    assert torch.equal(attend.by("compiled", "cpu")(*given)[0], attend(*given)[0])


# --- learned steps -------------------------------------------------------------------------------------------------------


def example(shape, seed=0):
    """Numbers of which a fifth lies beyond the range of ±7 steps, some on half steps; and a gradient."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draw) * 2
    step = torch.tensor(0.37)
    x.view(-1)[::5] = ((x / step).floor() + 0.5).mul(step).view(-1)[::5]
    return x, step, torch.randn(shape, generator=draw)


@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (255,), (257,), (2**15 + 1,), (2, 3, 129, 128)], ids=str)
@pytest.mark.parametrize("lowest", [-7, 0])
def test_compiled_steps_have_the_bits_of_the_reference(shape, lowest):
    x, step, gradient = example(shape)
    for order in (lambda t: t, lambda t: t.transpose(0, -1)):
        given = order(x), step, lowest, 7
        found, expected = to_multiples.by("compiled", "cpu")(*given), to_multiples(*given)
        assert torch.equal(bits_of(found), bits_of(expected)) and found.stride() == expected.stride()
        of_x, total = gradients_of_multiples.by("compiled", "cpu")(order(gradient).contiguous(), *given)
        expected_of_x, expected_total = gradients_of_multiples(order(gradient), *given)
        assert torch.equal(bits_of(of_x), bits_of(expected_of_x))
        # float32 sums of n numbers of size 1 in any order differ by about √n of their last bit.
        assert total.item() == pytest.approx(expected_total.item(), abs=1e-6 * x.numel() ** 0.5)


@pytest.mark.parametrize("lowest", [-7, 0])
@pytest.mark.parametrize("count", [600, 6000])
def test_the_gradient_of_the_step_is_that_of_lsq(kernel, lowest, count):
    x, step, gradient = example((4, 1500))
    step = step.requires_grad_()
    found_x, found = torch.autograd.grad(
        learned_step(x.requires_grad_(), step, lowest, 7, torch.tensor(float(count)), kernel), (x, step), gradient
    )
    # Eqs. 1 to 5 of Esser et al. (2020), in float64, number by number.
    total = 0.0
    for number, above in zip(x.detach().flatten().tolist(), gradient.flatten().tolist(), strict=True):
        ratio = float(np.float32(number) / np.float32(step.item()))
        inside = lowest < ratio < 7
        total += above * (round(ratio) - ratio if inside else lowest if ratio <= lowest else 7)
    assert found.item() == pytest.approx(total / math.sqrt(count * 7), rel=1e-5)
    # Autograd of a quantiser whose rounding is passed straight through.
    exact_x, exact_step = x.detach().double().requires_grad_(), step.detach().double().requires_grad_()
    ratio = (exact_x / exact_step).clamp(lowest, 7)
    multiple = (ratio + (ratio.float().round().double() - ratio).detach()) * exact_step
    through_x, through = torch.autograd.grad(multiple, (exact_x, exact_step), gradient.double())
    assert found.item() == pytest.approx(through.item() / math.sqrt(count * 7), rel=1e-5)
    assert torch.equal(found_x != 0, through_x != 0)
    assert torch.allclose(found_x.double(), through_x, rtol=1e-12)


def test_the_sum_for_a_step_does_not_depend_on_the_number_of_threads(monkeypatch):
    x, step, gradient = example((5, 2**15 - 3))
    totals = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        totals.append(gradients_of_multiples.by("compiled", "cpu")(gradient, x, step, -7, 7)[1].item())
    assert len(set(totals)) == 1
