"""Commands that only read: `tables`, `report`, `verify`, `list`."""

import argparse
import difflib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from analog_glue.cli.components import priced
from analog_glue.cli.errors import DONE, FAILED, print_wrong
from analog_glue.settings import without_tilde

RECORDS_APART = "Runs of a folder `records` below ROOT, which came with the source, are left out: name it, or a record in it."


class _Parser(argparse.ArgumentParser):
    """argparse with this project's exit code and form of message."""

    def error(self, message: str) -> Any:
        raise SystemExit(print_wrong(f"{message}. `{self.prog} --help` shows how it is called."))


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace | int:
    try:
        return parser.parse_args(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE


PLAN = {  # of --maintenance
    "keep": (float, "of the digital score that is wanted [%%] (default: 99)"),
    "probability": (float, "that all chips of the fleet keep it (default: 0.95)"),
    "confidence": (float, "of the tolerance bound (default: 0.95)"),
    "fleet": (int, "chips (default: 1)"),
    "programming_energy": (float, "of a device, with all iterations [pJ] (no default: no published value)"),
}


def _asked(parser: argparse.ArgumentParser, words: list[str], out: str) -> tuple[argparse.Namespace, Any] | int:
    """What `tables` and `report` are told, and the wish of --maintenance (None: no plan); the exit code where it is wrong."""
    parser.add_argument("root", nargs="?", type=without_tilde, default="outputs", help="a folder of runs (default: outputs)")
    parser.add_argument("--out", type=without_tilde, help=out)
    parser.add_argument("--maintenance", action="store_true", help="also when to read factors out and to program again")
    plan = parser.add_argument_group("of --maintenance")
    for name, (kind, told) in PLAN.items():
        plan.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=told)
    given = _parse(parser, words)
    if isinstance(given, int):
        return given
    wish = _wish(given)
    return wish if isinstance(wish, int) else (given, wish)


def _wish(given: argparse.Namespace) -> Any:
    """What a fleet has to keep up; None where no plan was asked for, the exit code where it was asked wrongly."""
    typed = {name: value for name in PLAN if (value := getattr(given, name)) is not None}
    if typed and not given.maintenance:
        flag = f"--{next(iter(typed)).replace('_', '-')}"
        return print_wrong(f"Flag {flag} must stand beside --maintenance, but stands alone. Add --maintenance.")
    from analog_glue.reports.maintenance import Wish

    return Wish(**typed) if given.maintenance else None


def tables_command(words: list[str]) -> int:
    parser = _Parser(
        "analog-glue tables",
        description="Tables and figures from every results.csv and learning curve of a folder.", epilog=RECORDS_APART,
    )  # fmt: skip
    asked = _asked(parser, words, "where to write (default: ROOT/tables)")
    if isinstance(asked, int):
        return asked
    given, wish = asked
    from analog_glue.in_situ.reports.chapter import chapter
    from analog_glue.reports.build import build

    root = Path(given.root)
    left_out: list[str] = []
    report = build(root, Path(given.out) if given.out else None, chapter(root, left_out), priced(), wish)
    print(report.markdown)
    for path in report.paths:
        print(f"written: {path}")
    pictures = [path for path in report.paths if path.suffix == ".png"]
    if pictures:
        print(f"figure: {pictures[0]}")
    return _said([*left_out, *report.left_out])


def report_command(words: list[str]) -> int:
    parser = _Parser(
        "analog-glue report", description="One page for a browser over all runs of a folder; it needs no network.",
        epilog=RECORDS_APART,
    )  # fmt: skip
    asked = _asked(parser, words, "the file to write (default: ROOT/report.html)")
    if isinstance(asked, int):
        return asked
    given, wish = asked
    if given.out and Path(given.out).is_dir():
        return print_wrong(f"Flag --out must name the file to write, but `{given.out}` is a folder. "
                           f"Write --out {shlex.quote(str(Path(given.out) / 'report.html'))}.")  # fmt: skip
    from analog_glue.in_situ.reports.chapter import chapter
    from analog_glue.reports.page.build import build_page

    root = Path(given.root)
    left_out: list[str] = []
    made = chapter(root, left_out)
    page, unread = build_page(root, Path(given.out) if given.out else None, made, left_out, priced(), wish)
    print(f"written: {page} ({page.stat().st_size / 1e6:.1f} MB)\nnext: open it in a browser")
    return _said(unread)


def _said(left_out: list[str]) -> int:
    """Name the runs that could not be read; the exit code."""
    for line in dict.fromkeys(left_out):
        print(f"left out: {line}", file=sys.stderr)
    return FAILED if left_out else DONE


def verify_command(words: list[str]) -> int:
    parser = _Parser("analog-glue verify", description="Hold devices and tiles against published measurements.")
    parser.add_argument("--against", choices=["aihwkit", "badcrossbar"], help="compare with this simulator too")
    parser.add_argument("--quick", action="store_true", help="fewer draws, wider tolerances")
    given = _parse(parser, words)
    if isinstance(given, int):
        return given
    from analog_glue.verify import command as verify

    code = verify.main(against=given.against, quick=given.quick)
    print("next: analog-glue train task=mrpc noise=pcm" if code == DONE else "next: see which rows are marked as off")
    return code


LISTS = ("options", "runs", "sweeps")


def list_command(words: list[str]) -> int:
    parser = _Parser("analog-glue list", description="What can be chosen, and what has been run.", epilog=RECORDS_APART)
    parser.add_argument("what", nargs="?", default="options", metavar=f"{{{','.join(LISTS)}}}", help="default: options")
    parser.add_argument(
        "root", nargs="?", type=without_tilde, default="outputs", help="of runs, of sweeps: the folder (default: outputs)"
    )
    parser.add_argument(
        "--difference", nargs=2, type=without_tilde, metavar=("A", "B"), help="runs: what differs between two runs or sweeps"
    )
    given = _parse(parser, words)
    if isinstance(given, int):
        return given
    if given.what not in LISTS:
        near = difflib.get_close_matches(given.what, LISTS, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        return print_wrong(
            f"The word after `analog-glue list` must be {', '.join(LISTS[:-1])} or {LISTS[-1]}, but is `{given.what}`. "
            "`analog-glue list` shows what can be chosen, `analog-glue list runs FOLDER` what has been run, `analog-glue list "
            f"sweeps FOLDER` how its sweeps stand.{hint}"
        )
    if given.difference:
        return _list_difference(*given.difference)
    if given.what == "sweeps":
        return _list_sweeps(Path(given.root))
    return _list_options() if given.what == "options" else _list_runs(Path(given.root))


def _list_options() -> int:
    from analog_glue.configuration.compose import conf_dir
    from analog_glue.configuration.wording import GROUPS

    defaults = dict(re.findall(r"^  - (\w+): (\w+)", (conf_dir() / "train.yaml").read_text(), re.MULTILINE))
    for group in GROUPS:
        print(f"{group}=…")
        for file in sorted((conf_dir() / group).glob("*.yaml")):
            mark = "*" if defaults.get(group) == file.stem else " "
            print(f" {mark} {file.stem:20} {_description(file)}")
    print("* used when nothing is said\nnext: analog-glue train --help   every setting with its value and what it means")
    return DONE


def _list_sweeps(root: Path) -> int:
    from analog_glue.cli.records import list_sweeps

    if not list_sweeps(root):
        return print_wrong(f"Folder `{root}` has no sweeps. `analog-glue train -m …` makes one.")
    print(f"next: analog-glue list runs {shlex.quote(str(root))}   what the runs of their jobs have measured")
    return DONE


def _description(file: Path) -> str:
    """The first comment line of a yaml file."""
    comments = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return next((line.lstrip("# ") for line in comments if "@package" not in line), "")


def _list_difference(first: str, second: str) -> int:
    """What determined two runs, sweeps or extractions, where it is not the same."""
    from analog_glue.runs.identity import differences
    from analog_glue.runs.lookup import payload_of

    payloads = [payload_of(Path(folder)) for folder in (first, second)]
    for folder, payload in zip((first, second), payloads, strict=True):
        if payload is None:
            return print_wrong(f"Folder `{folder}` must hold a run, a sweep or an extraction, but holds none. "
                               "`analog-glue list runs` shows them.")  # fmt: skip
    print(f"A  {first}\nB  {second}")
    found = differences(*(payload or {} for payload in payloads))
    for one in found:
        print(f"  {one.in_words('A has', 'B has')}")
    if not found:
        print("no difference")
    return DONE


def _list_runs(root: Path) -> int:
    """Every training run below `root`, and below it the hardware that its weights were put on."""
    from analog_glue.in_situ.files import ARRAY_ERROR, array_error
    from analog_glue.in_situ.reports.groups import differences
    from analog_glue.in_situ.reports.records import find_runs
    from analog_glue.reports.figures import time_label
    from analog_glue.runs.files import read_json
    from analog_glue.runs.folder import files_of_runs, status_of
    from analog_glue.runs.rows import RESULTS_FILE, Measurement, ResultsFile
    from analog_glue.runs.spoiled import leaving_out

    left_out: list[str] = []
    in_situ = {run.folder: run for run in find_runs(root, left_out)}
    told = differences(in_situ.values())
    runs = {file.parent: read_json(file) for file in files_of_runs(root, "run.json")}
    trained = [folder for folder, run in runs.items() if run.get("command") == "train"]
    below_of: dict[Path, list[Path]] = {folder: [] for folder in trained}
    for other in runs:
        for above in other.parents:
            if above in below_of:
                below_of[above].append(other)
    arrays: dict[Path, str] = {}
    for folder in runs:
        with leaving_out(left_out, folder / ARRAY_ERROR):
            arrays |= {folder: said} if (said := array_error(folder)) else {}
    if not trained and not arrays and all(runs.values()):
        return print_wrong(f"Folder `{root}` has no runs (those of a folder `records` below it are not counted). "
                      "`analog-glue train …` makes one.")  # fmt: skip
    for folder in (folder for folder, run in runs.items() if not run):
        print(f"{status_of(folder):11} {folder}: its run.json cannot be read")
    for folder in trained:
        print(f"{status_of(folder):11} {folder}")
        if folder in in_situ:
            print(f"  {in_situ[folder].last_score}")
            if told[folder]:
                print(f"  differs: {told[folder]}")
            for extraction in in_situ[folder].extractions:
                print(f"  {extraction.name}: {extraction.best_score}")
        ablations: dict[Path, list[str]] = {}  # folder around their parts → status of each
        for below in below_of[folder]:
            rows: list[Measurement] | None = None
            with leaving_out(left_out, below / RESULTS_FILE):
                rows = [row for row in ResultsFile(below).rows() if row.headline]
            if rows is None:
                continue
            name = below.relative_to(folder)  # of a sweep of a tuned checkpoint that of both
            if what := {"diagnose": "what its tiles lose", "tune": "a tuned checkpoint"}.get(str(runs[below].get("command"))):
                print(f"  {status_of(below):11} {name}: {what}")
                continue
            if any(row.ablation for row in rows):
                ablations.setdefault(below.parent, []).append(status_of(below))
                continue
            digital = [f"digital {row.metric} {row.value:.2f}" for row in rows if row.stage == "digital"]
            chips = len({row.chip for row in rows if row.stage == "chip"})
            last = max((row.t_seconds for row in rows if row.t_seconds is not None), default=0.0)
            aged = f"{chips} chip{'s' if chips != 1 else ''} up to {time_label(last)}"
            scores = [*digital[:1], aged] if rows else ["no score yet"]
            print(f"  {status_of(below):11} {name}: {', '.join(scores)}")
        for around, parts in ablations.items():
            kinds = {"specify": "settings of the hardware", "placement": "choices of layers on tiles"}
            what = kinds.get(around.name.partition("-")[0], "parts of the hardware")
            unfinished = [status for status in parts if status != "done"]
            print(f"  {(unfinished or parts)[0]:11} {around.relative_to(folder)}: {len(parts)} {what}")
    for folder, said in arrays.items():
        print(f"{status_of(folder):11} {folder}\n  {said}")
    print(f"next: analog-glue tables {shlex.quote(str(root))}")
    return _said(left_out)
