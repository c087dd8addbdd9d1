"""What a run wrote, by the SHA-256 of its files: weights, ranges or a tokenizer that came from elsewhere are refused."""

from __future__ import annotations

from pathlib import Path

from analog_glue.errors import UserError
from analog_glue.runs.files import read_json
from analog_glue.runs.fingerprint import fingerprint_of_file
from analog_glue.runs.folder import ATTENTION_FILE, CONFIG_FILE_OF_RUN, PERIPHERY_FILE, RUN_FILE
from analog_glue.runs.model_files import CONFIG_FILE, INDEX_FILE, OF_TOKENIZER, weight_files

FIELD = "files"  # of run.json
BESIDE_WEIGHTS = (CONFIG_FILE, INDEX_FILE, *OF_TOKENIZER, PERIPHERY_FILE, ATTENTION_FILE, CONFIG_FILE_OF_RUN)


def hashes(folder: Path) -> dict[str, str]:
    """File name → SHA-256 of everything in the folder that a score of its network depends on."""
    names = {file.name for file in weight_files(folder)} | set(BESIDE_WEIGHTS)
    return {name: fingerprint_of_file(folder / name) for name in sorted(names) if (folder / name).is_file()}


def require_own(folder: Path, setting: str) -> None:
    """Nothing where a run's folder holds what the run wrote, or where run.json is older than its list of files.

    Raises:
        UserError: A file is another, is gone or is new.
    """
    recorded = read_json(folder / RUN_FILE).get(FIELD)
    if not isinstance(recorded, dict):
        return
    found = hashes(folder)
    told = [f"{name} is gone" for name in sorted(recorded.keys() - found.keys())]
    told += [f"{name} is new" for name in sorted(found.keys() - recorded.keys())]
    told += [f"{name} is another" for name in sorted(recorded.keys() & found.keys()) if recorded[name] != found[name]]
    if told:
        raise UserError(
            f"Setting `{setting}` must lead to the files that the run wrote, but in {folder} {', '.join(told)}. "
            f"Put them back (`{FIELD}` in {RUN_FILE} has their SHA-256), or train again with force=true."
        )
