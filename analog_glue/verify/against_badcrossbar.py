"""Kirchhoff's equations by badcrossbar 1.1.0 against ours (verify/nodal.py), and the law of the tiles against it.

It reads columns behind their last row, so its rows are ours in the opposite order. It is installed without its dependencies:
what it computes needs numpy, scipy and pathvalidate; its drawings want the library cairo, without which they stay away.
"""

import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from analog_glue.errors import UserError
from analog_glue.verify.check import Check
from analog_glue.verify.nodal import currents
from analog_glue.verify.wires import OHM, missed

INSTALL = "pip install --no-deps badcrossbar==1.1.0 pathvalidate==3.3.1"
SHAPES = ((16, 48), (96, 32), (128, 128))
EQUAL = 1e-8  # relative: two direct solutions of one sparse system


def badcrossbar_checks(kernel: str, seed: int = 0) -> Iterator[Check]:
    """Largest difference of any column's current, and what the law misses of the loss that badcrossbar finds.

    Raises:
        UserError: badcrossbar is not installed.
    """
    solver = _solver()
    rng = np.random.default_rng(seed)
    for rows, columns in SHAPES:
        # Some devices conduct nothing, which is an infinite resistance there.
        cells = rng.uniform(0, 25e-6, (rows, columns)) * (rng.uniform(size=(rows, columns)) < 0.9)
        volts = rng.uniform(-0.2, 0.2, (rows, 4))
        with np.errstate(divide="ignore"):
            of_devices = 1 / cells[::-1]
        theirs = solver(volts[::-1], of_devices, r_i=OHM, node_voltages=False, all_currents=False).currents.output.T
        ours = currents(cells, volts, OHM)
        largest = float(np.abs(theirs - ours).max() / np.abs(theirs).max())
        yield Check(f"currents of {rows} × {columns} devices", largest, 0.0, EQUAL, "")
        yield Check("… missed by the law, of the loss", missed(cells, volts, kernel, theirs), 0.0, 10.0, "%")


def _solver() -> Any:
    """`badcrossbar.compute`, without the logging that its import turns on for the whole process."""
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        with warnings.catch_warnings(record=True):  # its own filter shows all of them
            from badcrossbar.compute import compute
    except ModuleNotFoundError as error:
        raise UserError(f"`--against badcrossbar` needs what is not installed here ({error.name}): {INSTALL}") from error
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    return compute
