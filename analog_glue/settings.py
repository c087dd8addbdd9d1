"""The run's own scalars, typed. Components (task, model, attention, noise, tile, training) are built from their own yaml files.

No torch here: `seed=abc` is refused before anything heavy is imported.
"""

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from analog_glue.errors import require

OUTPUT_ROOT = "outputs"


MOST_PRODUCTS = 2**32  # of an array, since the noise of each is named by 32 bits


MISSING: Any = "???"  # OmegaConf's word for "must be given"


def quoted(text: str) -> str:
    """Text between the quotes that Hydra's grammar wants around special signs."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text) + "'"


def typed(setting: str, value: object) -> str:
    """`setting=value` as it is typed in a shell."""
    text = str(value)
    word = f"{setting}={text if re.fullmatch('[a-zA-Z0-9_./+-]+', text) else quoted(text)}"
    return f'"{word}"' if "'" in word and not re.search(r'["$`!\\]', word) else shlex.quote(word)


def typed_list(setting: str, values: Iterable[str]) -> str:
    """`setting=["a","b"]` as it is typed in a shell, which finds no pattern and no history in it."""
    listed = ",".join(f'"{value}"' for value in values)
    return shlex.quote(f"{setting}=[{listed}]")


Typed = TypeVar("Typed", str, str | None)


def without_tilde(path: Typed) -> Typed:
    """A path as it was typed, with the home folder for a `~` at its beginning."""
    return path if path is None else os.path.expanduser(path)


def output_root_typed(root: Path | str) -> str:
    """What a command needs to write below `root`, with a space before it; nothing where it would anyway."""
    return "" if Path(root).resolve() == Path(OUTPUT_ROOT).resolve() else f" {typed('output_root', root)}"


@dataclass
class Runtime:
    """Where and how the products are computed; none of it changes the physics."""

    device: str = "auto"  # auto | cpu | cuda
    threads: int = 0  # of torch on the CPU; 0 keeps torch's default
    jobs: int = 1  # of a sweep that run at the same time, each in a process with its share of the cores
    kernel: str = "auto"  # auto | reference (plain PyTorch) | compiled (numba on the CPU, Triton on CUDA)
    product: str = "auto"  # auto | float32 | CPU: int8 (15-bit weights), int8_single (8), int8_outliers | CUDA: float16
    matmul: str = "default"  # float32 products of all digital work: default | onednn | auto (only if a probe finds it faster)

    def __post_init__(self) -> None:
        known: tuple[str, ...] = ("default", "onednn", "auto")
        require(self.matmul in known, "runtime.matmul", f"be one of {', '.join(known)}", self.matmul)
        require(self.device in ("auto", "cpu", "cuda"), "runtime.device", "be auto, cpu or cuda", self.device)
        require(self.jobs >= 1, "runtime.jobs", "be at least 1", self.jobs)
        require(self.threads >= 0, "runtime.threads", "be at least 0 (0: torch's default)", self.threads)
        known = ("auto", "reference", "compiled")
        require(self.kernel in known, "runtime.kernel", f"be one of {', '.join(known)}", self.kernel)
        known = ("auto", "int8", "int8_single", "int8_outliers", "float16", "float32")
        require(self.product in known, "runtime.product", f"be one of {', '.join(known)}", self.product)


@dataclass
class Data:
    root: str | None = None  # folder with glue/, warpeace/, mnist/, or what is in one of them; null: downloaded

    def __post_init__(self) -> None:
        self.root = without_tilde(self.root)


@dataclass
class Calibration:
    """Input (DAC) ranges of a network that was not trained with them, from training examples."""

    percentile: float = 99.995  # [%] of |x| per row block that stays inside the range
    deviations: float | None = None  # instead: the range is so many standard deviations of x; null: the percentile counts
    examples: int = 256  # training examples that are run through the digital network
    adc_headroom: bool = True  # widen the range of a row block whose currents would saturate its ADCs

    def __post_init__(self) -> None:
        name = "hardware.calibration"
        require(0 < self.percentile <= 100, f"{name}.percentile", "lie in (0, 100]", self.percentile)
        known = self.deviations is None or self.deviations > 0
        require(known, f"{name}.deviations", "be positive [standard deviations] or null", self.deviations)
        require(self.examples >= 1, f"{name}.examples", "be at least 1", self.examples)

    @property
    def in_words(self) -> str:
        """What a range is, and of what: "99.995 % of |x| of 256 training examples"."""
        rule = f"{self.percentile:g} % of |x|" if self.deviations is None else f"{self.deviations:g} standard deviations of x"
        return f"{rule} of {self.examples} training examples"


@dataclass
class HardwareSettings:
    layers: list[str] = field(default_factory=lambda: ["*"])  # name patterns of the linear layers put on tiles
    calibration: Calibration = field(default_factory=Calibration)
    read_out: str = "measured"  # of the drift compensation: measured (with noise, as a chip does) | expected (its mean)
    reference: str = "programmed"  # what its factors restore: programmed (the first read-out) | target (that of exact weights)
    factor_per: str = "tile"  # its factors, one for each: tile | column

    def __post_init__(self) -> None:
        known = ("measured", "expected")
        require(self.read_out in known, "hardware.read_out", f"be one of {', '.join(known)}", self.read_out)
        known = ("programmed", "target")
        require(self.reference in known, "hardware.reference", f"be one of {', '.join(known)}", self.reference)
        known = ("tile", "column")
        require(self.factor_per in known, "hardware.factor_per", f"be one of {', '.join(known)}", self.factor_per)
        require(len(self.layers) > 0, "hardware.layers", "name at least one pattern", self.layers)

    @property
    def compensation(self) -> dict[str, str]:
        """Settings of the drift compensation, by name."""
        return {"read_out": self.read_out, "reference": self.reference, "factor_per": self.factor_per}


@dataclass
class Evaluation:
    """The drift sweep: every chip is programmed once and visits the times in order."""

    chips: int = 25  # programmed each with random numbers of its own; the same ones whatever their number
    times: list[float] = field(default_factory=lambda: [1.0, 3600.0, 86400.0, 604800.0, 2592000.0])  # [s] after programming
    compensation: list[bool] = field(default_factory=lambda: [True])  # drift compensation; [true,false] scores with and without
    chip_seed: int = 0  # the same chips for every variant that is compared
    token_budget: int = 4096  # padded tokens of one evaluation batch
    chips_per_pass: int = 1  # chips that share a forward pass, each with its own batch; more pays on a GPU, and takes memory
    also: list[str] = field(default_factory=list)  # other options of `noise` whose chips are scored afterwards
    weights: str = "extracted"  # of an extraction from an in-situ run: extracted (at its end) | averaged (over its last epochs)
    ideal_devices: bool = True  # also score devices without noise or drift behind the same periphery

    def __post_init__(self) -> None:
        require(self.chips >= 0, "evaluation.chips", "be at least 0", self.chips)
        require(len(self.times) > 0, "evaluation.times", "hold at least one time [s]", self.times)
        require(all(t > 0 for t in self.times), "evaluation.times", "hold positive times [s]", list(self.times))
        require(len(self.compensation) > 0, "evaluation.compensation", "be [true], [false] or [true,false]", [])
        twice = len(set(self.also)) < len(self.also)
        require(not twice, "evaluation.also", "name every option of `noise` once", list(self.also))
        require(self.chip_seed >= 0, "evaluation.chip_seed", "be at least 0", self.chip_seed)
        require(self.chips_per_pass >= 1, "evaluation.chips_per_pass", "be at least 1", self.chips_per_pass)
        known = ("extracted", "averaged")
        require(self.weights in known, "evaluation.weights", f"be one of {', '.join(known)}", self.weights)
        require(self.token_budget >= 1, "evaluation.token_budget", "be at least 1", self.token_budget)


@dataclass
class RandomArray:
    """An array of normal weights that extraction is tried on (Gokmen 2021, Figure 6)."""

    outputs: int = 512  # of the array
    inputs: int = 512  # of the array
    weight_std: float = 1 / 3  # in units of w_max, at which weights are clipped
    w_max: float = 0.6  # nominal range of the devices
    output_noise: float = 0.06  # σ of every output of every product

    def __post_init__(self) -> None:
        for name in ("outputs", "inputs"):
            require(getattr(self, name) >= 1, f"extract.array.{name}", "be at least 1", getattr(self, name))
        for name in ("weight_std", "w_max"):
            require(getattr(self, name) > 0, f"extract.array.{name}", "be positive", getattr(self, name))
        require(self.output_noise >= 0, "extract.array.output_noise", "be at least 0", self.output_noise)


@dataclass
class Extract:
    """How the weights of an in-situ run are read out of its arrays."""

    products: int = 10_000  # noisy products of every array; one_hot: its columns are read as often as fits, once at least
    inputs: str = "uniform"  # uniform (least squares) | one_hot (column by column, for comparison)
    amplitude: float | None = None  # largest uniform input; null: of each array, the largest that saturates no ADC
    time: float = 0.0  # [s] after training, or after writing fresh arrays, at which they are read; see device.drift
    prune: list[float] = field(default_factory=list)  # shares of the weights set to 0, by magnitude and by |mean| / spread
    perturb: list[float] = field(default_factory=list)  # noise on the mean, in units of the spread of each weight
    draws: int = 5  # of each noise
    array: RandomArray | None = None  # instead of a run's arrays: one of random weights

    def __post_init__(self) -> None:
        known = self.amplitude is None or 0 < self.amplitude <= 1
        require(known, "extract.amplitude", "be null or lie in (0, 1]", self.amplitude)
        require(self.time >= 0, "extract.time", "be at least 0 [s]", self.time)
        require(all(0 <= share <= 1 for share in self.prune), "extract.prune", "hold shares in [0, 1]", list(self.prune))
        require(all(k >= 0 for k in self.perturb), "extract.perturb", "hold numbers of at least 0", list(self.perturb))
        require(self.draws >= 1, "extract.draws", "be at least 1", self.draws)
        if self.array is not None and self.inputs == "uniform":
            least = self.array.inputs + 2
            require(self.products >= least, "extract.products", f"be at least inputs + 2 = {least}", self.products)
        fits = 1 <= self.products < MOST_PRODUCTS
        require(fits, "extract.products", f"lie in 1 … {MOST_PRODUCTS - 1:,}", self.products,
                "More would see the same noise again.")  # fmt: skip
        require(self.inputs in ("uniform", "one_hot"), "extract.inputs", "be uniform or one_hot", self.inputs)
        free = self.inputs == "uniform" or self.amplitude is None
        require(free, "extract.amplitude", "be null with extract.inputs=one_hot", self.amplitude,
                "Its inputs are 0 and 1.")  # fmt: skip


@dataclass
class Tune:
    """What ranges and scales are tuned on, after training. Neither its chips nor its examples are any that results are of."""

    examples: int = 64  # training examples that ranges are taken from, in the forward pass of a chip
    compared: int = 16  # others, on which candidates are compared: products of layers, outputs of the network
    judged: int = 32  # others again, by whose outputs tuning=auto judges a step
    chips: int = 1  # that candidates are compared on
    judges: int = 5  # other chips, on which tuning=auto judges a step
    time: float = 3600.0  # [s] after programming: the age of all of them

    def __post_init__(self) -> None:
        for name, least in (("examples", 1), ("compared", 1), ("judged", 1), ("chips", 1), ("judges", 2)):
            require(getattr(self, name) >= least, f"tune.{name}", f"be at least {least}", getattr(self, name))
        require(self.time > 0, "tune.time", "be positive [s]", self.time)


@dataclass
class Specify:
    """Which device would do: how much of each non-ideality a network bears while it keeps its score."""

    keep: float = 99.0  # [%] of the digital score that the mean over chips must keep
    time: float | None = None  # [s] after programming, when it must
    confidence: float = 0.95  # of every answer by itself: that what it says is borne really is
    knobs: list[str] = field(default_factory=list)  # one at a time; []: all that the hardware has
    pairs: list[list[str]] = field(default_factory=list)  # [[a,b],…]: how much of b is borne at several values of a
    largest: float = 8.0  # factors on a noise of today are looked for between 1/8 and 8, and 0
    looks: int = 5  # values of a noise that chips are scored at before 0; one more halves the steps
    lines: int = 7  # values of the first knob of a pair
    check_chips: int = 0  # fresh chips that every answer of one knob is checked on

    def __post_init__(self) -> None:
        require(0 < self.keep <= 100, "specify.keep", "lie in (0, 100] [% of the digital score]", self.keep)
        require(self.time is None or self.time > 0, "specify.time", "be positive [s]", self.time)
        require(0.5 <= self.confidence < 1, "specify.confidence", "lie in [0.5, 1)", self.confidence)
        require(self.largest > 1, "specify.largest", "be more than 1", self.largest)
        require(1 <= self.looks <= 10, "specify.looks", "lie in 1 … 10", self.looks)
        require(self.lines >= 1, "specify.lines", "be at least 1", self.lines)
        fits = self.check_chips == 0 or self.check_chips >= 2
        require(fits, "specify.check_chips", "be 0 (no check) or at least 2", self.check_chips)
        for pair in self.pairs:
            fits = len(pair) == 2 and pair[0] != pair[1]
            require(fits, "specify.pairs", "hold pairs of two different knobs, [[a,b],…]", list(pair))

    def require_whole(self, evaluation: "Evaluation") -> None:
        """Hold what `specify` is asked to what can be answered.

        Raises:
            UserError: no time, too few chips, or drift compensation both on and off.
        """
        advice = "Write time=2592000 for a month."
        require(self.time is not None, "specify.time", "say how long after programming [s] the score is kept", None, advice)
        require(evaluation.chips >= 2, "evaluation.chips", "be at least 2 for `specify`", evaluation.chips,
                "A mean over chips is judged by how much they differ.")  # fmt: skip
        one = len(set(evaluation.compensation)) == 1
        require(one, "evaluation.compensation", "be [true] or [false] for `specify`", list(evaluation.compensation))


@dataclass
class Place:
    """Which layers are tried beside the tiles, and how many scores that may take."""

    group: str = "auto"  # taken off together: layer | block | kind (the same layer of all blocks) | auto (finest that fits)
    by: str = "alone_off"  # a group is judged: alone_off (the others on tiles) | alone_on (the others digital) | both
    sets: int = 8  # sets of several groups that are scored, along the order of gain for the energy that they add
    control: bool = False  # also score as many sets in the order of that energy alone, blind to the gain
    most_scores: int = 500  # that all of it may take

    def __post_init__(self) -> None:
        for name, known in (("group", ("auto", "layer", "block", "kind")), ("by", ("alone_off", "alone_on", "both"))):
            require(getattr(self, name) in known, f"place.{name}", f"be one of {', '.join(known)}", getattr(self, name))
        require(self.sets >= 0, "place.sets", "be at least 0", self.sets)
        require(self.most_scores >= 1, "place.most_scores", "be at least 1", self.most_scores)


@dataclass
class Reprogramming:
    """When a chip is to be programmed again: once its score has fallen by so much, and how sure that has to be."""

    loss: float = 1.0  # [points] below the digital score of the same network that are accepted
    share: float = 0.95  # of chips that a tolerance bound speaks of: a single chip is one of them
    confidence: float = 0.95  # of that bound

    def __post_init__(self) -> None:
        require(self.loss >= 0, "reprogramming.loss", "be at least 0 [points]", self.loss)
        for name in ("share", "confidence"):
            require(0 < getattr(self, name) < 1, f"reprogramming.{name}", "lie between 0 and 1", getattr(self, name))


@dataclass
class Publish:
    """Where a finished run goes, for others to use."""

    folder: str | None = None  # to write: new or empty
    push: bool = False  # send it to the Hugging Face hub
    repo: str | None = None  # there: OWNER/NAME
    private: bool = True  # a repository that is made anew can be read by its owner alone
    license: str | None = None  # of the network; null: that of the model it was made from, where that is known

    def __post_init__(self) -> None:
        self.folder = without_tilde(self.folder)


ON_CHIPS = ("evaluate", "tune", "diagnose", "specify", "place")  # commands that put a checkpoint on chips of their own
RUNS = ("train", *ON_CHIPS, "factsheet", "publish", "extract")  # commands that take settings
# Which of them have a setting, and all that are below it; what is not named here belongs to every one.
COMMANDS_OF = {
    "seed": ("train", "extract"),
    "force": ("train", *ON_CHIPS, "publish", "extract"),
    "best_of": ("train",),
    "ablate": ("evaluate",),
    "checkpoint": (*ON_CHIPS, "factsheet", "publish", "extract"),
    "sequence_length": ("place", "factsheet"),
    "batch": ("place", "factsheet"),
    "runtime.jobs": RUNS,
    "runtime": ("train", *ON_CHIPS, "extract"),
    "data": ("train", *ON_CHIPS, "extract"),
    "hardware": ("train", *ON_CHIPS, "factsheet"),
    "evaluation": ("train", *ON_CHIPS),
    "evaluation.times": ("train", "evaluate", "tune", "diagnose", "place"),
    "evaluation.also": ("train", "evaluate"),
    "evaluation.weights": ("evaluate",),
    "reprogramming": ("factsheet",),
    **{command: (command,) for command in ("extract", "tune", "specify", "place", "publish")},
}


def commands_of(setting: str) -> tuple[str, ...]:
    """The commands that have a setting, of its full key."""
    parts = setting.split(".")
    above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((COMMANDS_OF[key] for key in above if key in COMMANDS_OF), RUNS)


@dataclass
class RunSettings:
    """Everything of a run that is not a component. `task` … `training` hold the resolved yaml of the components."""

    seed: int = 0  # names every random number of a training, the order of its examples too
    dry_run: bool = False  # print what would run, then stop
    force: bool = False  # measure and train again although it was done
    best_of: int = 1  # networks of as many seeds from `seed` on; the best on validation alone goes on chips
    ablate: bool = False  # also score the hardware with each non-ideality alone, and with each left out
    output_root: str = OUTPUT_ROOT  # folder that runs are written to
    checkpoint: str | None = None  # the folder of a training run
    sequence_length: int = 32  # tokens of a sequence whose costs are told
    batch: int = 4  # sequences that are computed together
    runtime: Runtime = field(default_factory=Runtime)
    data: Data = field(default_factory=Data)
    hardware: HardwareSettings = field(default_factory=HardwareSettings)
    evaluation: Evaluation = field(default_factory=Evaluation)
    extract: Extract = field(default_factory=Extract)
    tune: Tune = field(default_factory=Tune)
    specify: Specify = field(default_factory=Specify)
    place: Place = field(default_factory=Place)
    reprogramming: Reprogramming = field(default_factory=Reprogramming)
    publish: Publish = field(default_factory=Publish)
    task: Any = MISSING
    model: Any = MISSING
    attention: Any = None  # null: as the checkpoint was trained
    noise: Any = MISSING
    tile: Any = MISSING
    device: Any = None  # pulsed devices of in-situ training
    training: Any = MISSING
    tuning: Any = None
    costs: Any = None

    def __post_init__(self) -> None:
        self.output_root = without_tilde(self.output_root)
        self.checkpoint = without_tilde(self.checkpoint)
        require(self.best_of >= 1, "best_of", "be at least 1", self.best_of)
        for name in ("sequence_length", "batch"):
            require(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        require(self.seed >= 0, "seed", "be at least 0", self.seed)
