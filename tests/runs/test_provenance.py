"""What run.json says about the machine and its packages."""

import subprocess
import sys

import torch

from analog_glue.runs import provenance
from tests.runs.test_rows import environment


def test_the_build_of_torch_is_recorded_without_importing_it():
    code = (
        "import sys; from analog_glue.runs.provenance import provenance; versions = provenance()['versions'];"
        "assert 'torch' not in sys.modules; print(versions['torch'], versions['cuda'])"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, env=environment(), capture_output=True, text=True).stdout
    assert said.split() == [torch.__version__, str(torch.version.cuda)]


def test_a_build_for_cuda_says_which(monkeypatch, tmp_path):
    (tmp_path / "version.py").write_text("__version__ = '2.13.0+cu130'\ncuda = '13.0'\n")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(provenance.importlib.util, "find_spec", lambda name: spec)
    assert provenance._torch_build() == {"torch": "2.13.0+cu130", "cuda": "13.0"}
