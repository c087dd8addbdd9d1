"""Every script imports what there is: a name that moved in the package is found here, not by who calls the script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAMES = sorted(file.stem for file in SCRIPTS.glob("*.py"))


@pytest.mark.slow
def test_every_script_imports():
    assert "benchmark" in NAMES
    path = os.pathsep.join([str(SCRIPTS), *sys.path])
    command = [sys.executable, "-c", f"import {', '.join(NAMES)}"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
