"""Which product of 8-bit integers is exact on this machine: each is tried on the worst cases before it is used.

torch's own (oneDNN) saturates at 16 bits wherever the CPU lacks 8-bit dot products, or may not use them, and says nothing:
768 products of 127 · 127 come out as 97,920 instead of 12,387,072. It is wrong for a single row everywhere (torch 2.13).
"""

import platform
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from analog_glue.kernels import kept

LARGEST = 127  # magnitude of a code, and of an 8-bit weight
EXACT_ROWS = 2**24 // LARGEST**2  # whose sums a float32 holds, in whatever order they are added
MOST_ROWS = 512  # for which a product is tried before a run; each shape that comes up is tried once more
RANDOM, COLUMNS = 12, 48  # vectors and columns of a trial beside the extreme ones; what goes wrong does so in each
VECTORS = 512  # of a measured product
X86 = ("x86_64", "AMD64")

Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


def trial(rows: int, largest: int = LARGEST, count: int = RANDOM) -> np.ndarray:
    """The worst numbers to multiply, of magnitudes up to `largest`, then random ones: int64 [5 + `count`, rows]."""
    row = np.arange(rows)
    signs = [np.ones(rows, np.int64), -np.ones(rows, np.int64), 1 - 2 * (row % 2), 1 - 2 * (row // 2 % 2), row % 2]
    random = np.random.default_rng(rows).integers(-largest, largest + 1, (count, rows))
    return np.concatenate([np.stack(signs) * largest, random])


def wrong_sums(product: Product, rows: int, largest_weight: int = LARGEST, signed: bool = True) -> int:
    """How many sums of a product differ from those of 64-bit integers, of extreme and random codes and weights.

    Args:
        product: Of codes int8 [vectors, rows] and weights [columns, rows] (int8, or int16 where wider): [vectors, columns].
        signed: False for products of magnitudes and squares.
    """
    codes, weights = trial(rows), trial(rows, largest_weight, COLUMNS)
    if not signed:
        codes, weights = abs(codes), abs(weights)
    given = codes.astype(np.int8), weights.astype(np.int8 if largest_weight <= LARGEST else np.int16)
    expected = codes @ weights.T
    # Few vectors may take another way through a library than many.
    parts = slice(0, None), slice(0, 1), slice(1, 3)
    return sum(int((product(given[0][part], given[1]) != expected[part]).sum()) for part in parts)


@cache
def torch_is_exact(rows: int) -> bool:
    """Whether torch's own product of `rows` rows is, tried once per process."""
    return not any(wrong_sums(_by_torch, rows, signed=signed) for signed in (True, False))


def torch_is_fast(rows: int) -> bool:
    """Whether it is exact and takes the instructions of x86; without them it adds one product after another (torch 2.13)."""
    return platform.machine() in X86 and torch.cpu._is_vnni_supported() and torch_is_exact(rows)


def _by_torch(codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return torch._int_mm(torch.from_numpy(codes), torch.from_numpy(weights).t()).numpy()


@cache
def compiled_is_exact(rows: int) -> bool:
    """Whether the compiled product (kernels/integer_gemm.py) works and is exact for `rows` rows, tried once per process."""
    try:
        from analog_glue.kernels.integer_gemm import UNSIGNED, available, product, takes_whole
    except Exception:  # numba may be missing, or whatever it needs
        return False
    if not available() or wrong_sums(product, rows, LARGEST * (LARGEST + 1) if takes_whole(rows) else LARGEST):
        return False
    return not wrong_sums(lambda squares, magnitudes: product(squares, magnitudes, UNSIGNED), rows, signed=False)


@cache
def torch_is_faster(rows: int, columns: int) -> bool:
    """Whether torch's own product of such a block beats the compiled one: by matrix units (AMX), which only torch uses."""
    if not (torch.cpu._is_amx_tile_supported() and torch_is_exact(rows)):
        return False
    from analog_glue.kernels.integer_gemm import multiply as compiled
    from analog_glue.kernels.integer_gemm import pack
    from analog_glue.kernels.measured_choice import fastest

    codes, weights = (torch.from_numpy(trial(rows, count=count)[:count]).to(torch.int8) for count in (VECTORS, columns))
    out, packed = torch.empty(VECTORS, columns, dtype=torch.int32), pack(weights.unsqueeze(0).numpy())[0]
    ways = {
        "torch": lambda: torch._int_mm(codes, weights.t(), out=out),
        "compiled": lambda: compiled(codes.numpy(), packed, out.numpy()),
    }
    return fastest(f"integer product, {rows} rows, {columns} columns", ways, kept.folder()) == "torch"


def obstacle(kernel: str, rows: int) -> str | None:
    """Why no product of integers can be taken here for tiles of `rows` rows; None where one is exact."""
    rows = _tried(rows)
    if (kernel == "compiled" and compiled_is_exact(rows)) or torch_is_exact(rows):
        return None
    ours = "the compiled one does not work" if kernel == "compiled" else "reference kernels have no other"
    return f"torch's product of 8-bit integers gives wrong sums on this CPU, or as ONEDNN_MAX_CPU_ISA limits it, and {ours}"


def is_fast(kernel: str, rows: int) -> bool:
    """Whether an exact product of integers is also faster than float32: compiled, or torch's own by instructions of x86."""
    rows = _tried(rows)
    return (kernel == "compiled" and compiled_is_exact(rows)) or torch_is_fast(rows)


def _tried(rows: int) -> int:
    return min(max(rows, 2), MOST_ROWS)  # weights of a single row are never multiplied as integers


def multiply(codes: Tensor, weights: Tensor, out: Tensor) -> Tensor:
    """out[v, i] = Σ_j codes[v, j] · weights[i, j], exactly: by torch's product of integers where that is fast, else by floats.

    Args:
        codes, weights: int8 [vectors, rows] and [columns, rows] of magnitudes up to 127.
        out: int32 [vectors, columns].
    """
    if torch_is_fast(codes.shape[1]):
        return torch._int_mm(codes, weights.t(), out=out)
    wide = torch.float32 if codes.shape[1] <= EXACT_ROWS else torch.float64
    return out.copy_(torch.mm(codes.to(wide), weights.to(wide).t()))
