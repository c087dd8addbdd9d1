"""Attention in integers beside float32: inference beside scaled_dot_product_attention, training beside eager attention.

Operands are views of [batch, tokens, heads, d] and the output is contiguous in that order, as transformers have them. These
cases take milliseconds, so a value is the shortest time over the shortest time of float32, of many rounds in turn: what other
programs on the machine add is never negative.
"""

from collections.abc import Callable, Iterator

import torch
from benchmark_timing import Measure, interleaved, ratios
from torch import Tensor
from torch.nn import functional as F

from analog_glue.kernels.backend import choose_kernel
from analog_glue.nn.attention import Attention
from analog_glue.nn.attention_products import AttentionProducts

HEADS, LENGTH = 12, 128
SHAPES = ((8, 64), (32, 64), (8, 32), (32, 32))  # batch and d: of BERT-base, of MiniLM
MASK = None  # nothing is hidden


def products(bits: int, d: int, kernel: str) -> AttentionProducts:
    """Calibrated for operands of standard deviation 1."""
    layer, q = AttentionProducts(Attention(bits=bits), kernel), torch.randn(2, HEADS, LENGTH, d)
    with layer.calibrating():
        layer(q, q.flip(0), q.flip(1), MASK, d**-0.5)
    return layer


def as_best(name: str, seconds: dict[str, list[float]], target: float, also: str, what: str) -> Measure:
    best, over = {key: min(values) for key, values in seconds.items()}, ratios(seconds, "ours")
    others = [f"{key} {best[key] / best['fp32']:.2f}×" for key in best if key not in ("fp32", "ours")]
    absolute = "; ".join([f"{1e3 * best['ours']:.1f} ms, FP32 {1e3 * best['fp32']:.1f} ms", *others]) + also
    return Measure(name, "ratio", best["ours"] / best["fp32"], min(over), max(over), absolute, what, target=target)


@torch.no_grad()
def inference(rounds: int) -> Iterator[Measure]:
    kernel = choose_kernel("auto", "cpu")
    for batch, d in SHAPES:
        q, k, v = (torch.randn(batch, LENGTH, HEADS, d).transpose(1, 2) for _ in range(3))

        def compute(bits: int, wants_p: bool, given: tuple = (q, k, v), d: int = d) -> Callable[[], object]:
            layer = products(bits, d, kernel).eval()
            return lambda: layer(*given, MASK, d**-0.5, wants_p=wants_p)

        cases = {
            "fp32": lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v).transpose(1, 2).contiguous(),
            "ours": compute(8, wants_p=False),
            "INT8 that hands P back": compute(8, wants_p=True),
            "INT6": compute(6, wants_p=False),
            "INT10": compute(10, wants_p=False),
            "INT12": compute(12, wants_p=False),
        }
        seconds = interleaved(cases, rounds * (4 if batch == 8 else 1))
        scores = torch.randn(batch, HEADS, LENGTH, LENGTH)
        softmax = min(interleaved({"": lambda s=scores: torch.softmax(s, -1, out=s)}, 5)[""]) / min(seconds["ours"])
        what = f"INT8 attention of {HEADS} heads × {d}, batch {batch} × {LENGTH}, beside scaled_dot_product_attention"
        yield as_best(f"attention_{batch}x{d}", seconds, 1.0, f"; softmax {softmax:.0%} of the time", what)


def training(rounds: int) -> Iterator[Measure]:
    kernel = choose_kernel("auto", "cpu")
    for batch, d in SHAPES:
        leaves = [torch.randn(batch, LENGTH, HEADS, d, requires_grad=True) for _ in range(3)]
        gradient = torch.randn(batch, LENGTH, HEADS, d)

        def step(
            compute: Callable[..., Tensor], *more: Tensor, leaves: list[Tensor] = leaves, gradient: Tensor = gradient
        ) -> Callable[[], object]:
            def forward_and_backward() -> None:
                out = compute(*(leaf.transpose(1, 2) for leaf in leaves))
                torch.autograd.grad(out, [*leaves, *more], gradient)

            return forward_and_backward

        def eager(q: Tensor, k: Tensor, v: Tensor, d: int = d) -> Tensor:
            p = torch.softmax(q @ k.transpose(-2, -1) * d**-0.5, -1)
            return (p @ v).transpose(1, 2).contiguous()

        def ours(by: str, d: int = d, step: Callable = step) -> Callable[[], object]:
            layer = products(8, d, by).train()
            return step(lambda q, k, v: layer(q, k, v, MASK, d**-0.5)[0], layer.log_scales)

        cases = {"fp32": step(eager), "ours": ours(kernel), "reference kernel": ours("reference")}
        seconds = interleaved(cases, rounds * (2 if batch == 8 else 1))
        what = f"the same, forward and backward with learned scales, {batch} × {LENGTH} × {d}, beside eager attention"
        yield as_best(f"attention_step_{batch}x{d}", seconds, 2.0, "", what)
