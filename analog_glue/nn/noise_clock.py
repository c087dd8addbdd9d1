"""What the noise of a forward pass is keyed by: so that recomputing, resuming or reordering never changes it."""

from torch import nn

from analog_glue.seeding import key


class NoiseClock:
    """Shared by all analog layers of a model. `start` names what begins; every forward pass of the model then ticks.

    The noise of a layer is keyed by (stream, forward pass since `start`, layer, purpose, use of the layer in this pass), so
    gradient checkpointing, which runs a layer twice within one pass, sees the same noise twice.
    """

    def __init__(self, *stream: str | int | float) -> None:
        self._stream = self._shared = stream
        self._forward = -1
        self._starts = 0

    def start(self, *stream: str | int | float, shared: tuple[str | int | float, ...] | None = None) -> None:
        """Begin the stream named by `stream` (e.g. seed, "training", step) at its first forward pass.

        Args:
            shared: Names what all processes that train one network draw alike; None: `stream`.
        """
        self._stream, self._forward, self._starts = stream, -1, self._starts + 1
        self._shared = stream if shared is None else shared

    def attach(self, model: nn.Module) -> None:
        """Tick at every forward pass of `model`."""
        model.register_forward_pre_hook(lambda module, inputs: self.tick())

    def tick(self) -> None:
        self._forward += 1

    def key(self, layer: str, purpose: str, use: int = 0) -> int:
        return key(*self._stream, self._forward, layer, purpose, use)

    def shared_key(self, layer: str, purpose: str) -> int:
        """As `key`, of noise that is the same in every process: of weights, which all of them hold."""
        return key(*self._shared, self._forward, layer, purpose, 0)

    @property
    def position(self) -> tuple[int, int]:
        """Identifies the current forward pass among all of this clock's life."""
        return self._starts, self._forward


class UseCounter:
    """Counts how often a layer that a model uses several times (ALBERT) was called within one forward pass."""

    def __init__(self) -> None:
        self._position: tuple[int, int] | None = None
        self._uses = 0

    def next(self, clock: NoiseClock) -> int:
        if clock.position != self._position:
            self._position, self._uses = clock.position, 0
        self._uses += 1
        return self._uses - 1
