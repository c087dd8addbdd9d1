"""Voltage loss along the wires of a column, as the approximation of IBM's toolkit has it.

With n rows, c_i = Σ_j |w_ij| |x_j| and G = (1 / 0.35 Ω) / 5 µS:

    a_i = c_i · n / G,   s_i = a_i (0.05 a_i² − 0.2 a_i + 0.5),   y_i ← y_i − ir_drop · s_i · Σ_j w_ij x_j (1 − (1 − j/n)²)

Source: Spoon et al. (2021) call it negligible for 512 × 512 tiles at 0.2 V; it moves the error of a product by < 0.2 points.
"""

import torch
from torch import Tensor

WIRE_RESISTANCE = 0.35  # [Ω] between neighbouring cross-points
CELL_CONDUCTANCE = 5e-6  # [S]
CONDUCTANCE_RATIO = 1 / WIRE_RESISTANCE / CELL_CONDUCTANCE


def position_weight(row_counts: Tensor, padded_rows: int) -> Tensor:
    """1 − (1 − j/n)² of every row j: [row blocks, rows], for n rows in each block."""
    position = torch.arange(padded_rows, device=row_counts.device) / row_counts.unsqueeze(1)
    return 1 - (1 - position).square()


def loss_factor(load: Tensor, row_counts: Tensor) -> Tensor:
    """s_i from the load c_i ([row blocks, …, columns], overwritten)."""
    a = load.mul_((row_counts / CONDUCTANCE_RATIO).view(-1, *[1] * (load.dim() - 1)))
    return (a * 0.05).sub_(0.2).mul_(a).add_(0.5).mul_(a)
