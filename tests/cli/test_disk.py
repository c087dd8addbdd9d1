"""A file that does not fit: one message with path and sizes, exit 1, what was finished is kept, and the next call goes on."""

import errno
import os
import re
import resource
import subprocess
import sys

import pytest

from analog_glue.cli.errors import report_error
from analog_glue.runs.files import named_in_errors, read_json
from analog_glue.runs.rows import find_rows

WORDS = [
    "task=demo",
    "model=tiny",
    "training=digital",
    "training.max_steps=3",
    "evaluation.chips=1",
    "evaluation.times=[1]",
]


def run(root, limit=None):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    command = [sys.executable, "-m", "analog_glue", "train", *WORDS, f"output_root={root}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    before = small_files if limit else None
    return subprocess.run(command, capture_output=True, text=True, preexec_fn=before, env=environment)


@pytest.mark.slow
def test_weights_that_do_not_fit_are_said_with_path_and_sizes_and_the_next_call_goes_on(tmp_path):
    failed = run(tmp_path, limit=100_000)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    sizes = r"best\.safetensors cannot be written: File too large: [\d.]+ MiB were written, [\d.]+ are free"
    assert re.search(sizes, failed.stderr) and "run the same command again" in failed.stderr
    assert not list(tmp_path.rglob("*.partial"))
    (folder,) = tmp_path.glob("demo-*")
    assert read_json(folder / "run.json")["status"] == "running"
    assert run(tmp_path).returncode == 0
    assert {row.stage for row in find_rows(tmp_path)} >= {"digital", "chip"}


def test_an_error_of_the_disk_without_a_file_names_the_folder(tmp_path, capsys):
    with pytest.raises(OSError) as raised, named_in_errors(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert report_error(raised.value) == 1
    told = capsys.readouterr().err
    assert f"{tmp_path} cannot be written: No space left" in told and "Traceback" not in told
