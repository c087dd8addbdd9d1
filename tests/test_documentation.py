"""What README, documents, help and yaml files show is held to the code: commands, options, paths, links, the example.

Every `analog-glue …` that is shown is run, or goes as far as a run can go without data: all jobs of a sweep are composed and
checked, and their components are built. What needs no download is also run, with dry_run=true.
"""

import argparse
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# All that this file knows of the inside of the package.
from analog_glue.cli.components import build_components
from analog_glue.cli.main import HELP, main
from analog_glue.cli.sweeps import expand, in_full, split_flags
from analog_glue.configuration.compose import Composer, conf_dir
from analog_glue.configuration.wording import GROUPS

LOOK_FOR_FILES = (  # what asks for data and models before a run
    "analog_glue.tasks.glue.GlueTask.check",
    "analog_glue.in_situ.tasks.images.Mnist.check",
    "analog_glue.in_situ.tasks.images.MnistLeNet5.check",
    "analog_glue.in_situ.tasks.war_and_peace.WarAndPeace.check",
    "analog_glue.models.PretrainedModel.check",
    "analog_glue.models.PretrainedModel.kind",
)
VERIFY = "analog_glue.verify.command.main"

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "outputs" / "README.md"]
SHARED = ROOT.parent / "shared"  # data and models that a developer may have beside the checkout

# --- the extractor: from text to command lines ---------------------------------------------------------------------------

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
REMARK = re.compile(r"\s{2,}|\s#\s|^#")  # begins with a sign, or after more than one space
LEFT_OUT = {"…", "..."}  # as a word of its own: the command is not shown whole


@dataclass(frozen=True)
class Shown:
    """A command line as it stands in a text."""

    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def in_markdown(text: str) -> Iterator[str]:
    """Lines of ```bash blocks, those that go on joined; and commands in `single backticks` with at least two words."""
    for language, body in FENCED.findall(text):
        if language == "bash":
            yield from re.sub(r" *\\\n *", " ", body).splitlines()
    for span in SPAN.findall(FENCED.sub("", text)):
        if span.startswith(("analog-glue ", "python ", "make ", "accelerate ", "pip ")) and not LEFT_OUT & set(span.split()):
            yield span


def in_comments(text: str) -> Iterator[str]:
    """Lines that begin with `analog-glue`, as they stand in help texts and at the top of yaml files."""
    for line in text.splitlines():
        if re.match(r"#? *analog-glue [a-z-]", line):
            yield line.lstrip("# ")


def commands(where: str, lines: Iterator[str]) -> list[Shown]:
    """Split lines into commands: without remarks and NAME=value in front, apart at &&, words as the shell reads them."""
    found = []
    for line in lines:
        for part in REMARK.split(line.strip())[0].split(" && "):
            words = shlex.split(part)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if words:
                found.append(Shown(where, tuple(words)))
    return found


def all_shown() -> list[Shown]:
    """Every command of every text; one that several texts show is there once."""
    found = commands("--help", in_comments(HELP))
    for page in PAGES:
        found += commands(page.relative_to(ROOT).as_posix(), in_markdown(page.read_text(encoding="utf-8")))
    for file in sorted(conf_dir().rglob("*.yaml")):
        found += commands(f"conf/{file.relative_to(conf_dir()).as_posix()}", in_comments(file.read_text(encoding="utf-8")))
    return list({shown.words: shown for shown in reversed(found)}.values())[::-1]


def arguments(shown: Shown) -> list[str] | None:
    """The words for our command line; None where another program is called."""
    words = list(shown.words)
    if words[0] == "accelerate":
        words = words[words.index("analog_glue") :]
    return words[1:] if words[0] in ("analog-glue", "analog_glue") else None


MADE_UP = "my_device"  # what CONTRIBUTING.md tells the reader to write
RUNS = ("train", "evaluate", "tune", "diagnose", "specify", "place", "factsheet", "publish", "extract")
SHOWN = [shown for shown in all_shown() if MADE_UP not in str(shown)]
OURS = {shown: words for shown in SHOWN if (words := arguments(shown)) is not None}
OURS_OF_RUNS = [shown for shown, words in OURS.items() if words[0] in RUNS and "--help" not in words]
OTHERS = [shown for shown in SHOWN if shown not in OURS]


def test_the_extractor_reads_a_page_as_a_shell_would():
    page = "\n".join(
        [
            "Say `analog-glue list runs` or `analog-glue train … seed=0` or `make`.",
            "```bash",
            "analog-glue train task=mrpc \\",
            "  \"hardware.layers=['*']\" seed=1     # a remark",
            "# only a remark",
            "OMP_NUM_THREADS=1 analog-glue list && make test",
            "```",
            "```python",
            "analog-glue = 1",
            "```",
        ]
    )
    assert [shown.words for shown in commands("here", in_markdown(page))] == [
        ("analog-glue", "train", "task=mrpc", "hardware.layers=['*']", "seed=1"),
        ("analog-glue", "list"),
        ("make", "test"),
        ("analog-glue", "list", "runs"),
    ]
    assert [shown.words[2:] for shown in commands("here", in_comments("#   analog-glue train seed=1   twice"))] == [("seed=1",)]
    assert len(OURS) > 80 and {*RUNS, "tables", "report", "list", "verify"} <= {words[0] for words in OURS.values()}


# --- our commands --------------------------------------------------------------------------------------------------------


def on_paper(folder: Path, *words: str) -> Path:
    """A finished run as far as `evaluate` and `extract` look before they begin: what was chosen, and no weights."""
    with Composer("train") as composer:
        composed = composer.compose(words)
    config = build_components(composed, "train", list(words)).config
    folder.mkdir()
    kept = {name: config[name] for name in ("task", "model", "device", "training", "seed", "data")}
    (folder / "run_config.json").write_text(json.dumps(kept))
    (folder / "run.json").write_text(json.dumps({"status": "done", "command": "train", "name": folder.name}))
    return folder


@pytest.fixture(scope="module")
def on_paper_runs(tmp_path_factory):
    """What stands for `outputs/…`: a run on PCM tiles, one in situ, and an extraction of that one."""
    root = tmp_path_factory.mktemp("outputs")
    in_situ = on_paper(root / "in_situ", "experiment=digits_in_situ")
    (in_situ / "training_state.safetensors").touch()
    extraction = in_situ / "extraction-uniform-10000-seed0"
    extraction.mkdir()
    (extraction / "extraction.json").write_text("{}")
    return {"pcm": on_paper(root / "pcm", "experiment=demo"), "in situ": in_situ, "extraction": extraction}


def stand_in(words: list[str], runs: dict[str, Path]) -> list[str]:
    """The words with a run that is there for every one that a text names, one seed, and every job in this process."""
    said = []
    for word in words:
        key, _, value = word.partition("=")
        if key == "checkpoint" or (key == "training.start_from" and "…" in value):
            kind = "extraction" if "/extraction" in value else "in situ" if words[0] == "extract" else "pcm"
            said.append(f"{key}='{runs[kind]}'")
        elif key == "task" and "checkpoint=my_folder" in words:
            continue  # what stands for the folder of another program is a run here, which knows its task
        elif key != "runtime.jobs":
            said.append("seed=0" if key == "seed" else word)
    return said


@pytest.fixture
def go(monkeypatch, tmp_path):
    """Call the command line in a folder of its own, which holds a sweep that never began and a link to the records."""
    sweep = tmp_path / "outputs" / "sweeps" / "one"
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text(json.dumps({"command": "train", "overrides": [["seed=0"], ["seed=1"]]}))
    (tmp_path / "outputs" / "records").symlink_to(ROOT / "outputs" / "records")
    (tmp_path / "my_folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return lambda words: main(words)


@pytest.mark.slow
@pytest.mark.parametrize("shown", [shown for shown in OURS if shown not in OURS_OF_RUNS], ids=str)
def test_a_command_that_is_shown_runs(shown, go, monkeypatch, capsys):
    monkeypatch.setattr(VERIFY, lambda **_: 0)  # its checks have tests of their own
    words = OURS[shown]
    if words[0] in ("tables", "report") or words[:2] == ["list", "runs"]:
        root = next((word for word in words[1:] if word.startswith("outputs/")), "outputs/records/demo")
        words = [*words[:1], root, "--out", "written"] if words[0] in ("tables", "report") else [*words[:2], root]
    assert go(words) == 0, capsys.readouterr().err


def what_is_wrong(composer: Composer, words: list[str]) -> str:
    """The message that a run would end with before it begins; empty if it would begin. Each value of a sweep is tried once."""
    command, *words = words
    words = in_full(command, words)
    flags, overrides = split_flags(words)
    tried: set[str] = set()
    try:
        for job in expand(composer, overrides, "-m" in flags):
            if not tried or not tried.issuperset(job):
                build_components(composer.compose(job), command, job)
            tried |= set(job)
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture
def without_files(monkeypatch):
    for name in LOOK_FOR_FILES:
        monkeypatch.setattr(name, lambda self, *_: None)


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("texts", ["README.md and --help", pytest.param("all others", marks=pytest.mark.slow)])
def test_every_run_that_is_shown_can_be_composed_and_built(texts, command, on_paper_runs, without_files):
    with Composer(command) as composer:
        here = [shown for shown in OURS_OF_RUNS if (shown.where in texts) == texts.startswith("README")]
        shown = [shown for shown in here if OURS[shown][0] == command]
        found = {str(one): what_is_wrong(composer, stand_in(OURS[one], on_paper_runs)) for one in shown}
    assert (found or command == "extract") and {one: message for one, message in found.items() if message} == {}


@pytest.mark.parametrize("words", ["task=mprc", "seed=0,1", "noise.g_mx=1", "-m training=digital,tki", "noise.noise_scale=-1"])
def test_a_wrong_command_would_be_found(words, without_files):
    with Composer("train") as composer:
        assert what_is_wrong(composer, ["train", *words.split()])


NEEDS_NO_DOWNLOAD = re.compile(r"task=demo|experiment=(demo|digits_in_situ|gokmen_figure6)|checkpoint=")


@pytest.fixture(scope="module")
def real_runs(tmp_path_factory):
    """Runs of seconds, made by the commands that the texts show, on less."""
    root = tmp_path_factory.mktemp("real")
    less = ["training.epochs=1", f"output_root={root}"]
    pcm = ["experiment=demo", "task.train_size=192", "task.validation_size=32", "evaluation.chips=0", "training=digital", *less]
    means = ["training.average_products=60", "training.average_epochs=1", "training.statistics_every=3"]
    in_situ = ["experiment=digits_in_situ", *means, *less]
    assert main(["train", *pcm]) == 0 and main(["train", *in_situ]) == 0
    runs = {"pcm": next(root.glob("demo-*")), "in situ": next(root.glob("digits-*"))}
    assert main(["extract", f"checkpoint={runs['in situ']}", "extract.products=200"]) == 0
    return runs | {"extraction": next(runs["in situ"].glob("extraction-*"))}


@pytest.mark.slow
@pytest.mark.parametrize("shown", [shown for shown in OURS_OF_RUNS if NEEDS_NO_DOWNLOAD.search(str(shown))], ids=str)
def test_a_run_that_needs_no_download_says_what_it_would_do(shown, go, real_runs, capsys, a_moment):
    assert go([*stand_in(OURS[shown], real_runs), "dry_run=true"]) == 0, capsys.readouterr().err
    assert "Nothing was run." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="no data and models in ../shared beside the checkout")
@pytest.mark.parametrize("shown", [shown for shown in OURS_OF_RUNS if "model.path=../shared" in str(shown)], ids=str)
def test_a_run_on_local_files_says_what_it_would_do(shown, go, capsys):
    words = [word.replace("=../shared", f"={SHARED}") for word in OURS[shown]]
    assert go([*words, "dry_run=true"]) == 0, capsys.readouterr().err


# --- other programs ------------------------------------------------------------------------------------------------------


def is_target(words: list[str]) -> bool:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return all("=" in word or word in targets for word in words)


def is_file_with_flags(words: list[str]) -> bool:
    """A file or a module that is there, and flags that its text names; `-m pytest` is taken on trust."""
    if words[0] == "-m":
        return words[1] == "pytest" or (len(words) == 2 and (ROOT / f"{words[1].replace('.', '/')}.py").is_file())
    text = (ROOT / words[0]).read_text(encoding="utf-8") if (ROOT / words[0]).is_file() else ""
    return bool(text) and all(f'"{word}"' in text for word in words[1:] if word.startswith("--"))


def is_extra(words: list[str]) -> bool:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["install"])
    parser.add_argument("-c")
    parser.add_argument("-e")
    given = parser.parse_args(words)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return (ROOT / given.c).is_file() and all(name in extras for name in re.findall(r"\[(\w+)]", given.e))


PROGRAMS: dict[str, Callable[[list[str]], bool]] = {
    "make": is_target,
    "python": is_file_with_flags,
    ".venv/bin/python": is_file_with_flags,
    "bash": is_file_with_flags,
    "pip": is_extra,
    "source": lambda words: words == [".venv/bin/activate"],
    "git": lambda words: words[0] == "clone",
    "cd": lambda words: words == ["analog-glue"],
}


@pytest.mark.parametrize("shown", OTHERS, ids=str)
def test_another_program_is_called_with_what_is_there(shown):
    program, *words = shown.words
    assert program in PROGRAMS, f"{shown.where} calls {program}: say here how to check it"
    assert PROGRAMS[program](words), str(shown)


# --- options, paths, links, the example ----------------------------------------------------------------------------------


def test_the_table_of_options_is_the_folders_of_conf():
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)`[^|]*\| (.*) \|$", text, re.MULTILINE))
    assert {group: set(SPAN.findall(options)) for group, options in rows.items()} == {
        group: {file.stem for file in (conf_dir() / group).glob("*.yaml")} for group in GROUPS
    }


PLACES = [ROOT, ROOT / "analog_glue", ROOT / "outputs"]  # what a path may be told from
TOPS = {path.name for place in PLACES[:2] for path in place.iterdir() if path.is_dir()}


def paths_named(text: str) -> set[str]:
    """What stands in `backticks` and looks like a file or folder of the repository: it ends in .py, or begins with a folder."""
    spans = {span for span in SPAN.findall(FENCED.sub("", text)) if re.fullmatch(r"[\w./*-]+", span)}
    named = {span for span in spans if span.endswith(".py") or (span.split("/")[0] in TOPS and "/" in span)}
    return {span for span in named if MADE_UP not in span and not span.startswith(("outputs/tables", "outputs/sweeps"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_path_that_is_named_is_there(page):
    for name in paths_named(page.read_text(encoding="utf-8")):
        alone = "/" not in name and any(ROOT.glob(f"[!.]*/**/{name}"))  # `ttv2.py`, beside one that is named with its folder
        assert alone or any(any(place.glob(name)) for place in PLACES), f"`{name}`"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


def test_every_page_is_reached_from_the_readme():
    readme = PAGES[0].read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT).as_posix()})" not in readme] == []


def test_the_readme_is_short():
    lines = PAGES[0].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    assert sum(line.startswith("|--") or line.startswith("|---") or "|--:" in line for line in lines) <= 2  # results, and pages


@pytest.mark.slow
def test_the_example_of_the_readme_runs(go, capsys):
    (example,) = [body for language, body in FENCED.findall(PAGES[0].read_text(encoding="utf-8")) if language == "python"]
    exec(compile(example, "README.md", "exec"), {"__name__": "__main__"})
    assert "digital" in capsys.readouterr().out
    assert list(Path("outputs").glob("demo-*/*/results.csv"))
