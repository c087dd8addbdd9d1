"""The field's other simulators for `benchmark.py --peers`, each with the settings closest to ours.

    aihwkit          C++ tile, read noise PCM_READ, programmed and drifted for a day, compensated
    aihwkit_torch    its torch tile: the same without short-term read noise, which it does not know
    lightning        aihwkit-lightning: converters and output noise (in training mode only), neither devices nor drift

Both are optional (extra `peer`); what cannot be used here is named with the reason.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

DAY = 86_400.0  # [s]
BITS_8, BITS_10 = 254, 1022  # steps of the converters


class Peer(ABC):
    """One other simulator."""

    name: str

    @abstractmethod
    def converted(self, model: nn.Module, training: bool) -> nn.Module:
        """`model` (used up) with every linear layer on the peer's tiles."""

    @abstractmethod
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW as the peer wants it."""

    def inference(self, model: nn.Module) -> nn.Module:
        return self.converted(model, training=False).eval()

    def training_step(self, model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], None]:
        model = self.converted(model, training=True).train()
        optimizer = self.optimizer(model)

        def step() -> None:
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step


class Aihwkit(Peer):
    def __init__(self, torch_tile: bool) -> None:
        self.name = "aihwkit_torch" if torch_tile else "aihwkit"
        self._torch_tile = torch_tile

    def converted(self, model: nn.Module, training: bool) -> nn.Module:
        from aihwkit.nn.conversion import convert_to_analog

        analog = convert_to_analog(model, self._config(training))
        if not training:
            analog.eval()
            for layer in analog.analog_layers():
                layer.drift_analog_weights(DAY)
        return analog

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        from aihwkit.optim import AnalogOptimizer

        return AnalogOptimizer(torch.optim.AdamW, model.parameters(), lr=1e-4)

    def _config(self, training: bool) -> Any:
        from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel
        from aihwkit.simulator.configs import InferenceRPUConfig, TorchInferenceRPUConfig
        from aihwkit.simulator.parameters.enums import (
            BoundManagementType,
            NoiseManagementType,
            WeightClipType,
            WeightModifierType,
            WeightNoiseType,
        )

        config = (TorchInferenceRPUConfig if self._torch_tile else InferenceRPUConfig)(
            noise_model=PCMLikeNoiseModel(g_max=25.0), drift_compensation=GlobalDriftCompensation()
        )
        io = config.forward
        io.inp_bound, io.inp_res, io.out_bound, io.out_res = 1.0, 1 / BITS_8, 10.0, 1 / BITS_10
        io.out_noise, io.nm_thres = 0.5 * 20.0 / BITS_10, 0.0
        io.noise_management, io.bound_management = NoiseManagementType.NONE, BoundManagementType.NONE
        if not self._torch_tile:
            io.w_noise, io.w_noise_type = 0.0175, WeightNoiseType.PCM_READ
        config.pre_post.input_range.enable = True
        config.pre_post.input_range.init_value, config.pre_post.input_range.init_from_data = 4.0, 0
        config.mapping.max_input_size = config.mapping.max_output_size = 512
        config.mapping.weight_scaling_omega, config.mapping.weight_scaling_columnwise = 1.0, True
        if training:
            config.modifier.type, config.modifier.std_dev = WeightModifierType.ADD_NORMAL, 0.06
            config.modifier.rel_to_actual_wmax = True
            config.clip.type, config.clip.sigma = WeightClipType.LAYER_GAUSSIAN, 2.5
        return config


class Lightning(Peer):
    name = "lightning"

    def converted(self, model: nn.Module, training: bool) -> nn.Module:
        from aihwkit_lightning.nn.conversion import convert_to_analog
        from aihwkit_lightning.simulator.configs import (
            TorchInferenceRPUConfig,
            WeightClipType,
            WeightNoiseInjectionType,
        )

        config = TorchInferenceRPUConfig()
        io = config.forward
        io.inp_res, io.out_res, io.out_bound = BITS_8, BITS_10, 10.0
        io.out_noise, io.out_noise_per_channel = 0.5 * 20.0 / BITS_10, True
        config.mapping.max_input_size = 512
        config.pre_post.input_range.enable = True
        config.pre_post.input_range.init_value, config.pre_post.input_range.init_from_data = 4.0, 0
        if training:
            config.modifier.noise_type = WeightNoiseInjectionType.ADD_NORMAL_PER_CHANNEL
            config.modifier.std_dev = 0.06
            config.clip.type, config.clip.sigma = WeightClipType.LAYER_GAUSSIAN_PER_CHANNEL, 2.5
        return convert_to_analog(model, config)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        from aihwkit_lightning.optim import AnalogOptimizer

        return AnalogOptimizer(torch.optim.AdamW, model.analog_layers, model.parameters(), lr=1e-4)


def available(log: Callable[[str], None]) -> list[Peer]:
    """The peers that compute a small layer here; `log` hears of the others, and why."""
    usable = []
    for peer in (Aihwkit(torch_tile=False), Aihwkit(torch_tile=True), Lightning()):
        try:
            layer = peer.inference(nn.Sequential(nn.Linear(8, 8)))
            with torch.no_grad():
                layer(torch.randn(4, 8))
        except Exception as error:  # whatever a foreign package raises where it does not fit
            reason = str(error).strip().splitlines()
            log(f"peer {peer.name} is left out: {type(error).__name__}: {reason[0] if reason else 'no reason given'}")
        else:
            usable.append(peer)
    return usable


def in_situ_cases(log: Callable[[str], None]) -> dict[str, Callable[[], float]]:
    """Workloads of benchmark_in_situ.py by aihwkit, in the same units; none where its update does not run here."""
    try:
        return _in_situ_cases()
    except Exception as error:  # whatever a foreign package raises where it does not fit
        log(f"peer aihwkit is left out of in-situ training: {type(error).__name__}: {error}")
        return {}


def _in_situ_cases() -> dict[str, Callable[[], float]]:
    from aihwkit.nn import AnalogLinear, AnalogLSTMCellCombinedWeight, AnalogRNN
    from aihwkit.optim import AnalogSGD
    from aihwkit.simulator.configs import SingleRPUConfig, UnitCellRPUConfig
    from aihwkit.simulator.configs.compounds import BufferedTransferCompound, TransferCompound
    from aihwkit.simulator.configs.devices import SoftBoundsDevice
    from benchmark_in_situ import best, symbols, update_vectors

    def device() -> Any:
        return SoftBoundsDevice(dw_min=0.002)

    def single() -> Any:
        return SingleRPUConfig(device=device())

    def compound(kind: type) -> Any:
        # A read after every second update, as here; counted in batches it would be one after two sequences of 100 updates.
        unit = kind(unit_cell_devices=[device(), device()], transfer_every=2, units_in_mbatch=False)
        return UnitCellRPUConfig(device=unit)

    def update(outputs: int, inputs: int, one_hot: bool) -> float:
        config = single()
        tile = config.tile_class(outputs, inputs, config)
        tile.set_learning_rate(0.01)
        x, d = (torch.from_numpy(vector) for vector in update_vectors(outputs, inputs, one_hot))
        return 1e6 * best(lambda number: tile.update(x, d), 500)

    def characters(config: Any) -> float:
        lstm = AnalogRNN(AnalogLSTMCellCombinedWeight, 87, 64, rpu_config=config, num_layers=2)
        model = nn.ModuleList([lstm, AnalogLinear(64, 87, rpu_config=config)])
        optimizer = AnalogSGD(model.parameters(), lr=0.01)
        optimizer.regroup_param_groups(model)
        text = torch.from_numpy(symbols())[:, None]

        def sequence(number: int) -> None:
            optimizer.zero_grad()
            part = text[number * 100 : number * 100 + 101]
            hidden, _ = model[0](nn.functional.one_hot(part[:-1], 87).float())
            nn.functional.cross_entropy(model[1](hidden).flatten(0, 1), part[1:].flatten(), reduction="sum").backward()
            optimizer.step()

        return 100 / best(sequence, 3)

    def images() -> float:
        config, sizes = compound(BufferedTransferCompound), (784, 256, 128, 10)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [AnalogLinear(inputs, outputs, rpu_config=config), nn.Sigmoid()]
        model = nn.Sequential(*layers[:-1])
        optimizer = AnalogSGD(model.parameters(), lr=0.01)
        optimizer.regroup_param_groups(model)
        x, target = torch.rand(1, 784) * (torch.rand(1, 784) < 0.19), torch.tensor([3])

        def image(number: int) -> None:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), target).backward()
            optimizer.step()

        return 1 / best(image, 50)

    update(8, 8, False)  # does it run at all?
    return {
        "pulsed_update_256x152_us": lambda: update(256, 152, True),
        "pulsed_update_512x512_us": lambda: update(512, 512, False),
        "lstm_sgd_chars_per_s": lambda: characters(single()),
        "lstm_tiki_taka_chars_per_s": lambda: characters(compound(TransferCompound)),
        "lstm_ttv2_chars_per_s": lambda: characters(compound(BufferedTransferCompound)),
        "fc_mnist_ttv2_samples_per_s": images,
    }
