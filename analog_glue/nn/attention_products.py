"""The module that computes the products of one attention layer in another precision than float32.

It is put into the attention modules of a transformer (`attention_interface.py`), which hand it Q, K, V and the mask.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from analog_glue.kernels.attention import (
    Codes,
    Rounded,
    Scales,
    attend,
    learned_step,
    probabilities,
    unmasked_keys,
    without_mean_key,
)
from analog_glue.nn.attention import Attention

SPREAD = 3.0  # [standard deviations] of Q, K and V that the largest code stands for at first
CANDIDATES = torch.logspace(-2.5, 0, 41, dtype=torch.float64)  # of the largest probability that P's codes reach


class AttentionProducts(nn.Module):
    """QKᵀ, softmax and PV of one layer.

    `log_scales` holds the logarithms of the scales of Q, K, V and P, so that a learning rate is a relative change and no step
    makes a scale negative. Until `active`, attention is float32 (the first epochs of hardware-aware training).
    """

    def __init__(self, attention: Attention, kernel: str = "reference") -> None:
        super().__init__()
        self.attention, self.kernel = attention, kernel
        self.active = True
        self.observed: _Observed | None = None
        self._known: tuple[int, Scales] | None = None  # of that version of the parameter, since reading it waits for a GPU
        self.log_scales: nn.Parameter | None = None
        if attention.bits is not None:
            self.log_scales = nn.Parameter(torch.zeros(4), requires_grad=attention.learning_rate > 0)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scaling: float,
        dropout: float = 0.0,
        wants_p: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            q, k, v: [batch, heads, tokens, d].
            mask: Added to the scores; None where no token is hidden.
            dropout: Probability; of the rounded P, since it belongs to training and not to the hardware.
            wants_p: Whether P is handed back; inference in integers is quicker where it is not.

        Returns:
            Output [batch, tokens, heads, d], contiguous, and P [batch, heads, tokens, tokens] if wanted.
        """
        with torch.autocast(q.device.type, enabled=False):  # which would take products of float32 apart into bfloat16
            return self._attend(q, k, v, mask, scaling, dropout, wants_p)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, dropout: float, wants_p: bool
    ) -> tuple[Tensor, Tensor | None]:
        p: Tensor | None
        dtype = q.dtype
        q, k, v = q.float(), k.float(), v.float()
        mask = None if mask is None else mask.float()
        if self.attention.smooth_keys and (self.active or self.observed):
            k = without_mean_key(k, unmasked_keys(mask, k))
        if self.observed is not None or not self.active:
            out, p = self._in_floats(q, k, v, mask, scaling, dropout)
            if self.observed is not None:
                self.observed.see(q, k, v, p, unmasked_keys(mask, k))
        elif self.attention.bits is None:
            q, k, v = (Rounded.apply(x, torch.bfloat16) for x in (q, k, v))
            p = F.dropout(Rounded.apply(probabilities(q @ k.transpose(-2, -1) * scaling, mask), torch.bfloat16), dropout)
            out = p @ v
        elif torch.is_grad_enabled() and (self.training or q.requires_grad):
            out, p = self._in_multiples(q, k, v, mask, scaling, dropout)
        else:
            how = attend.by(self.kernel, q.device)
            out, p = how(q, k, v, mask, scaling, self.scales, self.codes, wants_p)
        return out.transpose(1, 2).contiguous().to(dtype), p.to(dtype) if wants_p and p is not None else None

    @staticmethod
    def _in_floats(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, dropout: float
    ) -> tuple[Tensor, Tensor]:
        p = F.dropout(probabilities(q @ k.transpose(-2, -1) * scaling, mask), dropout)
        return p @ v, p

    def _in_multiples(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, dropout: float
    ) -> tuple[Tensor, Tensor]:
        """As the integers, computed in floats, with gradients."""
        assert self.log_scales is not None
        s, own = self.log_scales.exp(), self.codes.operands
        tokens = unmasked_keys(mask, k).sum(dim=(1, 2, 3)).float()
        entries = tokens.sum() * q.shape[1] * q.shape[3]
        q, k, v = (learned_step(x, s[i], -own, own, entries, self.kernel) for i, x in enumerate((q, k, v)))
        p = probabilities(q @ k.transpose(-2, -1) * scaling, mask)
        pairs = tokens.square().sum() * q.shape[1]
        p = learned_step(p, s[3], 0, self.codes.probabilities, pairs, self.kernel)
        p = F.dropout(p, dropout)
        return p @ v, p

    @property
    def scale_tensor(self) -> Tensor:
        """Scales of Q, K, V and P, float32 [4]."""
        assert self.log_scales is not None
        return self.log_scales.detach().exp()

    @property
    def scales(self) -> Scales:
        assert self.log_scales is not None
        version = self.log_scales._version
        if self._known is None or self._known[0] != version:
            self._known = version, Scales(*self.scale_tensor.tolist())
        return self._known[1]

    @torch.no_grad()
    def set_scales(self, scales: Tensor) -> None:
        """Args: scales: of Q, K, V and P, float32 [4]."""
        assert self.log_scales is not None
        self.log_scales.copy_(scales.log())

    @property
    def codes(self) -> Codes:
        return Codes(self.attention.largest, self.attention.largest_probability)

    @contextmanager
    def calibrating(self) -> Iterator[None]:
        """Inside, attention is float32 and looked at; at the end the scales follow from what was seen."""
        self.observed = _Observed(self.codes)
        try:
            yield
            if self.log_scales is not None:
                with torch.no_grad():
                    self.log_scales.copy_(torch.tensor(self.observed.scales()).log())
        finally:
            self.observed = None


class _Observed:
    """Spread of Q, K, V, and the squared error of P at every candidate scale; masked tokens are left out."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._sums = torch.zeros(3, 3, dtype=torch.float64)  # of Q, K, V: numbers, their sum, the sum of their squares
        self._errors = torch.zeros(len(CANDIDATES), dtype=torch.float64)
        self._p_steps = (CANDIDATES / codes.probabilities).tolist()

    @torch.no_grad()
    def see(self, q: Tensor, k: Tensor, v: Tensor, p: Tensor, unmasked: Tensor) -> None:
        seen = unmasked.expand(q.shape)
        for row, x in zip(self._sums, (q, k, v), strict=True):
            values = x[seen].double()
            row += torch.stack([torch.tensor(float(len(values))), values.sum().cpu(), values.square().sum().cpu()])
        own = p[(unmasked & unmasked.transpose(-2, -1)).expand(p.shape)]
        largest = self._codes.probabilities
        for number, step in enumerate(self._p_steps):
            rounded = torch.div(own, step).round_().clamp_(max=largest).mul_(step)
            self._errors[number] += (rounded - own).square_().sum(dtype=torch.float64).cpu()

    def scales(self) -> list[float]:
        """Of Q, K, V: three standard deviations over the largest code; of P: that of the smallest squared error."""
        found = []
        for count, total, squares in self._sums.tolist():
            if count < 2:
                raise RuntimeError("No attention was seen while calibrating: the model does not call its attention products.")
            deviation = math.sqrt(max(0.0, squares / count - (total / count) ** 2))
            found.append(max(SPREAD * deviation, 1e-6) / self._codes.operands)
        return [*found, self._p_steps[int(self._errors.argmin())]]
