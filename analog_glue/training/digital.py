"""Plain fine-tuning in floating point: the network that hardware-aware training is compared with."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from analog_glue.training.mode import Preparation, TrainingMode, weight_groups


@dataclass(frozen=True, kw_only=True)
class Digital(TrainingMode):
    name: ClassVar[str] = "digital"
    uses_hardware: ClassVar[bool] = False

    def prepare(self, model: nn.Module, preparation: Preparation) -> nn.Module:
        return model

    def begin_epoch(self, model: nn.Module, epoch: int, resumed: bool, preparation: Preparation) -> None:
        """Every epoch is alike."""

    def selectable(self, epoch: int) -> bool:
        return True

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return weight_groups(model, self.learning_rate, self.weight_decay, excluded=set())

    def after_step(self, model: nn.Module) -> None:
        """Nothing to keep in bounds."""
