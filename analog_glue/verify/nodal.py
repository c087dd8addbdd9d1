"""Kirchhoff's equations of a whole crossbar with resistive wires, solved exactly: what the law of tiles/wires.py is held to.

Every device (r, c) joins a node of row wire r to a node of column wire c. Rows are driven at column 0 through one segment (and
behind the last column through another, with `both_ends`), columns are held at 0 V behind row 0 through one segment: the law of
Ohm at every device and segment, the law of Kirchhoff at every node.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


def currents(conductances: np.ndarray, voltages: np.ndarray, resistance: float, both_ends: bool = False) -> np.ndarray:
    """Currents out of all columns [A]: [columns, vectors].

    Args:
        conductances: Of the devices [rows, columns], in S.
        voltages: Of the row drivers [rows, vectors], in V.
        resistance: Of a segment between neighbouring devices [Ω], positive.
        both_ends: Whether rows are driven at both ends.
    """
    rows, columns = conductances.shape
    segment, devices = 1 / resistance, rows * columns
    row_node = np.arange(devices).reshape(rows, columns)
    column_node = devices + row_node
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def join(one: np.ndarray, other: np.ndarray, conductance: np.ndarray | float) -> None:
        value = np.broadcast_to(conductance, one.shape).ravel()
        first, second = one.ravel(), other.ravel()
        parts.extend([(first, second, -value), (second, first, -value), (first, first, value), (second, second, value)])

    join(row_node, column_node, conductances)
    join(row_node[:, 1:], row_node[:, :-1], segment)
    join(column_node[1:], column_node[:-1], segment)
    to_drivers = [row_node[:, 0], *([row_node[:, -1]] if both_ends else [])]
    for ends in [*to_drivers, column_node[0]]:
        parts.append((ends, ends, np.full(ends.shape, segment)))
    first, second, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    system = sparse.csc_matrix((value, (first, second)), shape=(2 * devices, 2 * devices))
    driven = np.zeros((2 * devices, voltages.shape[1]))
    for ends in to_drivers:
        driven[ends] += segment * voltages
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    return np.asarray(segment * factors.solve(driven)[column_node[0]])
