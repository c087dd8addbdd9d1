"""float32 matrix products through oneDNN instead of torch's own library, where a measurement says that this pays.

torch multiplies float32 matrices with MKL on x86, which is not the fastest library on every CPU. Its one switch towards
oneDNN is worded as a precision: `MKLDNN.matmul.fp32_precision = "bf16"` *permits* products in bfloat16.
Without matrix units for bfloat16 (AMX) oneDNN computes in float32 all the same, with errors of 6·10⁻⁷; with them errors
are 2·10⁻³. The switch also acts on every product of the process, so inside attention, whose many small products it can
slow down more than linear layers gain. Hence a probe of one encoder layer of BERT-base, forward and backward, decides.

While the route is taken, `torch.get_float32_matmul_precision()` raises an error: torch (2.13) has two interfaces to this
setting, and only the newer one can speak of oneDNN alone.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from analog_glue.errors import require

log = logging.getLogger(__name__)

KINDS = ("default", "onednn", "auto")
PERMISSION = "bf16"
MKLDNN: Any = torch.backends.mkldnn  # whose types leave out the switch
LARGEST_ERROR = 2e-6  # relative to float64
LEAST_GAIN = 0.05  # of the time, for auto to take the route

# Inputs, outputs, and how many such layers BERT-base has per encoder layer: query, key, value, output; up; down.
LINEAR_SHAPES = ((768, 768, 4), (768, 3072, 1), (3072, 768, 1))
HEADS, LENGTH, HEAD_WIDTH = 12, 128, 64
TOKENS = (128, 1024)  # of a batch; errors are measured with both, time with the first
CHECKED_ROWS = 16  # of a result: a full product in float64 would take longer than everything else
ROUNDS = 3  # of timing, alternating between the routes

_before: str | None = None  # torch's own precision while the route is taken


@dataclass(frozen=True)
class Probe:
    """What the route does on this machine, with as many threads as torch has."""

    error: float  # largest |result − exact| / |exact| (Frobenius norms) of any product
    time: float  # of an encoder layer's products, forward and backward, as a fraction of torch's default


def route(kind: str, device: torch.device | str = "cpu") -> str:
    """Send the float32 products of this process through oneDNN, or not. Call it once torch's threads are set.

    Args:
        kind: "default" leaves torch as it is. "onednn" takes the route if every product of the probe is as accurate as
            float32 should be. "auto" takes it if the products are also faster, by more than 5 %.
        device: Where the model computes; only on a CPU is there something to route.

    Returns:
        "onednn" if the route was taken, else "default"; one line in the log says what was measured. A later call starts
        again from what torch did before the first.

    Raises:
        UserError: `kind` is unknown, or "onednn" is demanded where it is not accurate or does not exist.
    """
    require(kind in KINDS, "runtime.matmul", f"be one of {', '.join(KINDS)}", kind)
    _undo()
    if kind == "default":
        return "default"
    obstacle, measured = _obstacle(torch.device(device).type), ""
    if obstacle is None:
        found = probe()
        measured = f"relative error {found.error:.1e}, {found.time:.2f} × the time of torch's default"
        if not found.error <= LARGEST_ERROR:
            obstacle = f"{measured}, but float32 has at most {LARGEST_ERROR:.0e}"
        elif kind == "auto" and found.time >= 1 - LEAST_GAIN:
            obstacle = f"{measured}, but at least {LEAST_GAIN:.0%} should be gained"
    if obstacle is not None:
        require(kind == "auto", "runtime.matmul", "be default or auto here", kind, f"Through oneDNN: {obstacle}.")
        log.info("float32 products are left to torch's default. Through oneDNN: %s", obstacle)
        return "default"
    _take()
    log.info("float32 products go through oneDNN: %s", measured)
    return "onednn"


def taken() -> str:
    """The route that this process is on: "onednn" or "default"."""
    return "default" if _before is None else "onednn"


@contextmanager
def unchanged() -> Iterator[None]:
    """Whatever route is taken inside, afterwards it is the one from before."""
    global _before
    precision, before = MKLDNN.matmul.fp32_precision, _before
    try:
        yield
    finally:
        MKLDNN.matmul.fp32_precision, _before = precision, before


def probe() -> Probe:
    """Measure the route on this machine, in about a second of one core; the route itself stays as it is."""
    draw = torch.Generator().manual_seed(0)
    with unchanged(), torch.inference_mode(False), torch.enable_grad():
        layers = [_encoder_layer(tokens, draw) for tokens in TOKENS]
        switch = MKLDNN.matmul
        precisions = (switch.fp32_precision, PERMISSION)
        switch.fp32_precision = PERMISSION
        error = max(part.error() for layer in layers for part, _ in layer)
        seconds: tuple[list, list] = ([], [])  # by default, routed
        for _ in range(ROUNDS):
            for precision, rounds in zip(precisions, seconds, strict=True):
                switch.fp32_precision = precision
                rounds.append([count * _seconds(part) for part, count in layers[0]])
    # The shortest time of each part: what other programs add to it is never negative.
    default, routed = (sum(map(min, zip(*rounds, strict=True))) for rounds in seconds)
    return Probe(error, routed / default)


def _encoder_layer(tokens: int, draw: torch.Generator) -> list[tuple["_Linear | _Attention", int]]:
    """The products of an encoder layer, and how often each occurs."""
    linear = [(_Linear(tokens, inputs, outputs, draw), count) for inputs, outputs, count in LINEAR_SHAPES]
    return [*linear, (_Attention(tokens // LENGTH, draw), 1)]


class _Linear:
    """A linear layer: three products, one forward and two backward."""

    def __init__(self, tokens: int, inputs: int, outputs: int, draw: torch.Generator) -> None:
        self.x = torch.randn(tokens, inputs, generator=draw, requires_grad=True)
        self.weight = torch.randn(outputs, inputs, generator=draw, requires_grad=True)
        self.gradient = torch.randn(tokens, outputs, generator=draw)

    def compute(self) -> tuple[Tensor, ...]:
        """Output and gradients."""
        y = F.linear(self.x, self.weight)
        return y.detach(), *torch.autograd.grad(y, (self.x, self.weight), self.gradient)

    def error(self) -> float:
        """The largest relative error of the three, on rows from top to bottom of each: libraries work in blocks."""
        x, weight, gradient = self.x.detach(), self.weight.detach(), self.gradient
        factors = ((x, weight.t()), (gradient, weight), (gradient.t(), x))
        errors = []
        for result, (left, right) in zip(self.compute(), factors, strict=True):
            rows = slice(None, None, len(result) // CHECKED_ROWS)
            errors.append(_relative(result[rows], left[rows].double() @ right.double()))
        return max(errors)


class _Attention:
    """Attention between all tokens of a sequence: many small products."""

    def __init__(self, sequences: int, draw: torch.Generator) -> None:
        shape = (sequences, HEADS, LENGTH, HEAD_WIDTH)
        self.inputs = [torch.randn(shape, generator=draw, requires_grad=True) for _ in range(3)]
        self.gradient = torch.randn(shape, generator=draw)

    def compute(self) -> tuple[Tensor, ...]:
        """Output and gradients."""
        return self._attend(self.inputs, self.gradient)

    def error(self) -> float:
        """The largest relative error of the output and the gradients."""
        exact = self._attend([t.detach().double().requires_grad_() for t in self.inputs], self.gradient.double())
        return max(_relative(*of_one) for of_one in zip(self.compute(), exact, strict=True))

    @staticmethod
    def _attend(inputs: list[Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
        query, key, value = inputs
        y = F.scaled_dot_product_attention(query, key, value)
        return y.detach(), *torch.autograd.grad(y, inputs, gradient)


def _relative(result: Tensor, exact: Tensor) -> float:
    return float((result - exact).norm() / exact.norm())


def _seconds(part: _Linear | _Attention) -> float:
    start = perf_counter()
    part.compute()
    return perf_counter() - start


def _obstacle(kind: str) -> str | None:
    """Why there is no route on this kind of device; None if there is one."""
    if kind != "cpu":
        return f"it computes on CPUs, and the model is on {kind}"
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return "torch was built without it, or it is switched off"
    if getattr(torch.backends.mkldnn, "matmul", None) is None:
        return f"torch {torch.__version__} has no switch for it"
    return None


def _take() -> None:
    global _before
    _before = MKLDNN.matmul.fp32_precision
    MKLDNN.matmul.fp32_precision = PERMISSION


def _undo() -> None:
    global _before
    if _before is not None:
        MKLDNN.matmul.fp32_precision, _before = _before, None
