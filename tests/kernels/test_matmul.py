"""The route of float32 products through oneDNN: taken only where it is as accurate as float32, and always given back."""

import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from analog_glue.kernels import matmul
from analog_glue.kernels.matmul import LARGEST_ERROR, PERMISSION, Probe, probe, route, unchanged

ACCURATE_AND_FAST = Probe(error=6e-7, time=0.6)
ACCURATE_AND_SLOW = Probe(error=6e-7, time=0.97)
COARSE = Probe(error=2e-3, time=0.3)
BROKEN = Probe(error=float("nan"), time=0.3)


def precision():
    return torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with unchanged():
        yield


@pytest.fixture
def found(monkeypatch):
    """A machine on which the probe finds what a test says."""
    monkeypatch.setattr(matmul, "_obstacle", lambda kind: None)
    return lambda result: monkeypatch.setattr(matmul, "probe", lambda: result)


def test_default_asks_nothing_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(matmul, "probe", lambda: pytest.fail("probed"))
    before = precision()
    assert route("default") == "default"
    assert precision() == before


@pytest.mark.parametrize(
    ("kind", "result", "expected"),
    [
        ("onednn", ACCURATE_AND_FAST, "onednn"),
        ("onednn", ACCURATE_AND_SLOW, "onednn"),
        ("auto", ACCURATE_AND_FAST, "onednn"),
        ("auto", ACCURATE_AND_SLOW, "default"),
        ("auto", COARSE, "default"),
        ("auto", BROKEN, "default"),
    ],
)
def test_the_route_is_taken_where_it_is_accurate_and_for_auto_also_faster(found, caplog, kind, result, expected):
    found(result)
    before = precision()
    with caplog.at_level(logging.INFO):
        assert route(kind) == expected
    assert precision() == (PERMISSION if expected == "onednn" else before)
    (line,) = caplog.messages
    assert f"{result.error:.1e}" in line and f"{result.time:.2f}" in line


@pytest.mark.parametrize("result", [COARSE, BROKEN], ids=["coarse", "broken"])
def test_a_demanded_route_that_is_not_float32_is_an_error_and_not_taken(found, result):
    found(result)
    before = precision()
    with pytest.raises(ValueError, match=r"Setting `runtime.matmul` must be default or auto here, .*'onednn'.*relative error"):
        route("onednn")
    assert precision() == before


def test_an_unknown_route_is_refused():
    with pytest.raises(ValueError, match=r"`runtime.matmul` must be one of default, onednn, auto, but is 'mkl'"):
        route("mkl")


def test_there_is_nothing_to_route_off_the_cpu(monkeypatch, caplog):
    monkeypatch.setattr(matmul, "probe", lambda: pytest.fail("probed"))
    with caplog.at_level(logging.INFO):
        assert route("auto", "cuda") == "default"
    assert "cuda" in caplog.text
    with pytest.raises(ValueError, match="cuda"):
        route("onednn", "cuda")


@pytest.mark.parametrize(
    "mkldnn",
    [
        SimpleNamespace(is_available=lambda: False),
        SimpleNamespace(is_available=lambda: True, enabled=False),
        SimpleNamespace(is_available=lambda: True, enabled=True),
    ],
    ids=["not built in", "switched off", "no switch"],
)
def test_a_torch_without_the_route_keeps_its_default(monkeypatch, mkldnn):
    with monkeypatch.context() as patched:
        patched.setattr(torch.backends, "mkldnn", mkldnn)
        assert route("auto") == "default"
        with pytest.raises(ValueError, match=r"runtime.matmul"):
            route("onednn")


@pytest.mark.parametrize("own", ["none", "ieee"])
def test_a_later_call_starts_again_from_what_torch_did_itself(found, own):
    torch.backends.mkldnn.matmul.fp32_precision = own
    found(ACCURATE_AND_FAST)
    route("onednn")
    route("onednn")
    found(ACCURATE_AND_SLOW)
    assert route("auto") == "default"
    assert precision() == own
    found(ACCURATE_AND_FAST)
    route("auto")
    route("default")
    assert precision() == own


def test_what_happens_inside_unchanged_is_forgotten_also_after_an_error(found):
    found(ACCURATE_AND_FAST)
    before = precision()
    with pytest.raises(KeyboardInterrupt), unchanged():
        route("onednn")
        raise KeyboardInterrupt
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"
    route("default")  # nothing of the route is left to undo
    assert precision() == "ieee"
    torch.backends.mkldnn.matmul.fp32_precision = before


# --- the probe -----------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """The probe on layers an eighth as wide."""
    monkeypatch.setattr(matmul, "LINEAR_SHAPES", ((96, 96, 4), (96, 384, 1), (384, 96, 1)))


@pytest.mark.slow
def test_the_probe_measures_a_plausible_error_and_leaves_torch_alone():
    before, state = precision(), torch.get_rng_state()
    with torch.inference_mode():  # it needs gradients of its own
        measured = probe()
    assert 1e-8 < measured.error < 1e-2  # sums in float32 … products in bfloat16
    assert 0.05 < measured.time < 20
    assert precision() == before
    assert torch.equal(torch.get_rng_state(), state)


class Bfloat16Machine(torch.autograd.Function):
    """A linear layer where the permission turns factors into bfloat16, in the forward or in the backward pass."""

    @staticmethod
    def forward(context, x, weight, coarse):
        context.save_for_backward(x, weight)
        context.coarse = coarse
        return rounded(x, coarse == "forward") @ weight.t()

    @staticmethod
    def backward(context, gradient):
        x, weight = context.saved_tensors
        by_x = rounded(gradient, context.coarse == "input gradient") @ weight
        return by_x, rounded(gradient, context.coarse == "weight gradient").t() @ x, None


def rounded(factor, here):
    return factor.bfloat16().float() if here and precision() == PERMISSION else factor


@pytest.mark.slow
@pytest.mark.parametrize("coarse", ["forward", "input gradient", "weight gradient"])
def test_a_machine_that_takes_the_permission_for_bfloat16_is_found_out(monkeypatch, small, coarse):
    monkeypatch.setattr(F, "linear", lambda x, weight: Bfloat16Machine.apply(x, weight, coarse))
    # Independent errors of the terms of a sum: relative to it they are what they are relative to one factor.
    factor = torch.randn(10_000, generator=torch.Generator().manual_seed(2))
    expected = (factor.bfloat16().float() - factor).norm() / factor.norm()  # 1.7·10⁻³
    # The probe takes the largest of several, each over at least 16 · 96 results: 5 × 1/√(2 · 1536) = 9 %.
    assert probe().error == pytest.approx(expected.item(), rel=0.09)


@pytest.mark.slow
def test_an_error_in_attention_alone_is_found_out(monkeypatch, small):
    exact = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v: exact(q, k, rounded(v, q.dtype == torch.float32)))
    assert probe().error > 1e-4


@pytest.mark.slow
def test_time_is_that_of_a_layer_with_every_product_as_often_as_it_occurs(monkeypatch, small):
    # A machine on which the route halves the time of the six linear layers and costs attention ten times its own.
    def seconds(part):
        linear = isinstance(part, matmul._Linear)
        routed = precision() == PERMISSION
        return (0.5 if routed else 1.0) if linear else (10.0 if routed else 1.0)

    monkeypatch.setattr(matmul, "_seconds", seconds)
    assert probe().time == pytest.approx((6 * 0.5 + 10) / (6 + 1))


@pytest.mark.slow
def test_where_it_is_taken_products_of_other_shapes_are_as_accurate(small):
    try:
        route("onednn")
    except ValueError as refused:
        pytest.skip(str(refused))
    draw = torch.Generator().manual_seed(1)
    for tokens, inputs, outputs in ((1, 768, 768), (7, 33, 130), (40, 1000, 3), (129, 512, 2), (300, 384, 500)):
        x, weight = torch.randn(tokens, inputs, generator=draw), torch.randn(outputs, inputs, generator=draw)
        exact = x.double() @ weight.double().t()
        assert (F.linear(x, weight) - exact).norm() <= LARGEST_ERROR * exact.norm()


def test_a_run_can_say_which_route_it_took(monkeypatch):
    monkeypatch.setattr(matmul, "probe", lambda: matmul.Probe(error=1e-7, time=0.5))
    with matmul.unchanged():
        matmul.route("default")
        assert matmul.taken() == "default"
        assert matmul.route("auto") == matmul.taken()
