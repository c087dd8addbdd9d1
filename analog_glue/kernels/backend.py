"""Which implementation computes: the plain one in PyTorch, or compiled kernels that do the same faster."""

import logging
from functools import cache

import torch

from analog_glue.errors import UserError

log = logging.getLogger(__name__)

KERNELS = ("auto", "reference", "compiled")


def choose_kernel(wanted: str, device: torch.device | str) -> str:
    """ "reference" or "compiled" on `device` from the setting `runtime.kernel`.

    auto takes the compiled kernels where they work and says in one line why where they do not.

    Raises:
        UserError: compiled kernels are demanded and do not work here.
    """
    if wanted == "reference":
        return wanted
    obstacle = _obstacle(torch.device(device).type)
    if obstacle is None:
        return "compiled"
    if wanted == "compiled":
        raise UserError(
            f"Setting `runtime.kernel` must be auto or reference on this machine, but is 'compiled': {obstacle}. "
            "Reference kernels give the same results, slower."
        )
    log.warning("Compiled kernels do not work here, so the slower reference is used: %s", obstacle)
    return "reference"


@cache
def _obstacle(kind: str) -> str | None:
    """Why kernels cannot be compiled for this kind of device; None if they can."""
    if kind == "cpu":
        try:
            import numpy as np

            from analog_glue.kernels.fused import noise_row

            noise_row(np.zeros(8, np.float32), 1, 0, 0, *[np.uint32(0)] * 2)  # a part of others, so never compiled in vain
        except Exception as error:  # whatever a foreign compiler raises, the reference works
            return f"numba cannot compile ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        return None
    if kind == "cuda":
        try:
            from analog_glue.kernels.triton_threefry import fill

            fill(torch.empty(8, device="cuda"), 0)
        except Exception as error:  # as above
            return f"Triton cannot compile ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        return None
    return f"there are none for {kind}"
