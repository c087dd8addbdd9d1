"""One operation, several implementations: the plain one in PyTorch, and compiled ones beside it.

    @operation
    def largest(weights): …                # the reference: works on every device, is the text to read

    @largest.compiled("cpu")
    def _largest(weights): …               # imports its kernel inside: numba and Triton may be missing

    largest.by(kernel, weights.device)(weights)

Which one computes is decided here and nowhere else.
"""

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Operation(Generic[Arguments, Result]):
    """Called without `by`, it is its reference."""

    def __init__(self, reference: Callable[Arguments, Result]) -> None:
        self._reference = reference
        self._compiled: dict[str, Callable[Arguments, Result]] = {}
        self.__doc__ = reference.__doc__

    def compiled(self, kind: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
        """Decorates what does the same on devices of `kind` ("cpu", "cuda") by compiled kernels."""

        def register(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
            self._compiled[kind] = function
            return function

        return register

    def by(self, kernel: str, device: torch.device | str) -> Callable[Arguments, Result]:
        """The implementation for tensors on `device`.

        Args:
            kernel: "reference" or "compiled"; where nothing is compiled for the device, the reference computes.
        """
        if kernel == "compiled":
            return self._compiled.get(torch.device(device).type, self._reference)
        return self._reference

    def __call__(self, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        return self._reference(*arguments, **named)


def operation(reference: Callable[Arguments, Result]) -> Operation[Arguments, Result]:
    """Makes a plain function the reference of an `Operation`."""
    return Operation(reference)
