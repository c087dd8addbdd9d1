"""What the measured record holds: its commands, in order, and what they take on one core.

A command names the network it scores by the step that trains it, as in `checkpoint={mrpc digital 0}`; the folder is looked up
when it is there. Seconds are an estimate for one thread of a Zen 4 (AVX-512 VNNI): MiniLM on MRPC, STS-B and CoLA by steps
and scores that were timed, mostly beside other work, SST-2 and the base-sized encoder scaled from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

MINILM = ("noise=pcm", "model=minilm", "model.path=../shared/models/all-MiniLM-L6-v2", "data.root=../shared/data/glue")
MPNET = ("noise=pcm", "model=mpnet_base", "model.path=../all-mpnet-base-v2", "data.root=../shared/data/glue")
SCORE = ("noise=pcm", "data.root=../shared/data/glue")
EXAMPLES = {"mrpc": 3668, "stsb": 5749, "cola": 8551, "sst2": 67349}
BATCH = 16
# [s] a step of digital and of hardware-aware training, and a score of one chip at one time
SECONDS = {"mrpc": (0.65, 1.2, 4), "stsb": (0.6, 1.1, 9), "cola": (0.35, 0.65, 4), "sst2": (0.4, 0.8, 5)}
BASE = 12  # times as much for a base-sized encoder: twice the layers, twice the width and a little
ATTENTION = 1.4  # times as long a training with attention in integers
SINCE = "evaluation.times=[3600,2592000]"  # [s] an hour, a month
ENDS = "evaluation.times=[1,2592000]"  # [s] a second, a month
TIMES = 5  # of evaluation.times by default
# Of the training of Lammie et al.: clipping and quantised inputs and outputs, neither, and one without the other.
LINES = {
    "": (), " free": ("training.weight_clip=null", "training.quantisation=false"),
    " unclipped": ("training.weight_clip=null",), " unquantised": ("training.quantisation=false",),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One command. `name` is what later steps call its network by."""

    name: str
    words: tuple[str, ...]
    seconds: float

    @property
    def needs(self) -> list[str]:
        """Names of the steps that train what this one scores."""
        return [word.partition("{")[2].rstrip("}") for word in self.words if "{" in word]


def _train(
    name: str, task: str, seed: int, words: tuple[str, ...], *, mode: str, epochs: float, scores: int, base: bool = False,
    times_as_long: float = 1.0,
) -> Step:  # fmt: skip
    digital, aware, score = SECONDS[task]
    steps = EXAMPLES[task] / BATCH * epochs
    seconds = steps * (digital if mode == "digital" else aware) * times_as_long + scores * score
    head = ("train", f"task={task}", *(MPNET if base else MINILM))
    return Step(name, (*head, *words, *([f"seed={seed}"] if seed else [])), seconds * (BASE if base else 1))


def _score(name: str, command: str, task: str, of: str, words: tuple[str, ...], scores: int, base: bool = False) -> Step:
    seconds = (scores * SECONDS[task][2] + 30) * (BASE if base else 1)
    return Step(name, (command, f"checkpoint={{{of}}}", *SCORE, *words), seconds)


def figure5() -> Iterator[Step]:
    """Figures 5 and 6: three seeds, ten chips, five times, γ 1 and 0.5, digital and hardware-aware."""
    for task in ("mrpc", "cola", "stsb"):
        for seed in range(3):
            for mode in ("digital", "hardware_aware"):
                name, words = f"{task} {mode} {seed}", (f"training={mode}", "evaluation.chips=10")
                yield _train(name, task, seed, words, mode=mode, epochs=3, scores=10 * TIMES)
                yield _score(
                    f"{name} reduced", "evaluate", task, name, ("noise=pcm_reduced", "evaluation.chips=10"), 10 * TIMES
                )
    for mode in ("digital", "hardware_aware"):  # a fifth of an epoch: as many examples as a fifth of the data
        words = (f"training={mode}", "training.epochs=1", "training.max_steps=842", "evaluation.chips=5")
        yield _train(f"sst2 {mode} 0", "sst2", 0, words, mode=mode, epochs=0.2, scores=5 * TIMES)


def base() -> Iterator[Step]:
    """At base size: MPNet, two seeds, two epochs (three would be seven hours more), five chips, five times."""
    for task in ("stsb", "mrpc"):
        for seed in range(2):
            for mode in ("digital", "hardware_aware"):
                words = (f"training={mode}", "training.epochs=2", "evaluation.chips=5")
                name = f"base {task} {mode} {seed}"
                yield _train(name, task, seed, words, mode=mode, epochs=2, scores=5 * TIMES, base=True)


def figure8() -> Iterator[Step]:
    """Figure 8: attention in integers, after training and trained with it, two seeds, ten chips."""
    for task in ("mrpc", "cola", "stsb"):
        for seed in range(2):
            for kind in ("int10", "int8", "int6"):
                words = (f"attention={kind}", "evaluation.chips=10", ENDS)
                yield _score(f"{task} {seed} {kind} after", "evaluate", task, f"{task} hardware_aware {seed}", words, 20)
                name = f"{task} {seed} {kind} trained"
                yield _train(name, task, seed, words, mode="hardware_aware", epochs=3, scores=20, times_as_long=ATTENTION)


def tuning() -> Iterator[Step]:
    """Ranges after training (Lammie et al. 2024): `tuning=auto` beside hardware-aware training, and the paper's table."""
    for task in ("mrpc", "stsb", "cola"):
        yield _train(f"{task} start", task, 0, ("training=digital", "evaluation.chips=0"), mode="digital", epochs=3, scores=0)
        for tile in ("lammie2024", "spoon2021"):
            on = (f"tile={tile}", "evaluation.chips=10", SINCE)
            yield _score(f"{task} auto {tile}", "tune", task, f"{task} start", on, 60)
            yield _train(f"{task} aware {tile}", task, 0, on, mode="hardware_aware", epochs=3, scores=20)
    for line, more in LINES.items():
        for task in ("mrpc", "stsb", "cola"):
            epochs = 2 if task == "mrpc" else 1
            over_time = task == "mrpc" and not line  # Figure 3 is shown on it
            times = TIMES if over_time else 1
            experiment = "lammie2024_figure3" if over_time else "lammie2024_table2"
            for kind in ("none", "learned"):
                words: tuple[str, ...] = (f"training.start_from={{{task} start}}", f"training.epochs={epochs}", *more)
                if kind == "none":
                    words += ("training.input_range.learning_rate=0", "training.output_scale_learning_rate=0")
                name = f"{task} ranges {kind}{line}"
                trained = _train(
                    name, task, 0, ("tile=lammie2024", *words), mode="hardware_aware", epochs=epochs, scores=10 * times
                )
                yield Step(name, ("train", f"+experiment={experiment}", *trained.words[1:]), trained.seconds)
                methods = ("lammie2024", "dac_range", "conductance_range")
                for method in methods[:1] if line and kind == "learned" else methods:
                    after = (
                        "tile=lammie2024", f"tuning={method}", "hardware.calibration.deviations=3",
                        "hardware.calibration.examples=800", "evaluation.chips=10",
                        *(() if over_time else ("evaluation.times=[3600]",)),
                    )  # fmt: skip
                    yield _score(f"{name} {method}", "tune", task, name, after, 3 + 10 * times)


def ablation() -> Iterator[Step]:
    """What costs the accuracy, after a second and a month: MiniLM and MPNet, with attention in integers, behind wires."""
    for task in ("mrpc", "stsb"):
        words = ("evaluation.chips=5", ENDS, "ablate=true")
        for kind, more in (("", ()), (" int8", ("attention=int8",)), (" wires", ("tile.wire_resistance=0.35",))):
            yield _score(f"{task} ablated{kind}", "evaluate", task, f"{task} hardware_aware 0", (*words, *more), 100)
        yield _score(f"base {task} ablated", "evaluate", task, f"base {task} hardware_aware 0", words, 100, base=True)


def design() -> Iterator[Step]:
    """Which device would do, which layers should stay digital: MRPC and STS-B, digital and hardware-aware, a month."""
    month = "2592000"
    for task in ("mrpc", "stsb"):
        for kind, name in (("digital", f"{task} start"), ("aware", f"{task} aware spoon2021")):
            aware = kind == "aware"
            keep = {"mrpc": 99, "stsb": 98}[task] if aware else 97
            knobs = "device_noise,output_noise,adc_bits" if task == "mrpc" else "device_noise"
            ask = (f"time={month}", f"keep={keep}", "evaluation.chips=10")
            words = (*ask, "looks=4", f"knobs=[{knobs}]", "check_chips=25")
            looks = 5 * (1 + knobs.count(",")) * 10
            yield _score(f"{task} {kind} specified", "specify", task, name, words, looks + 75)
            words = (f"evaluation.times=[{month}]", "evaluation.chips=10", "place.group=kind", "place.sets=4")
            yield _score(f"{task} {kind} placed", "place", task, name, words, 140)
            if aware and task == "mrpc":
                words = (*ask, "looks=3", "pairs=[[device_noise,adc_bits]]", "lines=3")
                yield _score(f"{task} {kind} mapped", "specify", task, name, words, 90)


def in_situ() -> Iterator[Step]:
    """War and Peace by TTv2 on Model-I: λ's halving searched on five epochs, three seeds of 50 epochs, extraction."""
    seconds = 70.0  # an epoch of 2.9 million characters at 42,000 a second
    data = ("data.root=../shared/data",)
    for every in (1, 2):
        words = ("training.epochs=5", "training.average_epochs=1", f"training.transfer_decay_every={every}")
        yield Step(f"search {every}", ("train", "+experiment=gokmen_table1", *data, *words), 5 * seconds)
    for seed in range(3):
        name = f"model_i {seed}"
        yield Step(name, ("train", "+experiment=gokmen_table1", *data, f"seed={seed}"), 50 * seconds)
        yield Step(f"{name} extracted", ("extract", f"checkpoint={{{name}}}", *data), 600)


RECORDS = {"figure5": figure5, "base": base, "figure8": figure8, "ablation": ablation, "tuning": tuning, "design": design,
           "in_situ": in_situ}  # fmt: skip


def steps(names: list[str]) -> list[Step]:
    """All steps of these records, and before them those that train what they score."""
    everything = {step.name: step for record in RECORDS.values() for step in record()}
    wanted: dict[str, Step] = {}
    for record in names:
        for step in RECORDS[record]():
            for name in (*step.needs, step.name):
                wanted[name] = everything[name]
    return list(wanted.values())
