"""One measure of one revision, in a process of its own: what `benchmark_against.py` starts and asks in turn.

    python benchmark_worker.py ROOT CASE THREADS SHARED

Imports the package and the benchmark's helpers of the checkout ROOT, makes the case, warms it up and says "ready". Then for
each line on its standard input ("ours" or "fp32") it measures once and answers with two JSON lists, one number for each part
of the case: seconds, or MiB; and seconds of CPU time, with all repeats. Only what revisions have in common may be used here;
where they differ, `Revision` knows.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

Timed = list[Callable[[], float]]  # one for each part of a case


class Revision:
    """The helpers of the benchmark of a checkout, under the names that they have today."""

    def __init__(self, root: Path, shared: Path) -> None:
        sys.path[:1] = [str(root), str(root / "scripts")]  # instead of this file's own folder
        import analog_glue

        if Path(analog_glue.__file__).parents[1] != root:
            raise SystemExit(f"{analog_glue.__file__} was imported, which is not the package of {root}.")
        try:
            import benchmark_cases as cases
        except ModuleNotFoundError:  # before its cases had a file of their own
            import benchmark as cases
        cases.SHARED = shared
        self.cases: Any = cases

    def programs(self, model: nn.Module) -> Callable[[int], Any]:
        """Chip number → `model` programmed on that chip."""
        cases = self.cases
        if not hasattr(cases, "Placement"):  # hardware, computation and placement were one
            on = cases.hardware()
            return lambda number: cases.program(model, on, cases.full_ranges(model, on), chip=number)
        on = cases.Placement.of(model, cases.HARDWARE)
        return lambda number: cases.program(model, on, cases.computation(), cases.full_ranges(on), chip=number)


def seconds_of(call: Callable[[], object], repeats: int = 1) -> float:
    """The shortest of `repeats` calls."""
    shortest = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest


def mvm(at: Revision, vectors: int, repeats: int) -> tuple[Timed, Timed]:
    def timed(model: nn.Module, x: torch.Tensor) -> Callable[[], float]:
        return lambda: seconds_of(lambda: model(x), repeats)

    layers = [(nn.Linear(inputs, outputs), torch.randn(vectors, inputs)) for inputs, outputs in at.cases.SHAPES]
    ours = [timed(at.cases.on_chip(nn.Sequential(layer)), x) for layer, x in layers]
    return ours, [timed(layer, x) for layer, x in layers]


def bert_inference(at: Revision) -> tuple[Timed, Timed]:
    model, batch = at.cases.bert(), at.cases.without_labels(at.cases.tokens())
    chip = at.cases.on_chip(model)
    return [lambda: seconds_of(lambda: chip(**batch), 2)], [lambda: seconds_of(lambda: model(**batch), 2)]


def mrpc_score(at: Revision, every: int = 8) -> tuple[Timed, Timed]:
    from analog_glue.evaluation import score
    from analog_glue.tasks.task import Encoded, encode

    cases, task = at.cases, at.cases._task("mrpc")
    raw = task.load(str(cases.SHARED / "data" / "glue"))
    vocabulary = cases.SHARED / "models" / "all-MiniLM-L6-v2"  # that of BERT-base uncased
    tokenizer = cases.transformers.AutoTokenizer.from_pretrained(vocabulary, local_files_only=True)
    full = encode(raw.validation["validation"], tokenizer, task.max_length, task.num_labels)
    kept = range(0, len(full), every)
    types = None if full.token_type_ids is None else [full.token_type_ids[i] for i in kept]
    validation = {"validation": Encoded([full.input_ids[i] for i in kept], types, full.labels[::every], full.pad_id)}
    model = cases.bert()
    chip = at.programs(model)(0)
    padded = cases.without_labels(cases.tokens(len(kept), cases.LENGTH))

    def ours() -> float:
        ageing = seconds_of(lambda: chip.set_time(cases.DAY))
        ready = chip.ready_to_score(compensated=True)
        return seconds_of(lambda: score(ready, task, validation, token_budget=4096)) + ageing / every

    def fp32() -> None:
        for start in range(0, len(kept), cases.BATCH):
            model(**{name: tensor[start : start + cases.BATCH] for name, tensor in padded.items()})

    return [ours], [lambda: seconds_of(fp32)]


def hwa_step(at: Revision, mode: str) -> tuple[Timed, Timed]:
    modes = at.cases.MODES
    step = at.cases.training_step(modes.get(mode, modes["ours"])(), at.cases.bert())  # int16 of old revisions: fp32
    digital: list[Callable[[], None]] = []

    def fp32() -> float:
        if not digital:  # made when asked for, which only one of two processes is
            digital.append(at.cases.training_step(modes["fp32"](), at.cases.bert()))
            digital[0]()
        return seconds_of(digital[0])

    return [lambda: seconds_of(step)], [fp32]


def hwa_memory(at: Revision) -> tuple[Timed, Timed]:
    return [lambda: at.cases.two_steps("ours")], []


def program(at: Revision) -> tuple[Timed, Timed]:
    chips, numbers = at.programs(at.cases.bert()), itertools.count()
    return [lambda: seconds_of(lambda: chips(next(numbers)).set_time(1.0))], []


def age(at: Revision) -> tuple[Timed, Timed]:
    chip = at.programs(at.cases.bert())(0)
    chip.set_time(1.0)
    times = itertools.cycle((3600.0, at.cases.DAY))
    return [lambda: seconds_of(lambda: chip.set_time(next(times)), 2)], []


def in_situ(name: str) -> tuple[Timed, Timed]:
    import benchmark_in_situ

    case = benchmark_in_situ.CASES[name]
    return [lambda: 1 / case() if name.endswith("per_s") else 1e-6 * case()], []


CASES: dict[str, Callable[[Revision], tuple[Timed, Timed]]] = {  # the parts of a case, and the same in FP32
    "mvm_4096": lambda at: mvm(at, 4096, 3),
    "mvm_128": lambda at: mvm(at, 128, 40),
    "bert_inference": bert_inference,
    "mrpc_score": mrpc_score,
    "hwa_step": lambda at: hwa_step(at, "ours"),
    "hwa_step_int16": lambda at: hwa_step(at, "int16"),
    "hwa_memory": hwa_memory,
    "program": program,
    "age": age,
    "lstm_ttv2": lambda at: in_situ("lstm_ttv2_chars_per_s"),
    "pulsed_update_256x152": lambda at: in_situ("pulsed_update_256x152_us"),
    "pulsed_update_512x512": lambda at: in_situ("pulsed_update_512x512_us"),
}
TRAINS = ("hwa_step", "hwa_step_int16", "hwa_memory")  # need gradients


def questions() -> Iterator[str]:
    for line in sys.stdin:
        yield line.strip()


def main() -> None:
    root, name, threads, shared = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    at = Revision(Path(root), Path(shared))
    at.cases.transformers.logging.set_verbosity_error()
    with nullcontext() if name in TRAINS else torch.no_grad():
        ours, fp32 = CASES[name](at)
        if name != "hwa_memory":  # a peak that a warm-up would move
            for part in ours:
                part()
        print("ready", file=answers, flush=True)
        for question in questions():
            used, values = [], []
            for part in {"ours": ours, "fp32": fp32}[question]:
                before = time.process_time()
                values.append(part())
                used.append(time.process_time() - before)
            print(json.dumps([values, used]), file=answers, flush=True)


if __name__ == "__main__":
    main()
