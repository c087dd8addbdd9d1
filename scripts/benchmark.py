"""How long the simulation takes, as a ratio to plain FP32 PyTorch measured in the same rounds.

    python scripts/benchmark.py                  Markdown table, about 6 minutes on 2 cores
    python scripts/benchmark.py --quick          fewer rounds, without in_situ, under 2 minutes
    python scripts/benchmark.py --json           one line a measure: {"name": …, "ratio" | "seconds" | "mib": …}
    python scripts/benchmark.py --only hwa_step --threads 2
    python scripts/benchmark.py --only in_situ          in-situ training alone (benchmark_in_situ.py); or one of its names
    python scripts/benchmark.py --peers          adds aihwkit and aihwkit-lightning where they import (extra `peer`)

Every round runs the cases one after another, in turn, so that a machine that slows down slows all of them; a ratio is the
median over rounds of case / FP32 within one round. Models have random weights: time does not depend on their values.
FP32 is stock PyTorch; the column "routed" gives the ratio to FP32 with its products through oneDNN (runtime.matmul=onednn),
which on some CPUs is faster.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

import analog_glue
from analog_glue.devices.pcm import PCM
from analog_glue.kernels.matmul import PERMISSION, unchanged
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import Chip, program
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.digital import Digital
from analog_glue.training.hardware_aware import HardwareAware
from analog_glue.training.mode import Preparation, TrainingMode

SHARED = Path(__file__).resolve().parents[2] / "shared"
SHAPES = ((768, 768), (768, 3072), (3072, 768))  # inputs → outputs of BERT-base's layers
BATCH, LENGTH = 8, 128  # examples × tokens of one batch
DAY = 86_400.0  # [s]

# Largest value that still meets the goal of this release on 2 CPU cores with AVX-512.
TARGETS = {
    "mvm_4096": 0.7,
    "mvm_128": 0.75,
    "bert_inference": 0.8,
    "hwa_step": 1.0,
    "hwa_step_bf16": 0.5,
    "program": 2.0,
    "age": 0.8,
    "mrpc_score": 0.4,
}
MEMORY_TARGET = 1.05  # × FP32
IN_SITU = (  # scripts/benchmark_in_situ.py has the targets
    "lstm_ttv2_chars_per_s", "lstm_sgd_chars_per_s", "lstm_tiki_taka_chars_per_s", "pulsed_update_256x152_us",
    "pulsed_update_512x512_us", "fc_mnist_ttv2_samples_per_s",
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One line of the table.

    `kind` names the unit of `value`: ratio (to FP32), seconds, mib, rate [10⁹ / s], per_second or microseconds.
    """

    name: str
    kind: str
    value: float
    low: float  # smallest and largest over rounds
    high: float
    absolute: str  # median time, in words
    what: str
    routed: float | None = None  # ratio to FP32 through oneDNN
    target: float | None = None

    @property
    def verdict(self) -> str:
        target = TARGETS.get(self.name, self.target)
        if target is None:
            return ""
        if self.kind == "per_second":
            return f"≥ {target:,} " + ("met" if self.value >= target else "MISSED")
        return f"≤ {target:,.4g} " + ("met" if self.value <= target else "MISSED")


# --- timing ----------------------------------------------------------------------------------------------


def interleaved(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every case in every round; a round runs each case once, starting with another one each time."""
    for case in cases.values():
        case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(seconds: dict[str, list[float]], name: str, baseline: str = "fp32") -> list[float]:
    return [case / fp32 for case, fp32 in zip(seconds[name], seconds[baseline], strict=True)]


def beside_routed(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, Callable[[], object]]:
    """`cases` and FP32 through oneDNN; without it where a single round should be quick."""
    return cases | {"routed": routed(cases["fp32"])} if rounds > 1 else cases


def routed(case: Callable[[], object]) -> Callable[[], object]:
    """The same with float32 products through oneDNN, as runtime.matmul=onednn does where it is accurate."""

    def through_onednn() -> None:
        with unchanged():
            torch.backends.mkldnn.matmul.fp32_precision = PERMISSION
            case()

    return through_onednn


def as_ratio(name: str, seconds: dict[str, list[float]], case: str, what: str) -> Measure:
    values = ratios(seconds, case)
    ours, fp32 = (1e3 * statistics.median(seconds[key]) for key in (case, "fp32"))
    absolute = f"{ours:,.0f} ms, FP32 {fp32:,.0f} ms"
    beside = statistics.median(ratios(seconds, case, "routed")) if "routed" in seconds else None
    return Measure(name, "ratio", statistics.median(values), min(values), max(values), absolute, what, beside)


def as_seconds(name: str, values: list[float], what: str) -> Measure:
    return Measure(name, "seconds", statistics.median(values), min(values), max(values), "", what)


# --- what is measured ------------------------------------------------------------------------------------


HARDWARE = Hardware(PCM(), Crossbar())


def computation(product: str = "auto", kernel: str = "auto") -> Computation:
    return Computation.resolved(HARDWARE, "cpu", kernel, product)


def full_ranges(placement: Placement, input_range: float = 4.0) -> dict[str, LayerPeriphery]:
    """Input ranges that need no calibration: the inputs of random layers reach a few units."""
    grids = placement.grids
    return {name: LayerPeriphery(torch.full((len(grid.row_blocks),), input_range)) for name, grid in grids.items()}


def on_chip(model: nn.Module, product: str = "auto", kernel: str = "auto") -> nn.Module:
    """`model` on a chip one day old, compensated: every non-ideality at work."""
    on = Placement.of(model, HARDWARE)
    chip = program(model, on, computation(product, kernel), full_ranges(on), chip=0)
    chip.set_time(DAY)
    return chip.ready_to_score(compensated=True)


def bert() -> nn.Module:
    config = transformers.BertConfig(num_labels=2)
    config._attn_implementation = "sdpa"
    return transformers.BertForSequenceClassification(config).eval()


def tokens(examples: int = BATCH, length: int = LENGTH) -> dict[str, Tensor]:
    ids = torch.randint(1000, 30_000, (examples, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(examples) % 2}


def without_labels(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


@torch.no_grad()
def mvm(vectors: int, rounds: int, peers: list) -> Iterator[Measure]:
    """One linear layer with every non-ideality beside nn.Linear; the measure is the mean of the three shapes' ratios."""
    cases_of: dict[str, list[tuple[list[float], float, str]]] = {}
    about = {
        "ours": "",
        "int8": ": weights of 15 bits (runtime.product=int8)",
        "reference": ": plain PyTorch (runtime.kernel=reference)",
    }
    for inputs, outputs in SHAPES:
        layer = nn.Linear(inputs, outputs)
        x = torch.randn(vectors, inputs)
        models = {
            "fp32": layer,
            "ours": on_chip(nn.Sequential(layer)),
            "int8": on_chip(nn.Sequential(layer), product="int8"),
            "reference": on_chip(nn.Sequential(layer), kernel="reference"),
        }
        models |= {peer.name: peer.inference(nn.Sequential(copy.deepcopy(layer))) for peer in peers}
        repeats = max(1, 1024 // vectors)

        def run(model: nn.Module, x: Tensor = x, repeats: int = repeats) -> None:
            for _ in range(repeats):
                model(x)

        cases = {name: (lambda model=model, run=run: run(model)) for name, model in models.items()}
        cases["routed"] = routed(cases["fp32"])
        seconds = interleaved(cases, rounds)
        for name in models:
            label = f"{inputs}→{outputs} {1e3 * statistics.median(seconds[name]) / repeats:.2f} ms"
            beside = statistics.median(ratios(seconds, name, "routed"))
            cases_of.setdefault(name, []).append((ratios(seconds, name), beside, label))
    for name, shapes in cases_of.items():
        if name == "fp32":
            continue
        per_round = [statistics.mean(values) for values in zip(*(values for values, _, _ in shapes), strict=True)]
        label = "; ".join(f"{text}, {statistics.median(values):.2f}×" for values, _, text in shapes)
        suffix = "" if name == "ours" else f"_{name}"
        value = statistics.mean(statistics.median(values) for values, _, _ in shapes)
        beside = statistics.mean(beside for _, beside, _ in shapes)
        what = f"analog MVM, {vectors} tokens, mean of 3 shapes" + about.get(name, f": {name}")
        yield Measure(f"mvm_{vectors}{suffix}", "ratio", value, min(per_round), max(per_round), label, what, beside)


@torch.no_grad()
def bert_inference(rounds: int, peers: list) -> Iterator[Measure]:
    model, batch = bert(), without_labels(tokens())
    models = {"fp32": model, "ours": on_chip(model)}
    models |= {peer.name: peer.inference(copy.deepcopy(model)) for peer in peers}
    cases = {name: (lambda m=m: m(**batch)) for name, m in models.items()}
    seconds = interleaved(beside_routed(cases, rounds), rounds)
    for name in models:
        if name != "fp32":
            suffix = "" if name == "ours" else f"_{name}"
            what = f"BERT-base, batch {BATCH} × {LENGTH}, one forward pass" + (f": {name}" if suffix else "")
            yield as_ratio(f"bert_inference{suffix}", seconds, name, what)


def training_step(mode: TrainingMode, model: nn.Module) -> Callable[[], None]:
    """One optimizer step as `training.loop.fit` makes it: forward, backward, clipping of the gradient, AdamW, bounds."""
    on, clock = Placement.of(model, HARDWARE), NoiseClock()
    ranges = {name: periphery.input_range for name, periphery in full_ranges(on).items()}
    preparation = Preparation(on, computation(), clock, lambda model: ranges)
    model = mode.prepare(model, preparation)
    optimizer = torch.optim.AdamW([group for group in mode.parameter_groups(model) if group["params"]], fused=True)
    mode.begin_epoch(model, 0, resumed=False, preparation=preparation)
    model.train()
    batch, steps = tokens(), iter(range(1_000_000))

    def step() -> None:
        clock.start(0, "training", next(steps))
        with torch.autocast("cpu", torch.bfloat16, enabled=mode.precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), mode.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        mode.after_step(model)

    return step


MODES = {
    "fp32": lambda: Digital(),
    "ours": lambda: HardwareAware(digital_epochs=0),  # noise from the first step on
    "bf16": lambda: HardwareAware(digital_epochs=0, precision="bf16"),
    "digital_bf16": lambda: Digital(precision="bf16"),
}


def hwa_step(rounds: int, peers: list) -> Iterator[Measure]:
    modes = MODES if rounds > 1 else {name: mode for name, mode in MODES.items() if name != "digital_bf16"}
    cases = {name: training_step(mode(), bert()) for name, mode in modes.items()}
    cases |= {peer.name: peer.training_step(bert(), tokens()) for peer in peers}
    seconds = interleaved(beside_routed(cases, rounds), rounds)
    what = f"training step of BERT-base, {BATCH} × {LENGTH}, AdamW"
    yield as_ratio("hwa_step", seconds, "ours", f"hardware-aware {what}")
    yield as_ratio("hwa_step_bf16", seconds, "bf16", "the same, bf16 autocast (beside FP32)")
    if "digital_bf16" in seconds:
        yield as_ratio("digital_step_bf16", seconds, "digital_bf16", f"digital {what}, bf16 autocast: for comparison")
    for peer in peers:
        yield as_ratio(f"hwa_step_{peer.name}", seconds, peer.name, f"hardware-aware {what}: {peer.name}")


def hwa_memory() -> Iterator[Measure]:
    """Largest resident memory of a process that makes two steps (the second one holds the optimizer's state too)."""
    if not Path("/proc/self/status").exists():
        print("hwa_memory is left out: it reads Linux's /proc", file=sys.stderr)
        return
    peak = {name: _peak_memory_of(name) for name in ("fp32", "ours")}
    absolute = f"{peak['ours'] / peak['fp32']:.2f}× FP32 ({peak['fp32']:,.0f} MiB)"
    value = peak["ours"]
    what = "peak resident memory of that step, imports included"
    yield Measure("hwa_memory", "mib", value, value, value, absolute, what, target=MEMORY_TARGET * peak["fp32"])


def _peak_memory_of(name: str) -> float:
    """[MiB] of a process of its own, because the peak of a process never falls."""
    command = [sys.executable, __file__, "--two-steps-of", name, "--threads", str(torch.get_num_threads())]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def two_steps(name: str) -> float:
    step = training_step(MODES[name](), bert())
    step()
    step()
    # Of this program alone: Linux's ru_maxrss also remembers the process that started it.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    raise OSError("No VmHWM in /proc/self/status.")


def chip_life(rounds: int) -> Iterator[Measure]:
    """A chip of BERT-base: program and first read-out at 1 s; then each later time."""
    model = bert()
    on = Placement.of(model, HARDWARE)
    periphery = full_ranges(on)
    first, later = [], []
    for number in range(rounds):
        started = time.perf_counter()
        chip: Chip = program(model, on, computation(), periphery, chip=number)
        chip.set_time(1.0)
        first.append(time.perf_counter() - started)
        for t in (3600.0, DAY):
            started = time.perf_counter()
            chip.set_time(t)
            later.append(time.perf_counter() - started)
        del chip
    yield as_seconds("program", first, "BERT-base: program a chip, first read-out at 1 s, compensation")
    yield as_seconds("age", later, "BERT-base: drift to a later time, read-out, compensation")


@torch.no_grad()
def mrpc_score(rounds: int, every: int) -> Iterator[Measure]:
    """One (chip, time) score of MRPC's validation split, set_time included, beside HF FP32 padded to 128 as usual.

    `every`: only each n-th example, on both sides, and that share of the time that ageing the chip takes.
    """
    from analog_glue.evaluation import score
    from analog_glue.tasks.task import Encoded, encode

    task = _task("mrpc")
    raw = task.load(str(SHARED / "data" / "glue"))
    # The vocabulary of BERT-base uncased.
    tokenizer = transformers.AutoTokenizer.from_pretrained(SHARED / "models" / "all-MiniLM-L6-v2", local_files_only=True)
    full = encode(raw.validation["validation"], tokenizer, task.max_length, task.num_labels)
    kept = range(0, len(full), every)
    types = None if full.token_type_ids is None else [full.token_type_ids[i] for i in kept]
    validation = {"validation": Encoded([full.input_ids[i] for i in kept], types, full.labels[::every], full.pad_id)}
    model = bert()
    on = Placement.of(model, HARDWARE)
    chip = program(model, on, computation(), full_ranges(on), chip=0)
    padded = without_labels(tokens(len(kept), LENGTH))

    def fp32() -> None:
        for start in range(0, len(kept), BATCH):
            model(**{name: tensor[start : start + BATCH] for name, tensor in padded.items()})

    def ours() -> None:
        score(chip.ready_to_score(compensated=True), task, validation, token_budget=4096)

    cases = {"age": lambda: chip.set_time(DAY), "fp32": fp32, "ours": ours}
    seconds = interleaved(beside_routed(cases, rounds), rounds)
    seconds["ours"] = [scoring + ageing / every for scoring, ageing in zip(seconds["ours"], seconds["age"], strict=True)]
    what = f"one (chip, time) score of MRPC, {len(kept)} examples; FP32 padded to {LENGTH}"
    yield as_ratio("mrpc_score", seconds, "ours", what)


@torch.no_grad()
def limits(rounds: int) -> Iterator[Measure]:
    """What one core of this machine can do at most, and where the time of a fused product goes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _limits(rounds)
    finally:
        torch.set_num_threads(threads)


def _limits(rounds: int) -> Iterator[Measure]:
    import numpy as np

    from analog_glue.kernels import fused, vnni
    from analog_glue.kernels.gaussian import fill_normal

    def rate(name: str, amount: float, case: Callable[[], object], what: str) -> Measure:
        rates = [amount / seconds / 1e9 for seconds in interleaved({"case": case}, rounds)["case"]]
        return Measure(name, "rate", max(rates), min(rates), max(rates), "", f"{what}, one core, best of {rounds}")

    vectors, blocks, rows, columns = 512, 2, 384, 3072
    macs = vectors * blocks * rows * columns
    x, layer = torch.randn(vectors, blocks * rows), nn.Linear(blocks * rows, columns)
    yield rate("fp32_macs", macs, lambda: layer(x), "multiply-adds of nn.Linear 768→3072, 512 tokens")
    source, target = torch.randn(2**26), torch.empty(2**26)
    yield rate("copied_bytes", 8 * 2**26, lambda: target.copy_(source), "bytes read and written by a copy")
    numbers = torch.empty(2**22)
    for kernel in ("reference", "compiled"):
        what = f"normal numbers ({kernel} kernel)"
        yield rate(f"normals_{kernel}", 2**22, lambda kernel=kernel: fill_normal(numbers, 1, kernel), what)
    if not vnni.available():
        return
    draw = np.random.default_rng(0)
    integers = draw.integers(-127, 128, (blocks, columns, rows)).astype(np.int8)
    packed, part = vnni.pack(integers), vnni.PART
    codes = draw.integers(-127, 128, (part, rows)).astype(np.int8)
    sums = np.empty((part, columns), np.int32)
    repeats = 16

    def products() -> None:
        for _ in range(repeats):
            vnni.multiply(codes, packed[0], sums)

    yield rate("int8_macs", repeats * part * rows * columns, products, "multiply-adds of 8-bit integers, 32 tokens at a time")
    all_sums, variances = (draw.integers(0, 1000, (blocks, part, columns)).astype(np.int32) for _ in range(2))
    f32, step, out = np.float32, np.ones((blocks, columns), np.float32), np.empty((part, columns), np.float32)
    none = np.empty((0, 0, 0), np.int8)

    def outputs(noisy: bool) -> None:
        key = np.uint32(1), np.uint32(2)
        units, adc = (f32(0.1), f32(0.01)), (f32(0.25), noisy, f32(511))
        for _ in range(repeats):
            fused.digitise(all_sums, False, variances, *units, *adc, step, np.zeros(columns, f32), 0, *key, out, none)

    amount = repeats * blocks * part * columns
    yield rate("adc_outputs", amount, lambda: outputs(True), "ADC outputs with noise: draw, add, round, scale, sum")
    yield rate("adc_outputs_quiet", amount, lambda: outputs(False), "the same without noise")
    per_input = np.full(blocks * rows, 30, np.float32)
    inputs, driven = x[:part].numpy(), np.empty((blocks, part, rows), np.int8)
    dac = np.empty((part, blocks * rows), np.int8)

    def drive() -> None:
        for _ in range(repeats):
            arrays = np.full(blocks, rows), np.full(rows, 0.5, np.float32), dac, driven, driven.copy()
            fused.drive(inputs, per_input, f32(127), *arrays)

    yield rate("dac_inputs", repeats * part * blocks * rows, drive, "DAC inputs: codes and their squares")


def in_situ(names: Sequence[str], peers: bool) -> Iterator[Measure]:
    """Speed of in-situ training; beside it aihwkit as measured here, or else as measured once on two cores of a Zen 5."""
    import benchmark_in_situ as cases

    measured = {}
    if peers:
        from benchmark_peers import in_situ_cases

        measured = in_situ_cases(lambda text: print(text, file=sys.stderr))
    for name in names:
        value = cases.CASES[name]()
        kind = "per_second" if name.endswith("per_s") else "microseconds"
        here = measured[name]() if name in measured else None
        beside = f"aihwkit {here:,.1f}" if here else f"aihwkit 1.2.0 on another machine {cases.PEER[name]:,}"
        what = "in-situ training with all physics, best of several rounds"
        yield Measure(name, kind, value, value, value, beside, what, target=cases.TARGETS[name])


def _task(name: str):
    from omegaconf import OmegaConf

    from analog_glue.tasks.glue import GlueTask

    values = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[1] / "conf" / "task" / f"{name}.yaml"))
    values.pop("_target_")
    return GlueTask(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


# --- report ----------------------------------------------------------------------------------------------


def machine() -> list[str]:
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        model = f"{fields.get('model name', '')} (family {fields.get('cpu family')}, model {fields.get('model')})"
    vnni = "with" if torch.cpu._is_vnni_supported() else "without"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return [
        f"machine: {platform.machine()}, {model or platform.processor()}, {vnni} 8-bit dot products; "
        f"{torch.get_num_threads()} threads, OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}; load average at the start {load}",
        f"versions: analog-glue {analog_glue.__version__}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, Python {platform.python_version()}",
        f"simulated: PCM, tiles of spoon2021; {computation().kernel} kernel, {computation().product} product",
    ]


def markdown(measures: list[Measure]) -> str:
    lines = ["| name | value | over rounds | routed | target | absolute | what |", "|---|---|---|---|---|---|---|"]
    for m in measures:
        units = {"ratio": "×", "seconds": " s", "mib": " MiB", "rate": " G/s", "per_second": " /s", "microseconds": " µs"}
        unit = units[m.kind]
        spread = f"{m.low:.2f} – {m.high:.2f}" if m.low != m.high else ""
        style = {"mib": ",.0f", "per_second": ",.0f", "rate": ".3g"}.get(m.kind, ".2f")
        value = f"{m.value:{style}}"
        beside = "" if m.routed is None else f"{m.routed:.2f}×"
        lines.append(f"| {m.name} | **{value}{unit}** | {spread} | {beside} | {m.verdict} | {m.absolute} | {m.what} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, without in_situ, under 2 minutes")
    parser.add_argument("--json", action="store_true", help="one JSON line a measure instead of the table")
    parser.add_argument("--peers", action="store_true", help="also aihwkit and aihwkit-lightning, where they import")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    groups = ("mvm", "bert_inference", "hwa_step", "hwa_memory", "program", "mrpc_score", "in_situ")
    parser.add_argument(
        "--only", nargs="+", choices=(*groups, "limits", *IN_SITU), metavar="NAME",
        help=f"measure only these: {', '.join(groups)}, limits (rates of one core), {', '.join(IN_SITU)}",
    )  # fmt: skip
    parser.add_argument("--two-steps-of", choices=MODES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:  # as the command line sets it, for FP32 too; read when torch is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_WAIT_POLICY": "PASSIVE"})
    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    if given.two_steps_of:
        print(two_steps(given.two_steps_of))
        return

    peers = []
    if given.peers:
        from benchmark_peers import available

        peers = available(log=lambda text: print(text, file=sys.stderr))
    quick = given.quick
    given.only = given.only or [name for name in groups if not (quick and name == "in_situ")]
    runs: dict[str, Iterator[Measure]] = {
        "mvm": (m for vectors, n in ((4096, 2 if quick else 9), (128, 5 if quick else 21)) for m in mvm(vectors, n, peers)),
        "bert_inference": bert_inference(2 if quick else 7, peers),
        "hwa_step": hwa_step(1 if quick else 4, peers),
        "hwa_memory": hwa_memory(),
        "program": chip_life(1 if quick else 4),
        "limits": limits(5 if quick else 20),
        "in_situ": in_situ(IN_SITU if "in_situ" in given.only else [n for n in IN_SITU if n in given.only], given.peers),
    }
    given.only = [*given.only, *(["in_situ"] if set(given.only) & set(IN_SITU) else [])]
    if (SHARED / "data" / "glue" / "mrpc").exists():
        runs["mrpc_score"] = mrpc_score(1 if quick else 2, every=8 if quick else 3)
    else:
        print("mrpc_score is left out: ../shared/data is not here", file=sys.stderr)

    print("\n".join(machine()), file=sys.stderr if given.json else sys.stdout, flush=True)
    print("(other programs on the machine disturb threads that wait for each other: measure on a quiet one)", file=sys.stderr)
    measures = []
    for name in (*groups, "limits"):
        for measure in runs.get(name, ()) if name in given.only else ():
            measures.append(measure)
            if given.json:
                print(json.dumps({"name": measure.name, measure.kind: round(measure.value, 4)}), flush=True)
            else:
                print(f"  {measure.name} {measure.value:.2f}", file=sys.stderr, flush=True)
    if not given.json:
        print("\n" + markdown(measures))


if __name__ == "__main__":
    main()
