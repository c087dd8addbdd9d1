"""The command `publish`: a finished run as a folder in the form of the Hugging Face hub, and on request there.

The folder holds what any reader of the hub needs (weights, tokenizer, configuration, a model card), what `analog-glue evaluate`
needs to put the network on chips as the run itself (its identity, learned or tuned ranges), and nothing that belongs to one
machine: paths are left out. It is made beside its place and moved there whole.
"""

import glob
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analog_glue.commands import factsheet
from analog_glue.commands.summary import RunSummary
from analog_glue.configuration.again import changed, changed_settings
from analog_glue.costs.estimate import Costs
from analog_glue.errors import UserError, require
from analog_glue.hub import unreachable
from analog_glue.reports.card import UNKNOWN, Subject, card
from analog_glue.reports.measured import find_measured
from analog_glue.runs.files import NO_ROOM, exclusive, read_json, write_json_atomic, write_text_atomic
from analog_glue.runs.folder import (
    ATTENTION_FILE,
    CONFIG_FILE_OF_RUN,
    PERIPHERY_FILE,
    RUN_FILE,
    TUNING_FILE,
    checkpoint_config,
    read_run,
)
from analog_glue.runs.model_files import CONFIG_FILE, INDEX_FILE, OF_TOKENIZER, weight_files
from analog_glue.runs.own_files import FIELD as OWN_FILES
from analog_glue.runs.own_files import hashes, require_own
from analog_glue.runs.rows import Measurement
from analog_glue.settings import OUTPUT_ROOT, RunSettings, output_root_typed, typed

CARD = "README.md"
# In the folder that a publication is made in, beside its place: what it is for, what is made, and what was there before.
MARK, NEW, OLD = "of-analog-glue-publish", "new", "old"
SUFFIX = ".analog-glue-publish"  # of its name
LOCAL = "from_local_folder"  # of run.json of a publication: what was fine-tuned came from no hub; the folder is left out
# Words of a command that lead to places of one machine.
PLACES = ("model.path", "data.root", "output_root", "checkpoint", "training.start_from")


@dataclass(frozen=True)
class PublishJob:
    """A publication that could begin: everything is looked at, nothing is written."""

    settings: RunSettings
    run: Path
    subject: Subject
    rows: list[Measurement]
    text: str  # of the card
    there: bool  # whether the folder holds just this already

    @property
    def folder(self) -> Path:
        """Where it goes."""
        return Path(str(self.settings.publish.folder))

    @property
    def measure(self) -> str:
        """What scores the run on the chips that its training named."""
        return self.measure_of(self.run) + output_root_typed(self.settings.output_root)

    def measure_of(self, folder: Path) -> str:
        """The same of the network in a folder, below any root."""
        return self.subject.measure.replace("checkpoint=FOLDER", typed("checkpoint", folder), 1)


def prepare(settings: RunSettings, costs: Costs | None = None) -> PublishJob:
    """Look at the run in `settings.checkpoint` and at the place for it.

    Args:
        costs: What prices an inference on the card; None: nothing is priced.

    Raises:
        UserError: no finished run, files that the run did not write, a folder that holds something else; with `publish.push` no
            repository, no token, no hub, or a repository that everybody can read where it is to be private.
    """
    chosen, run = settings.publish, Path(str(settings.checkpoint))
    facts = read_run(run, "checkpoint")
    require_own(run, "checkpoint")
    lost = [file.name for file in weight_files(run) if not file.is_file()]
    require(not lost, "checkpoint", "hold the weights of its run", str(run), f"It lacks {', '.join(lost)}.")
    require(chosen.folder is not None, "publish.folder", "name the folder to write", None, "Write folder=my_folder.")
    folder = Path(str(chosen.folder))
    place = _place(folder)
    inside = place == run.resolve() or run.resolve() in place.parents
    require(not inside, "publish.folder", "lie outside of the run", str(folder), f"The run is {run}.")
    told = chosen.license is None or (chosen.license.isprintable() and chosen.license.strip() != "")
    require(told, "publish.license", "be a licence's name on one line", chosen.license, "Write license=mit.")
    if chosen.push:
        named = chosen.repo is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", chosen.repo) is not None and _of_hub(chosen.repo)
        require(named, "publish.repo", "be OWNER/NAME with push=true", chosen.repo, "Write repo=your_name/name_of_the_model.")
        if not settings.dry_run:
            _require_hub(str(chosen.repo), chosen.private)
    else:
        require(chosen.repo is None, "publish.repo", "be left out without push=true", chosen.repo)
    name = str(facts["name"])
    measured = find_measured(run)
    elsewhere = find_measured(Path(settings.output_root) / name)  # where scores of a folder that came from elsewhere are
    hardware = elsewhere.hardware | measured.hardware
    own = (row for row in (*measured.rows, *elsewhere.rows) if row.run == name and not row.ablation)
    rows = [_labelled(row, hardware.get(row.hardware_id, {})) for row in own]
    config, files = checkpoint_config(run), [*_of_model(run), RUN_FILE, CONFIG_FILE_OF_RUN]
    local = (config.get("model") or {}).get("path") is not None or bool(facts.get(LOCAL))
    known = _facts(facts) | ({LOCAL: True} if local else {})
    subject = Subject(known, _config(config), files, local, chosen.license, _labels(run))
    takes = [] if costs is None else _taken(settings, costs)
    text = card(subject, rows, elsewhere.settings | measured.settings, takes)
    return PublishJob(settings, run, subject, rows, text, _is_there(settings, run, subject, text))


def run(job: PublishJob, log: Callable[[str], None] = print) -> RunSummary:
    """Write the folder, and with `publish.push` send it to the hub."""
    chosen, folder = job.settings.publish, job.folder
    if job.there or not _write(job):
        log(f"Already there: {folder}")
    if chosen.push:
        log(f"sent to: {_push(job)}")
    steps = [f"{job.measure_of(folder)}   # what anybody who has it can do"]
    if not _scored(job):
        steps.insert(0, f"{job.measure}   # then publish again with force=true: the card has no score on chips yet")
    if not chosen.push:
        words = f"{typed('checkpoint', job.run)} {typed('folder', folder)}"
        steps.append(f"analog-glue publish {words} push=true repo=OWNER/NAME   # to the hub, readable by you alone")
    return RunSummary(folder, describe(job), tuple(steps), holds="published")


def describe(job: PublishJob) -> str:
    """What is published, in words."""
    chosen, subject = job.settings.publish, job.subject
    size = sum((job.run / name).stat().st_size for name in _of_model(job.run))
    times = len({row.t_seconds for row in job.rows if row.stage == "chip"})
    chips = len({row.chip for row in job.rows if row.stage == "chip"})
    scores = f"{chips} chips at {times} times" if _scored(job) else f"none on chips yet; {job.measure} measures them"
    license_told = subject.license_in_words + (" (license=… says it)" if subject.license_in_words == UNKNOWN else "")
    lines = [
        f"Run        {subject.name}",
        f"Folder     {job.folder}{': there already' if job.there else ''}",
        f"Files      {', '.join([*subject.files, CARD])} ({size / 1e6:.1f} MB)",
        f"Scores     {scores}",
        f"Licence    {license_told}",
    ]
    if chosen.push:
        lines.append(f"Hub        {chosen.repo}, {'readable by you alone' if chosen.private else 'readable by everybody'}")
    return "\n".join(lines)


def _taken(settings: RunSettings, costs: Costs) -> list[tuple[str, str]]:
    """What the FactSheet of the run answers first; nothing of an architecture whose layers are not known."""
    try:
        job = factsheet.prepare(settings, {"costs": costs}, {}, {"costs": "bottom_up"})
    except UserError:
        return []
    return factsheet.answers(job, *factsheet.sheet_of(job))


def _labelled(row: Measurement, config: Mapping[str, Any]) -> Measurement:
    """A row that names its devices and its tile with what was changed of these options (config.json of its sweep)."""
    noise = [row.noise, *changed(config, "noise", row.noise)]
    tile = [row.tile, *changed(config, "tile", row.tile), *changed_settings(config)]
    return replace(row, noise=" ".join(noise), tile=" ".join(tile))


def _scored(job: PublishJob) -> bool:
    return any(row.stage == "chip" for row in job.rows)


def _of_model(run: Path) -> list[str]:
    """Names of the files that a network consists of."""
    names = [CONFIG_FILE, INDEX_FILE, *(file.name for file in weight_files(run)), *OF_TOKENIZER]
    return [name for name in (*names, PERIPHERY_FILE, ATTENTION_FILE, TUNING_FILE) if (run / name).is_file()]


def _labels(run: Path) -> list[str]:
    """Names of the classes in the model's configuration; none of a regression, which has one output."""
    named = read_json(run / CONFIG_FILE).get("id2label")
    return [str(label) for label in named.values()] if isinstance(named, dict) and len(named) > 1 else []


def _config(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the run without places of one machine."""
    data, model = dict(config.get("data") or {}), dict(config.get("model") or {})
    told = {**config, "data": data | {"root": None}, "output_root": OUTPUT_ROOT, "checkpoint": None}
    if model:
        told["model"] = model | ({"path": None} if "path" in model else {})
    if (config.get("training") or {}).get("start_from") is not None:
        told["training"] = {**config["training"], "start_from": Path(config["training"]["start_from"]).name}
    return told


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """run.json without places of one machine."""
    told = dict(facts)
    told["published"] = facts["name"]
    told["overrides"] = [word for word in facts.get("overrides") or [] if str(word).partition("=")[0].lstrip("+") not in PLACES]
    for group in ("data", "model"):
        known = dict(facts.get(group) or {})
        source = str(known.get("source", ""))
        if source and not re.match(r"[\w.-]+/[\w.-]+@", source):  # a hub id with its revision
            known["source"] = Path(source).name
        told[group] = known
    return told


def _place(folder: Path) -> Path:
    """Where the folder really is: a link, or a dot, has no place beside it.

    Raises:
        UserError: nothing can be there.
    """
    try:
        place = folder.resolve()
        place.exists()
    except (OSError, RuntimeError, ValueError) as error:  # a link onto itself, a name that is too long
        raise _no_place(folder, error) from None
    above = next(one for one in (place, *place.parents) if os.path.exists(one))
    require(above.is_dir(), "publish.folder", "be a folder, in folders", str(folder), f"{above} is a file.")
    return place


def _no_place(folder: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(f"Setting `publish.folder` must be a place that can be written to, but is {str(folder)!r}: {reason}.")


def _is_there(settings: RunSettings, run: Path, subject: Subject, text: str) -> bool:
    """Whether the folder holds just what would be written.

    Raises:
        UserError: it holds what may not be replaced.
    """
    folder = _place(Path(str(settings.publish.folder)))
    found = {file.name for file in folder.iterdir()} if folder.exists() else set()
    if not found:
        return False
    recorded = read_json(folder / RUN_FILE)
    known = recorded[OWN_FILES] if isinstance(recorded.get(OWN_FILES), dict) else {}
    ours = bool(known) and recorded.get("published") == subject.name
    require(ours, "publish.folder", "be a new or an empty folder", settings.publish.folder, "Name another folder.")
    foreign = sorted(found - {*known, RUN_FILE, CARD, TUNING_FILE})
    more = f"It holds {', '.join(foreign)}, too. Put that elsewhere, or name another folder."
    require(not foreign, "publish.folder", "hold nothing but the publication", settings.publish.folder, more)
    same = hashes(folder) == known and {**known, CONFIG_FILE_OF_RUN: ""} == {**hashes(run), CONFIG_FILE_OF_RUN: ""}
    same = same and recorded | {OWN_FILES: None} == {**subject.facts, OWN_FILES: None}
    if same and (folder / CARD).is_file() and (folder / CARD).read_text(encoding="utf-8") == text:
        return True
    more = "force=true replaces the older publication of this run."
    require(settings.force, "publish.folder", "be a new or an empty folder", settings.publish.folder, more)
    return False


def _write(job: PublishJob) -> bool:
    """Make the folder beside its place, and move it there once it is whole; False where another process did so before.

    Raises:
        UserError: the place cannot be written to, or holds by now what may not be replaced.
    """
    folder = _place(job.folder)
    stands_in = Path.cwd() == folder
    try:
        with exclusive(folder.parent, tidies=False):
            for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):  # of calls that were killed
                if _is_own(left, folder):
                    _put_away(left, folder)
            if _is_there(job.settings, job.run, job.subject, job.text):
                return False
            own = Path(tempfile.mkdtemp(SUFFIX, f".{folder.name}.", folder.parent))
            try:
                (own / MARK).write_text(folder.name, encoding="utf-8")
                _make(job, own / NEW)
                if folder.exists() and any(folder.iterdir()):
                    os.replace(folder, own / OLD)
                os.replace(own / NEW, folder)
                _sync(folder.parent)
            finally:
                _put_away(own, folder)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise _no_place(job.folder, error) from error
    if stands_in:
        os.chdir(folder)  # the folder of that name is another one now
    return True


def _make(job: PublishJob, folder: Path) -> None:
    """All of its files."""
    folder.mkdir()
    for name in _of_model(job.run):
        shutil.copyfile(job.run / name, folder / name)
    write_json_atomic(folder / CONFIG_FILE_OF_RUN, job.subject.config)
    write_text_atomic(folder / CARD, job.text)
    write_json_atomic(folder / RUN_FILE, {**job.subject.facts, OWN_FILES: hashes(folder)})
    for file in folder.iterdir():
        _sync(file)


def _is_own(left: Path, folder: Path) -> bool:
    """Whether a folder beside the place was made by a call of `publish` for this place."""
    if left.is_symlink() or not left.is_dir() or left.suffix != SUFFIX:
        return False
    mark = left / MARK
    killed_at_once = not any(left.iterdir())
    return killed_at_once or (mark.is_file() and mark.read_bytes() in (b"", folder.name.encode()))


def _put_away(own: Path, folder: Path) -> None:
    """Remove our folder beside the place; what was moved out of the place returns where nothing has come in."""
    if (own / OLD).is_dir() and not folder.exists():
        os.replace(own / OLD, folder)
    for part in (own / NEW, own / OLD):  # before the mark, without which nobody would remove them
        if part.exists():
            shutil.rmtree(part)
    shutil.rmtree(own)


def _sync(path: Path) -> None:
    """What was written, or the names in a folder, must survive a loss of power."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _of_hub(repo: str) -> bool:
    """Whether the hub knows names of this form."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError:
        return False
    return True


def _require_hub(repo: str, private: bool) -> None:
    """Raises UserError where nothing could be sent to the repository, or more people would read it than were asked for."""
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if get_token() is None:
        raise UserError(
            "Setting `publish.push` must be false without a token of the hub, but is True, and there is none. "
            "`hf auth login` keeps one, or the variable HF_TOKEN holds it."
        )
    if (reason := unreachable(constants.ENDPOINT)) is not None:
        raise UserError(f"Setting `publish.push` must be false where the hub cannot be reached, but is True: {reason}.")
    try:
        there = HfApi().model_info(repo)
    except RepositoryNotFoundError:
        return
    except HfHubHTTPError as error:
        raise _refused(repo, error) from error
    if private and there.private is False:
        raise UserError(
            f"Setting `publish.private` must be false for {repo}, which everybody can read, but is True. "
            "Say private=false, name another repository, or make this one private on the hub."
        )


def _push(job: PublishJob) -> str:
    """Send what was published, and nothing else that is in the folder; where it is now."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api, repo = HfApi(), str(job.settings.publish.repo)
    names = [glob.escape(name) for name in (*job.subject.files, CARD)]
    try:
        url = api.create_repo(repo, private=job.settings.publish.private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=job.folder, allow_patterns=names, commit_message="Published by analog-glue")
    except HfHubHTTPError as error:
        raise _refused(repo, error) from error
    return str(url)


def _refused(repo: str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(
        f"Setting `publish.repo` must name a repository that this token may write, but the hub refuses {repo}: {reason}. "
        "The folder is whole; the same command sends it again."
    )
