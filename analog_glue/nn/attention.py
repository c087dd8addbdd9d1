"""How the two products of attention, QKᵀ and PV, are computed on paper: in floats or in integers (Spoon et al. 2021).

They multiply two activations, so no crossbar holds either of them: a digital unit beside the tiles computes them, and its
precision is a choice of the accelerator's designer, like the tiles.
"""

from dataclasses import dataclass

from analog_glue.errors import require_argument

FEWEST_BITS, MOST_BITS = 2, 12


@dataclass(frozen=True)
class Attention:
    """Precision of the products of attention; softmax, the factor 1/√d and the mask are always float32.

    Integers: every operand is x ≈ s·code with one scale s per operand (Q, K, V, P) and layer, calibrated on training examples,
    learned where the network is trained with it, fixed at inference. Codes of Q, K and V lie in ±(2^(b−1) − 1), those of the
    softmax output P in 0 … 2^b − 1, or with `signed_probabilities` in 0 … 2^(b−1) − 1, as on a signed multiplier.

    `smooth_keys` subtracts from every key the mean key of its sequence and head (over unmasked tokens) before rounding. That
    adds one number to all scores of a query, so the softmax stays what it is, while keys have a smaller range.
    """

    bits: int | None = None  # b; None: products of floats
    dtype: str = "fp32"  # of floats: "fp32", or "bf16" (operands rounded to bfloat16, sums in float32)
    signed_probabilities: bool = False
    smooth_keys: bool = False
    examples: int = 64  # training examples that the scales are calibrated on
    learning_rate: float = 3e-3  # of AdamW, relative change of a scale per step; 0: fixed

    def __post_init__(self) -> None:
        known = self.bits is None or FEWEST_BITS <= self.bits <= MOST_BITS
        require_argument(known, "bits", f"be null or lie in {FEWEST_BITS} … {MOST_BITS}", self.bits)
        require_argument(self.dtype in ("fp32", "bf16"), "dtype", "be fp32 or bf16", self.dtype)
        fits = self.dtype == "fp32" or self.bits is None
        require_argument(fits, "dtype", "be fp32 where `bits` is given, since integers are no floats", self.dtype)
        whole = self.bits is not None
        require_argument(whole or not self.smooth_keys, "smooth_keys", "be false where `bits` is null", self.smooth_keys)
        require_argument(
            whole or not self.signed_probabilities, "signed_probabilities", "be false where `bits` is null",
            self.signed_probabilities,
        )  # fmt: skip
        require_argument(self.examples >= 1, "examples", "be at least 1", self.examples)
        require_argument(self.learning_rate >= 0, "learning_rate", "be at least 0 (0: fixed)", self.learning_rate)

    @property
    def precision(self) -> str:
        """As rows and tables name it: "fp32", "bf16", "int8", "int6 smooth", "int6 signed P"."""
        if self.bits is None:
            return self.dtype
        return f"int{self.bits}" + " signed P" * self.signed_probabilities + " smooth" * self.smooth_keys

    @property
    def is_float32(self) -> bool:
        """Whether attention is what any digital network has: nothing is changed in the model then."""
        return self.bits is None and self.dtype == "fp32"

    @property
    def largest(self) -> int:
        """Qp of Q, K and V: the largest code."""
        assert self.bits is not None
        return int(2 ** (self.bits - 1) - 1)

    @property
    def largest_probability(self) -> int:
        """Qp of P."""
        assert self.bits is not None
        return self.largest if self.signed_probabilities else int(2**self.bits - 1)


FLOAT32 = Attention()
