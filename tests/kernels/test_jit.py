"""Kernels are compiled by one process, whoever starts beside it, for the widest registers."""

import os
import platform
import subprocess
import sys

import pytest

pytest.importorskip("numba", reason="numba does not import here", exc_type=ImportError)

from llvmlite import binding

from analog_glue.kernels import jit

KERNELS = """
import numpy as np
from analog_glue.kernels.jit import compiled

@compiled
def inner(values):
    total = 0.0
    for value in values:
        total += np.sin(value) * np.cos(value)
    return total

@compiled
def outer(table):
    total = 0.0
    for row in table:
        total += inner(row)
    return total

outer(np.ones((3, 5)))
print(sum(outer.stats.cache_misses.values()), sum(outer.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_processes_that_start_together_compile_a_kernel_once(tmp_path):
    file = tmp_path / "kernels.py"
    file.write_text(KERNELS)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": os.pathsep.join(sys.path)}
    every = [
        subprocess.Popen([sys.executable, str(file)], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    counted = sorted(process.communicate()[0].strip() for process in every)
    assert [process.returncode for process in every] == [0, 0, 0]
    assert counted == ["0 1", "0 1", "1 0"]  # misses, hits


@pytest.mark.parametrize("told", [None, "icelake-server"])
def test_registers_of_512_bits_are_used_whole_unless_somebody_says_what_to_compile_for(monkeypatch, told):
    monkeypatch.setattr(jit.SETTINGS, "CPU_NAME", told)
    monkeypatch.setattr(jit.SETTINGS, "CPU_FEATURES", None)
    has_some = binding.get_host_cpu_features().get("avx512f", False)
    jit._with_wide_registers()
    features = jit.SETTINGS.CPU_FEATURES
    assert features is None if told or not has_some else features.endswith("-prefer-256-bit")


@pytest.mark.slow
def test_kernels_of_two_cpus_are_kept_apart(tmp_path):
    file = tmp_path / "kernels.py"
    file.write_text(KERNELS)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept"), "PYTHONPATH": os.pathsep.join(sys.path)}

    def counted(**limits):
        command = [sys.executable, str(file)]
        return subprocess.run(command, env=environment | limits, capture_output=True, text=True, check=True).stdout.strip()

    generic = {"NUMBA_CPU_NAME": "generic"}
    fewer = {"NUMBA_CPU_FEATURES": "+sse4.2" if platform.machine() in ("x86_64", "AMD64") else "+crc"}
    assert [counted(), counted(**generic), counted(**fewer), counted()] == ["1 0", "1 0", "1 0", "0 1"]  # misses, hits
