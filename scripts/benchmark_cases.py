"""What the benchmark runs: layers, BERT-base, its training step, a chip's life, a score of MRPC, in-situ training.

Models have random weights: time does not depend on their values. FP32 is stock PyTorch.
"""

import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import transformers
from benchmark_timing import Measure, as_ratio, as_seconds, beside_routed, interleaved, ratios, routed
from torch import Tensor, nn

from analog_glue.devices.pcm import PCM
from analog_glue.nn.backward import gradient_digits
from analog_glue.nn.computation import Computation
from analog_glue.nn.convert import Chip, program
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.linear import DIGITS
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.nn.periphery import LayerPeriphery
from analog_glue.nn.placement import Placement
from analog_glue.tasks.glue import GlueTask
from analog_glue.tiles.crossbar import Crossbar
from analog_glue.training.digital import Digital
from analog_glue.training.hardware_aware import HardwareAware
from analog_glue.training.mode import Preparation, TrainingMode

SHARED = Path(__file__).resolve().parents[2] / "shared"
ONCE = ("bert.pooler.dense", "classifier")  # layers of BERT that see one vector of an example: not worth counting
SHAPES = ((768, 768), (768, 3072), (3072, 768))  # inputs → outputs of BERT-base's layers
BATCH, LENGTH = 8, 128  # examples × tokens of one batch
DAY = 86_400.0  # [s]
MEMORY_TARGET = 1.05  # × FP32
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


def work_of(model: nn.Module, vectors: int, product: str | None = None) -> dict[str, float]:
    """Multiply-adds and normal numbers of `vectors` inputs through every layer of `model` on tiles (benchmark_limits.py)."""
    product = product or computation().product
    grids = [grid for name, grid in Placement.of(model, HARDWARE).grids.items() if name not in ONCE]
    macs = vectors * sum(grid.inputs * grid.outputs for grid in grids)
    parts = {"int8_single": 1, "int8": 2}.get(product)  # 8-bit numbers of a weight; magnitudes are one more
    multiplied = {"fp32_macs": 2.0 * macs} if parts is None else {"int8_macs": (parts + 1.0) * macs}
    return multiplied | {"normals_compiled": float(vectors * sum(len(grid.row_blocks) * grid.outputs for grid in grids))}


def work_of_attention(times: int) -> dict[str, float]:
    """Multiply-adds of QKᵀ and PV of BERT-base, a batch; `times` 3: of a training step."""
    return {"fp32_macs": float(times * 12 * 2 * BATCH * LENGTH**2 * 768)}


def work_of_step(digits: int) -> dict[str, float]:
    """Of a hardware-aware training step on 8-bit weights whose gradients have so many digits; weight noise is drawn twice."""
    forward = work_of(bert(), BATCH * LENGTH)
    macs = forward.get("int8_macs", 0) / 2  # of the currents; as many of the variance
    normals = forward["normals_compiled"] + 2 * macs / (BATCH * LENGTH)
    return {"int8_macs": (2 + 2 * digits) * macs, "normals_compiled": normals} | work_of_attention(3)


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
    times: dict[str, float] = {}  # [s] of all shapes, median over rounds
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
            times[name] = times.get(name, 0.0) + statistics.median(seconds[name]) / repeats
            cases_of.setdefault(name, []).append((ratios(seconds, name), beside, label))
    for name, shapes in cases_of.items():
        if name == "fp32":
            continue
        per_round = [statistics.mean(values) for values in zip(*(values for values, _, _ in shapes), strict=True)]
        work = None
        if name in ("ours", "int8"):
            layers = nn.Sequential(*(nn.Linear(*shape) for shape in SHAPES))
            work = work_of(layers, vectors, "int8" if name == "int8" else None)
        label = "; ".join(f"{text}, {statistics.median(values):.2f}×" for values, _, text in shapes)
        suffix = "" if name == "ours" else f"_{name}"
        value = statistics.mean(statistics.median(values) for values, _, _ in shapes)
        beside = statistics.mean(beside for _, beside, _ in shapes)
        what = f"analog MVM, {vectors} tokens, mean of 3 shapes" + about.get(name, f": {name}")
        yield Measure(
            f"mvm_{vectors}{suffix}",
            "ratio",
            value,
            min(per_round),
            max(per_round),
            label,
            what,
            beside,
            seconds=times[name],
            work=work,
        )


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
            work = work_of(model, BATCH * LENGTH) | work_of_attention(1) if name == "ours" else None
            yield as_ratio(f"bert_inference{suffix}", seconds, name, what, work)


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
    "int16": lambda: HardwareAware(digital_epochs=0, precision="int16"),
    "digital_bf16": lambda: Digital(precision="bf16"),
}


def work_in(digits: tuple[int, ...], precision: str) -> dict[str, float] | None:
    """Of a step whose gradients are 8-bit digits; None where they are multiplied in another way."""
    return work_of_step(DIGITS[precision]) if set(digits) == set(DIGITS.values()) else None


def hwa_step(rounds: int, peers: list) -> Iterator[Measure]:
    modes = {name: mode for name, mode in MODES.items() if name != "digital_bf16" or rounds > 1}
    digits = gradient_digits(HARDWARE.crossbar, computation())
    if DIGITS["int16"] not in digits:
        modes.pop("int16")
    cases = {name: training_step(mode(), bert()) for name, mode in modes.items()}
    cases |= {peer.name: peer.training_step(bert(), tokens()) for peer in peers}
    seconds = interleaved(beside_routed(cases, rounds), rounds)
    what = f"training step of BERT-base, {BATCH} × {LENGTH}, AdamW"
    yield as_ratio("hwa_step", seconds, "ours", f"hardware-aware {what}", work_in(digits, "fp32"))
    if "int16" in seconds:
        yield as_ratio("hwa_step_int16", seconds, "int16", "the same, training.precision=int16", work_in(digits, "int16"))
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
    script, threads = Path(__file__).with_name("benchmark.py"), str(torch.get_num_threads())
    command = [sys.executable, script, "--two-steps-of", name, "--threads", threads]
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


def _task(name: str) -> GlueTask:
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(OmegaConf.load(Path(__file__).parents[1] / "conf" / "task" / f"{name}.yaml"))
    values.pop("_target_")
    return GlueTask(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
