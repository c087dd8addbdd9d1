"""Attention in integers: operands become codes, codes are multiplied and summed exactly, scales are applied once.

    scores = (Q codes · K codesᵀ) s_Q s_K / √d + mask        P = softmax(scores)        output = (P codes · V codes) s_P s_V

`attend` is inference. Training sees the same numbers as multiples of their scales (`learned_step`), with the gradients of
LSQ: straight through the rounding for the operand, and for the scale s (Esser et al. 2020, Eqs. 1 to 5; N numbers, Qp the
largest code)

    dL/ds = 1/√(N Qp) · Σ dL/dx̂ · (round(x/s) − x/s  inside the range,  the nearest code beyond it)

Half steps are rounded to even, and x is divided by s: a product with 1/s would decide exact half steps otherwise.
"""

import math
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from analog_glue.kernels.operation import operation

EXACT_IN_FLOAT32 = 2**24  # sums of integers up to here are exact in float32, in any order
HIDDEN = torch.finfo(torch.float32).min / 2  # what a mask adds to the score of a key that is left out lies below


@dataclass(frozen=True)
class Scales:
    """The step s between neighbouring codes of every operand."""

    q: float
    k: float
    v: float
    p: float


@dataclass(frozen=True)
class Codes:
    """The largest code of Q, K, V (the smallest is its negative) and that of P (the smallest is 0)."""

    operands: int
    probabilities: int


def to_codes(x: Tensor, step: float | Tensor, lowest: int, largest: int) -> Tensor:
    """round(x / step) within lowest … largest, as float32 of whole numbers."""
    # A step on the device of x: a GPU multiplies by the reciprocal of a plain number.
    return torch.div(x, torch.as_tensor(step, dtype=x.dtype, device=x.device)).round_().clamp_(lowest, largest)


def exact_product(a: Tensor, b: Tensor, largest: int) -> Tensor:
    """a @ b of whole numbers in float32, every sum exact, then rounded to float32 once.

    Args:
        a, b: float32 of whole numbers [..., m, k], [..., k, n].
        largest: No product of an entry of `a` and one of `b` exceeds it.
    """
    if largest * a.shape[-1] < EXACT_IN_FLOAT32:
        return a @ b
    return (a.double() @ b.double()).float()


@operation
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float,
    scales: Scales,
    codes: Codes,
    wants_p: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Attention of Q, K and V in integers.

    Args:
        q, k, v: float32 [batch, heads, tokens, d].
        mask: Added to the scores, broadcast to [batch, heads, tokens, tokens]; None: every token sees every token.
        scaling: Factor of the scores, 1/√d.

    Returns:
        Output, float32 [batch, heads, tokens, d], and P as multiples of its scale [batch, heads, tokens, tokens] if wanted.
    """
    own, p = codes.operands, codes.probabilities
    q_codes, k_codes, v_codes = (to_codes(x, s, -own, own) for x, s in ((q, scales.q), (k, scales.k), (v, scales.v)))
    scores = exact_product(q_codes, k_codes.transpose(-2, -1), own * own).mul_(scales.q * scales.k * scaling)
    p_codes = to_codes(probabilities(scores, mask), scales.p, 0, p)
    out = exact_product(p_codes, v_codes, p * own).mul_(scales.p * scales.v)
    return out, p_codes.mul_(scales.p) if wants_p else None


@attend.compiled("cpu")
def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float,
    scales: Scales,
    codes: Codes,
    wants_p: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Where the CPU multiplies integers; the reference elsewhere, and for what is not a number."""
    from analog_glue.kernels import integer_gemm
    from analog_glue.kernels.instruction_sets import chosen

    instructions = chosen()
    if instructions is not None and instructions.words is not None and integer_gemm.available():
        from analog_glue.kernels.attention_heads import attend_heads

        found = attend_heads(q, k, v, mask, scaling, astuple(scales), astuple(codes), wants_p)
        if found is not None:
            return found
    return attend(q, k, v, mask, scaling, scales, codes, wants_p)


def probabilities(scores: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(scores + mask) over keys, in float32."""
    return torch.softmax(scores if mask is None else scores + mask, dim=-1)


def unmasked_keys(mask: Tensor | None, k: Tensor) -> Tensor:
    """Which tokens may be seen, bool [batch, 1, tokens, 1]; `mask` as of `attend`, the same for every query and head."""
    if mask is None:
        return torch.ones(k.shape[0], 1, k.shape[2], 1, dtype=torch.bool, device=k.device)
    return (mask[:, :1, :1] > HIDDEN).transpose(-2, -1).expand(k.shape[0], 1, k.shape[2], 1)


def without_mean_key(k: Tensor, unmasked: Tensor) -> Tensor:
    """Keys minus their mean over the unmasked tokens of each sequence and head; k [batch, heads, tokens, d]."""
    mean = (k * unmasked).sum(2, keepdim=True) / unmasked.sum(2, keepdim=True)
    return k - mean


def learned_step(x: Tensor, step: Tensor, lowest: int, largest: int, count: Tensor, kernel: str = "reference") -> Tensor:
    """x rounded to a multiple of `step` within lowest … largest, with the gradients of LSQ.

    Args:
        step: Positive scalar.
        count: N, how many entries of x count.
        kernel: "reference" or "compiled".
    """
    result: Tensor = _LearnedStep.apply(x, step, lowest, largest, count, kernel)
    return result


@operation
def to_multiples(x: Tensor, step: Tensor, lowest: int, largest: int) -> Tensor:
    """The code of x times `step`."""
    return to_codes(x, step, lowest, largest).mul_(step)


@operation
def gradients_of_multiples(gradient: Tensor, x: Tensor, step: Tensor, lowest: int, largest: int) -> tuple[Tensor, Tensor]:
    """The gradient of x, from `gradient` with respect to its multiple, and Σ of Eq. 3 over all x."""
    ratio = x / step
    codes = ratio.round().clamp_(lowest, largest)
    inside = (ratio >= lowest) & (ratio <= largest)
    return gradient * inside, (gradient * torch.where(inside, codes - ratio, codes)).sum()


@to_multiples.compiled("cpu")
def _to_multiples(x: Tensor, step: Tensor, lowest: int, largest: int) -> Tensor:
    from analog_glue.kernels.learned_step import forward

    return forward(x, step, lowest, largest)


@gradients_of_multiples.compiled("cpu")
def _gradients_of_multiples(gradient: Tensor, x: Tensor, step: Tensor, lowest: int, largest: int) -> tuple[Tensor, Tensor]:
    from analog_glue.kernels.learned_step import backward

    return backward(gradient, x, step, lowest, largest)


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, lowest: int, largest: int, count: Tensor, kernel: str) -> Tensor:
        ctx.save_for_backward(x, step, count)
        ctx.range, ctx.kernel = (lowest, largest), kernel
        return to_multiples.by(kernel, x.device)(x, step, lowest, largest)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, step, count = ctx.saved_tensors
        lowest, largest = ctx.range
        of_x, total = gradients_of_multiples.by(ctx.kernel, x.device)(gradient, x, step, lowest, largest)
        return of_x, total / math.sqrt(largest) / count.sqrt(), None, None, None, None


class Rounded(torch.autograd.Function):
    """x rounded to a narrower floating-point type and back; the gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        return gradients[0], None
