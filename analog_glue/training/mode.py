"""The interface of a training mode, and what all fine-tuning modes share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from analog_glue.errors import require_argument
from analog_glue.nn.attention_interface import products_of
from analog_glue.nn.computation import Computation
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.placement import Placement
from analog_glue.settings import without_tilde


@dataclass(frozen=True)
class Preparation:
    """What a mode may need to make a model trainable; `calibrate` runs training batches through the digital model."""

    placement: Placement
    computation: Computation
    clock: NoiseClock
    calibrate: Callable[[nn.Module], dict[str, Tensor]]  # model → input range [row blocks] of each layer
    calibrate_attention: Callable[[nn.Module], None] = lambda model: None  # sets the scales of integer attention


@dataclass(frozen=True, kw_only=True)
class TrainingMode(ABC):
    """Schedule and optimizer of a fine-tuning run. Concrete modes say how the model is prepared and kept in bounds."""

    epochs: int = 3
    max_steps: int | None = None  # stop early, after this many optimizer steps (the schedule is made for them); 0: as it is
    batch_size: int = 16  # of one optimizer step, per process
    accumulate: int = 1  # parts that a batch is split into
    learning_rate: float = 5e-5  # of AdamW, at its peak
    warmup: float = 0.1  # share of the steps over which the learning rate rises; then it falls linearly to 0
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    precision: str = "fp32"  # fp32 | bf16 (autocast) | of some modes others: `precisions`
    gradient_checkpointing: bool = False
    save_every: int = 100  # [steps] between resumable states
    select_by: str = "headline"  # headline: the epoch with the best headline metric on validation; last: the last one
    start_from: str | None = None  # folder of a training run whose weights are the starting point; null: the pretrained model

    trains_on: ClassVar[str] = "tiles"  # what the weights are for, which a task must allow
    sections: ClassVar[tuple[str, ...]] = (
        "attention",
        "noise",
        "tile",
        "hardware",
        "evaluation",
    )  # of the configuration that it uses

    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    name: ClassVar[str]
    uses_hardware: ClassVar[bool]  # whether noise and tile change the trained weights

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_from", without_tilde(self.start_from))
        for field in ("epochs", "batch_size", "accumulate", "save_every"):
            require_argument(getattr(self, field) >= 1, field, "be at least 1", getattr(self, field))
        require_argument(self.max_steps is None or self.max_steps >= 0, "max_steps", "be at least 0 or null", self.max_steps)
        require_argument(
            self.batch_size % self.accumulate == 0,
            "accumulate",
            f"divide `batch_size` = {self.batch_size}",
            self.accumulate,
        )
        require_argument(self.learning_rate > 0, "learning_rate", "be positive", self.learning_rate)
        require_argument(0 <= self.warmup < 1, "warmup", "lie in [0, 1)", self.warmup)
        require_argument(self.weight_decay >= 0, "weight_decay", "be at least 0", self.weight_decay)
        require_argument(self.max_grad_norm > 0, "max_grad_norm", "be positive", self.max_grad_norm)
        known = self.precisions
        words = f"be {', '.join(known[:-1])} or {known[-1]}"
        require_argument(self.precision in known, "precision", words, self.precision)
        require_argument(self.select_by in ("headline", "last"), "select_by", "be headline or last", self.select_by)

    def check(self, hardware: Hardware, computation: Computation) -> None:
        """Raises UserError: this machine, or these tiles, cannot be trained for with these settings."""
        return None

    @abstractmethod
    def prepare(self, model: nn.Module, preparation: Preparation) -> nn.Module:
        """Make the digital `model` the one that is trained (swapping layers in place where the mode has its own)."""

    @property
    def first_epoch_on_hardware(self) -> int:
        """Index of the first epoch in which the network computes as the accelerator does."""
        return 0

    def begin_attention(self, model: nn.Module, epoch: int, resumed: bool, preparation: Preparation) -> None:
        """As `begin_epoch`, before it: attention takes its precision with the hardware, its scales calibrated there."""
        layers = products_of(model).values()
        if epoch == self.first_epoch_on_hardware and not resumed:
            preparation.calibrate_attention(model)
        for layer in layers:
            layer.active = epoch >= self.first_epoch_on_hardware

    @abstractmethod
    def begin_epoch(self, model: nn.Module, epoch: int, resumed: bool, preparation: Preparation) -> None:
        """Called before the first step of every epoch, and again (`resumed`) when a run continues inside one."""

    @abstractmethod
    def selectable(self, epoch: int) -> bool:
        """Whether the weights after `epoch` may be the ones that are kept."""

    @abstractmethod
    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups of AdamW: their `lr` is the peak learning rate."""

    @abstractmethod
    def after_step(self, model: nn.Module) -> None:
        """Keep parameters where the hardware can hold them, after every optimizer step."""


def weight_groups(model: nn.Module, learning_rate: float, weight_decay: float, excluded: set[int]) -> list[dict[str, Any]]:
    """Weight matrices with decay; biases, norms and other vectors without; the scales of integer attention at their own rate.

    Args:
        excluded: Ids of parameters that are left out.
    """
    layers = [layer for layer in products_of(model).values() if layer.log_scales is not None and layer.log_scales.requires_grad]
    scales = [layer.log_scales for layer in layers]
    excluded = excluded | {id(scale) for scale in scales}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in excluded]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.dim() >= 2], "lr": learning_rate, "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "lr": learning_rate, "weight_decay": 0.0},
    ]
    if layers:
        groups.append({"params": scales, "lr": layers[0].attention.learning_rate, "weight_decay": 0.0})
    return groups
