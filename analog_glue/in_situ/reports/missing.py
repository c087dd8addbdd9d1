"""What the paper shows and no run has measured, each with the command that makes it."""

from __future__ import annotations

from collections.abc import Sequence

from analog_glue.in_situ.reports.extraction import extractions
from analog_glue.in_situ.reports.groups import AXES, MODELS, MOMENTUM, Axis, Group, departures
from analog_glue.reports.grids import ALGORITHMS, DEVICES, NO_DEVICE

# Of TTv2 at 1,200 states (docs/in_situ.md, "Settings from a search").
SLOWING = " training.transfer_rate=0.004 training.transfer_decay_every=2"


def missing(texts: Sequence[Group], groups: Sequence[Group], arrays: bool) -> list[str]:
    """A line for every figure and table of the paper that has no data, once one of them has.

    What learnt only a part of the training set is no data of the paper's. `arrays`: whether random arrays were extracted.
    """
    tasks = {group.any.task for group in groups}
    if not (texts or arrays or any(task.startswith("mnist") for task in tasks)):
        return []
    texts, groups = ([group for group in own if not group.short] for own in (texts, groups))
    tasks = {group.any.task for group in groups}
    base = {(g.any.device, g.any.training) for g in texts if not departures(g)}
    every = [extraction for group in groups for run in group.runs.values() for extraction in run.extractions]
    noisy = [group for group in texts if group.any.device in MODELS]
    train, extract, folder = "analog-glue train", "analog-glue extract", "checkpoint=<its folder>"
    first = [bool(group.setting(MOMENTUM)) for group in noisy if group.any.device == MODELS[0]]
    wanted: list[tuple[str, bool, str]] = [
        *(
            (f"Figure 3, {DEVICES[device]} {ALGORITHMS[mode]}", (device, mode) in base,
             f"{train} +experiment=gokmen_figure3 training={mode} device={device}{SLOWING if mode == 'ttv2' else ''}")
            for device, mode in (("symmetric_linear", "sgd_pulsed"), ("soft_bounds", "sgd_pulsed"),
                                 ("soft_bounds", "tiki_taka"), ("soft_bounds", "ttv2"))
        ),
        ("Figure 3, floating point", (NO_DEVICE, "sgd_digital") in base,
         f"{train} +experiment=gokmen_figure3 training=sgd_digital"),
        *(
            (f"Figure 4, {axis.what}", bool(axis.points(texts)), f"{train} -m +experiment=gokmen_figure4{_along(axis)}")
            for axis in AXES
        ),
        *(
            (f"Figure 5, {name} TTv2 on Model-I", kept in first,
             f"{train} +experiment=gokmen_figure5{'' if kept else ' training.momentum=0'}")
            for name, kept in (("hysteretic", True), ("plain", False))
        ),
        ("Figure 6", arrays, f"{extract} -m +experiment=gokmen_figure6 extract.inputs=uniform,one_hot seed=0,1,2"),
        *(
            (f"Table 1, {DEVICES[device]}", any(extractions(g) for g in noisy if g.any.device == device),
             f"{train} +experiment=gokmen_table1 device={device}, then {extract} {folder}")
            for device in MODELS
        ),
        ("Table 2", any(e.pruning for e in every),
         f"{train} +experiment=gokmen_table2, then {extract} {folder} extract.prune=[0,0.1,0.2,0.3,0.4]"),
        ("Table 3", any(e.perturbation for e in every),
         f"{train} +experiment=gokmen_table3, then {extract} {folder} extract.perturb=[0.25,0.5,1]"),
        ("MNIST", any(task.startswith("mnist") for task in tasks),
         f"{train} -m +experiment=mnist_in_situ training=sgd_pulsed,tiki_taka,ttv2"),
    ]  # fmt: skip
    return [f"{what}: {command}" for what, there, command in wanted if not there]


def _along(axis: Axis) -> str:
    """Settings of a command for all points of an axis; Figure 3 has the baseline where it has the rest."""
    values = ",".join(f"{value:g}" for value in axis.values if axis.zero or value != axis.baseline)
    zero = f" {axis.zero}=0" if axis.zero else ""
    mode = SLOWING if axis.training == "ttv2" else f" training={axis.training}"
    return f"{zero} {axis.key}={values}{mode}"
