"""The measured record (outputs/records): what it holds, what it takes, and how it is made.

    python scripts/record.py                                     the plan: steps and hours on one core of each record
    python scripts/record.py tuning                              the commands of one
    python scripts/record.py tuning --run ../record --jobs 2     makes what is missing, two commands at a time
    python scripts/record.py tuning --run ../record --collect outputs/records/tuning_minilm    rows, no weights

A step that is done is not called again; one that was interrupted or failed is, and goes on as its command does by itself. The
folder holds the runs (`outputs/`), the words of every step (`logs/`) and which are done (`done/`). Commands run in the
checkout, so that the paths of data and models in them hold for everyone who has these beside it. Each gets one thread.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from record_plan import RECORDS, Step, steps

ROOT = Path(__file__).resolve().parents[1]
# What tables are made of, beside the configuration of a run; weights and what belongs to them are not.
KEPT = (
    "run.json", "run_config.json", "results.csv", "input_ranges.json", "attention_scales.json", "tuning.json",
    "learning_curve.csv", "extraction.json", "extraction_error.csv", "perturbation.csv", "pruning.csv", "answer.json",
    "specification.json", "specification.md", "specification.csv", "placement.md", "front.csv", "groups.csv",
)  # fmt: skip
ANSWERS = ("specification", "placement")  # what the commands call their folders at the end
PLAIN = re.compile(r"[^a-z0-9]+")


def hours(of: list[Step]) -> float:
    return sum(step.seconds for step in of) / 3600


class Maker:
    """Runs steps in a folder, those that another one needs first."""

    def __init__(self, folder: Path, of: list[Step]) -> None:
        self.folder, self.steps = folder.resolve(), of
        self.lock, self.running, self.failed = threading.Lock(), set[str](), set[str]()
        for name in ("logs", "done", "outputs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def mark(self, name: str) -> Path:
        """Holds the folder of the run, once the step is done."""
        return self.folder / "done" / PLAIN.sub("-", name)

    def log(self, step: Step) -> Path:
        return self.folder / "logs" / f"{PLAIN.sub('-', step.name)}.txt"

    def is_done(self, name: str) -> bool:
        return self.mark(name).exists()

    def words(self, step: Step) -> list[str]:
        """Of the command, with the folders of the networks that it names."""
        found = {name: self.mark(name).read_text(encoding="utf-8") for name in step.needs}
        named = [re.sub(r"\{(.+)\}", lambda match: found[match[1]], word) for word in step.words]
        return [*named, f"output_root={os.path.relpath(self.folder / 'outputs', ROOT)}"]

    def next(self) -> Step | None:
        with self.lock:
            for step in self.steps:
                open_ = step.name not in self.running | self.failed and not self.is_done(step.name)
                if open_ and all(map(self.is_done, step.needs)):
                    self.running.add(step.name)
                    return step
        return None

    def waits(self) -> bool:
        """Whether a step may become possible when one that runs now is done."""
        return bool(self.running) and any(not self.is_done(step.name) and step.name not in self.failed for step in self.steps)

    def call(self, step: Step) -> None:
        command = [sys.executable, "-m", "analog_glue", *self.words(step)]
        environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        log = self.log(step)
        print(f"{step.name}: {' '.join(step.words)}", flush=True)
        with log.open("w", encoding="utf-8") as out:
            code = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT).returncode
        place = ""
        if code == 0 and step.words[0] == "train":  # where it lies, said by the command itself
            said = subprocess.run([*command, "dry_run=true"], cwd=ROOT, env=environment, capture_output=True, text=True).stdout
            place = next((line.split(maxsplit=1)[1] for line in said.splitlines() if line.startswith("Output ")), "")
        with self.lock:
            self.running.discard(step.name)
            if code == 0:
                self.mark(step.name).write_text(place.strip(), encoding="utf-8")
            else:
                self.failed.add(step.name)
                print(f"{step.name} FAILED with exit status {code}: {log}", flush=True)

    def work(self) -> None:
        while True:
            step = self.next()
            if step is not None:
                self.call(step)
            elif self.waits():
                threading.Event().wait(1)
            else:
                return


def _without_id(folder: Path) -> str:
    return folder.name.rpartition("-")[0]


def collect(logs: list[Path], source: Path, to: Path) -> int:
    """Copy rows and configurations of the runs whose commands wrote `logs`; how many files.

    A command ends with the folders of its rows; the folders around them say which run they are of.
    """
    said = [line.partition(": ") for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    told = ("rows", "run", "checkpoint", *ANSWERS)  # of a tuned checkpoint the rows before it lie beside it
    ends = [(word, (ROOT / place).resolve()) for word, _, place in said if word in told and (ROOT / place).is_dir()]
    ends = [(word, end.parent if word == "specification" else end) for word, end in ends]  # what was looked at is beside it
    rows = {file.parent for word, end in ends if word != "run" for file in end.rglob("results.csv")}
    answers = {file.parent for word, end in ends if word in ANSWERS for file in end.rglob("answer.json")}
    for tuned in (end for word, end in ends if word == "checkpoint"):
        beside = {file.parent for file in tuned.parent.glob("*/results.csv")}
        rows |= {one for one in beside if _without_id(tuned).endswith(f"-{_without_id(one)}")}
    all_ends = {*rows, *answers, *(end for _, end in ends)}
    folders = {place for end in all_ends for place in (end, *end.parents) if source in place.parents}
    files = [folder / name for folder in sorted(folders) for name in KEPT]
    files += [folder / "config.json" for folder in sorted(rows)]  # elsewhere the file of that name is the model's
    files += [file for folder in sorted(answers) for file in sorted(folder.glob("*.png"))]
    files = [file for file in files if file.exists()]
    for file in files:
        place = to / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    return len(files)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="*", choices=[[], *RECORDS], help="which; none: all")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="make what is missing there")
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time")
    parser.add_argument("--collect", type=Path, metavar="RECORD", help="copy what tables need from FOLDER; runs nothing")
    given = parser.parse_args()
    names = given.records or list(RECORDS)
    if given.collect is not None and given.run is None:
        parser.error("--collect needs --run FOLDER, the folder that the runs are in")
    wanted = steps(names)
    if given.run is None:
        for name in names:
            own = list(RECORDS[name]())
            print(f"{name:10} {len(own):3} steps {hours(own):6.1f} h   {(RECORDS[name].__doc__ or '').strip()}")
            if given.records:
                print("\n".join(f"   {step.seconds / 60:5.0f} min  {step.name:30} {' '.join(step.words)}" for step in own))
        print(f"together   {len(wanted):3} steps {hours(wanted):6.1f} h, with the networks they score")
        return 0
    maker = Maker(given.run, wanted)
    if given.collect is not None:
        logs = [maker.log(step) for name in names for step in RECORDS[name]() if maker.is_done(step.name)]
        print(f"{collect(logs, maker.folder / 'outputs', given.collect)} files of {len(logs)} steps in {given.collect}")
        print(f"next: analog-glue tables {given.collect}")
        return 0
    left = [step for step in wanted if not maker.is_done(step.name)]
    print(
        f"{len(wanted) - len(left)} of {len(wanted)} steps are done; the others take {hours(left) / given.jobs:.1f} h",
        flush=True,
    )
    workers = [threading.Thread(target=maker.work) for _ in range(given.jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    missing = [step.name for step in wanted if not maker.is_done(step.name)]
    print(f"missing: {', '.join(missing)}; the same command again tries them" if missing else "all steps are done")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
