"""How long the simulation takes, as a ratio to plain FP32 PyTorch measured in the same rounds.

    python scripts/benchmark.py                  Markdown table, about 6 minutes on 2 cores
    python scripts/benchmark.py --quick          fewer rounds, without in_situ, under 2 minutes
    python scripts/benchmark.py --json           one line a measure: {"name": …, "ratio" | "seconds" | "mib": …}
    python scripts/benchmark.py --only hwa_step --threads 2
    python scripts/benchmark.py --only in_situ          in-situ training alone (benchmark_in_situ.py); or one of its names
    python scripts/benchmark.py --only attention        attention in integers (benchmark_attention.py), half a minute
    python scripts/benchmark.py --only factsheet        the command `factsheet` on a record, as a whole (benchmark_factsheet.py)
    python scripts/benchmark.py --against REV    this working tree and another revision in turn (benchmark_against.py)
    python scripts/benchmark.py --only start            the first score of a tiny run, cold and warm (benchmark_start.py)
    python scripts/benchmark.py --only tables           2,000 rows in 300 runs, read and tabulated (benchmark_tables.py)
    python scripts/benchmark.py --peers          adds aihwkit and aihwkit-lightning where they import (extra `peer`)

Every round runs the cases one after another, in turn, so that a machine that slows down slows all of them; a ratio is the
median over rounds of case / FP32 within one round. Models have random weights: time does not depend on their values.
FP32 is stock PyTorch; the column "routed" gives the ratio to FP32 with its products through oneDNN (runtime.matmul=onednn),
which on some CPUs is faster.
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict

import torch
import transformers
from benchmark_against import HEAD, ROUNDS, compare
from benchmark_against import TARGETS as AGAINST
from benchmark_attention import inference, training
from benchmark_cases import (
    MODES,
    SHARED,
    bert_inference,
    chip_life,
    computation,
    hwa_memory,
    hwa_step,
    in_situ,
    mrpc_score,
    mvm,
    two_steps,
)
from benchmark_factsheet import factsheet
from benchmark_limits import limits
from benchmark_machine import Watch, cpu
from benchmark_start import start
from benchmark_tables import tables
from benchmark_timing import Measure

import analog_glue

IN_SITU = (  # scripts/benchmark_in_situ.py has the targets
    "lstm_ttv2_chars_per_s", "lstm_sgd_chars_per_s", "lstm_tiki_taka_chars_per_s", "pulsed_update_256x152_us",
    "pulsed_update_512x512_us", "fc_mnist_ttv2_samples_per_s",
)  # fmt: skip


def machine(rates: dict[str, float]) -> list[str]:
    words = {"fp32_macs": "FP32 multiply-adds", "int8_macs": "8-bit ones", "normals_compiled": "normal numbers"}
    limits = ", ".join(f"{rates[name]:.3g} {what}" for name, what in words.items() if name in rates)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return [
        f"machine: {cpu()}; "
        f"{torch.get_num_threads()} threads, OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']}; load average at the start {load}",
        f"limits of a core [10⁹ / s]: {limits or 'not measured'}",
        f"versions: analog-glue {analog_glue.__version__}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, Python {platform.python_version()}",
        f"simulated: PCM, tiles of spoon2021; {computation().kernel} kernel, {computation().product} product",
    ]


def markdown(measures: list[tuple[Measure, str]], rates: dict[str, float]) -> str:
    """`rates`: of one core; the column "of its limits" says which part of a time products and random numbers need at them."""
    head = ("name", "value", "over rounds", "of its limits", "routed", "target", "absolute", "what", "disturbed by")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for m, disturbance in measures:
        share = m.share(rates, torch.get_num_threads())
        reached = "" if share is None else f"{100 * share:.0f} %"
        units = {"ratio": "×", "seconds": " s", "mib": " MiB", "rate": " G/s", "per_second": " /s", "microseconds": " µs"}
        unit = units[m.kind]
        spread = f"{m.low:.2f} – {m.high:.2f}" if m.low != m.high else ""
        style = {"mib": ",.0f", "per_second": ",.0f", "rate": ".3g"}.get(m.kind, ".2f")
        value = f"{m.value:{style}}"
        beside = "" if m.routed is None else f"{m.routed:.2f}×"
        cells = (f"**{value}{unit}**", spread, reached, beside, m.verdict, m.absolute, m.what, disturbance)
        lines.append(f"| {m.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def against(revision: str, names: list[str], rounds: int, threads: int, as_json: bool) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the temporary folder goes
    notes = f"{cpu()}; {threads} threads. Time of this working tree over that of {revision}, median over rounds"
    print(notes if not as_json else json.dumps({"cpu": cpu(), "threads": threads, "against": revision}), flush=True)
    if not as_json:
        print(f"\n{HEAD}", flush=True)
    for one in compare(revision, names, rounds, threads, lambda text: print(text, file=sys.stderr, flush=True)):
        print(json.dumps(asdict(one) | {"ratio": one.ratio}) if as_json else one.row(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, without in_situ, under 2 minutes")
    parser.add_argument("--json", action="store_true", help="one JSON line a measure instead of the table")
    parser.add_argument("--peers", action="store_true", help="also aihwkit and aihwkit-lightning, where they import")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    parser.add_argument("--against", metavar="REV", help="share of the time of another revision, measured in turn")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of --against, at least 5 (default: {ROUNDS})")
    groups = ("mvm", "bert_inference", "hwa_step", "hwa_memory", "program", "mrpc_score", "attention", "factsheet", "in_situ")
    parser.add_argument(
        "--only", nargs="+", choices=sorted({*groups, "limits", "start", "tables", *IN_SITU, *AGAINST}), metavar="NAME",
        help=f"measure only these: {', '.join(groups)}, limits (rates of one core), start (first score), "
        f"tables (of 300 runs), {', '.join(IN_SITU)}; "
        f"with --against: {', '.join(AGAINST)}",
    )  # fmt: skip
    parser.add_argument("--two-steps-of", choices=MODES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if "OMP_WAIT_POLICY" not in os.environ:  # as the command line sets it, for FP32 too; read when torch is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_WAIT_POLICY": "PASSIVE"})
    if given.against:
        against(
            given.against, [n for n in AGAINST if n in (given.only or AGAINST)], max(5, given.rounds), given.threads, given.json
        )
        return
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
        "attention": (m for measures in (inference, training) for m in measures(3 if quick else 24)),
        "factsheet": factsheet(1 if quick else 3),
        "limits": limits(5 if quick else 20),
        "start": start(1 if quick else 5),
        "tables": tables(1 if quick else 5),
        "in_situ": in_situ(IN_SITU if "in_situ" in given.only else [n for n in IN_SITU if n in given.only], given.peers),
    }
    given.only = [*given.only, *(["in_situ"] if set(given.only) & set(IN_SITU) else [])]
    if (SHARED / "data" / "glue" / "mrpc").exists():
        runs["mrpc_score"] = mrpc_score(1 if quick else 2, every=8 if quick else 3)
    else:
        print("mrpc_score is left out: ../shared/data is not here", file=sys.stderr)

    rates = {} if given.only == ["limits"] else {m.name: m.value for m in limits(10)}
    print("\n".join(machine(rates)), file=sys.stderr if given.json else sys.stdout, flush=True)
    print("(other programs on the machine disturb threads that wait for each other: measure on a quiet one)", file=sys.stderr)
    measures = []
    for name in (*groups, "limits", "start", "tables"):
        if name not in given.only or name not in runs:
            continue
        with Watch() as watch:
            found = []
            for measure in runs[name]:
                found.append(measure)
                print(f"  {measure.name} {measure.value:.2f}", file=sys.stderr, flush=True)
        measures += [(measure, watch.disturbance) for measure in found]
        for measure in found if given.json else ():
            share = measure.share(rates, torch.get_num_threads())
            line = {"name": measure.name, measure.kind: round(measure.value, 4), "disturbed": watch.disturbance, "cpu": cpu()}
            print(json.dumps(line if share is None else line | {"of_limits": round(share, 3)}), flush=True)
    if not given.json:
        print("\n" + markdown(measures, rates))


if __name__ == "__main__":
    main()
