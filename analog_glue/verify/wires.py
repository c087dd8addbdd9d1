"""Resistive wires: Kirchhoff's equations against another solver's numbers, and the law of the tiles against them."""

from collections.abc import Iterator

import numpy as np
import torch

from analog_glue.tiles.mapping import TileGrid
from analog_glue.tiles.wires import behind_wires
from analog_glue.verify.check import Check
from analog_glue.verify.nodal import currents

OHM = 0.35  # of a segment
# Lost current [%] of devices uniform in 0 … 25 µS under inputs of 0 … 0.2 V, by badcrossbar 1.1.0.
LOST = {128: 4.76, 256: 16.15}
LAYER_OUTPUTS = LAYER_INPUTS = 128


def wire_checks(kernel: str, seed: int = 0) -> Iterator[Check]:
    """The solver at two sizes, and what part of the loss the law of tiles/wires.py misses: at most a tenth."""
    rng = np.random.default_rng(seed)
    for size, published in LOST.items():
        cells, volts = rng.uniform(0, 25e-6, (size, size)), rng.uniform(0, 0.2, (size, 8))
        ideal, exact = cells.T @ volts, currents(cells, volts, OHM)
        lost = 100 * np.linalg.norm(ideal - exact) / np.linalg.norm(ideal)
        yield Check(f"current lost on wires, {size} × {size}", float(lost), published, 0.03 * published, "%")
        yield Check(f"of it missed by the law, {size} × {size}", missed(cells, volts, kernel, exact), 0.0, 10.0, "%")
    weights = rng.normal(0, 1, (LAYER_INPUTS, LAYER_OUTPUTS))
    cells = np.maximum(weights / np.abs(weights).max(0), 0) * 25e-6  # the positive half of the weights of a layer
    volts = rng.normal(0, 0.05, (LAYER_INPUTS, 8))
    for driven in ("one_end", "both_ends"):
        exact = currents(cells, volts, OHM, driven == "both_ends")
        part = missed(cells, volts, kernel, exact, driven)
        yield Check(f"missed for weights of a layer, {driven}", part, 0.0, 1.0, "%")


def missed(cells: np.ndarray, volts: np.ndarray, kernel: str, exact: np.ndarray, driven: str = "one_end") -> float:
    """Error of the law in percent of what the wires take.

    Args:
        cells: Conductances of the devices [rows, columns], in S.
        volts: Of the row drivers [rows, vectors], in V.
        exact: Currents out of all columns behind wires of `OHM` [columns, vectors], in A.
    """
    rows, columns = cells.shape
    own = torch.from_numpy(cells.T * 1e6).unsqueeze(0)
    kept, _ = behind_wires(
        (own, torch.zeros_like(own)), TileGrid.of(columns, rows, rows, columns), OHM, driven=driven, kernel=kernel
    )
    ideal = cells.T @ volts
    return float(100 * np.linalg.norm(kept[0].numpy() @ volts * 1e-6 - exact) / np.linalg.norm(ideal - exact))
