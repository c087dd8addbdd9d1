"""What a measurement ran on: versions, commit, hardware."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import analog_glue
from analog_glue.runs.as_written import FromEnvironment
from analog_glue.runs.fingerprint import fingerprint_of_parts

PACKAGES = ("transformers", "datasets", "accelerate", "hydra-core", "numpy")


def provenance(**facts: Any) -> dict[str, Any]:
    """What a measurement ran on, for `run.json`: versions, commit, hardware and the start time (UTC).

    Threads, vector instructions and the GPU are reported only where torch is loaded already. The name of
    the host is left out, and the home directory of the user is written as `~`.

    Args:
        **facts: What the caller knows besides (seeds, revision of the model, fingerprint of the data …).
    """
    return _without_home(
        {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "python": platform.python_version(),
                "analog-glue": getattr(analog_glue, "__version__", None),
                **_torch_build(),
                **{name: _version(name) for name in PACKAGES},
            },
            "git": _git(),
            "hardware": _hardware(),
            "platform": platform.platform(),
            **facts,
        }
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_build() -> dict[str, str | None]:
    """Version of torch with its build ("2.13.0+cpu"), and of the CUDA it was built for; torch is not imported for it.

    The package's metadata leave the build out where an index serves only one of them.
    """
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return {"torch": None, "cuda": None}
    spec = importlib.util.spec_from_file_location("_torch_version", Path(torch.origin).with_name("version.py"))
    assert spec is not None and spec.loader is not None
    said = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(said)
    return {"torch": said.__version__, "cuda": said.cuda}


def _git() -> dict[str, Any] | None:
    """Commit of this source and whether it was changed since; none for an installed copy without history."""
    source = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        # Fails for a copy installed inside someone else's repository (its .venv): that commit says nothing.
        git("ls-files", "--error-unmatch", source.name)
        commit = git("rev-parse", "HEAD").strip()
        change = git("diff", "HEAD")
        new_files = git("ls-files", "--others", "--exclude-standard", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return {
        "commit": commit,
        "dirty": bool(change or new_files),
        "diff": fingerprint_of_parts([change], 12) if change else None,
    }


def _hardware() -> dict[str, Any]:
    described: list[str] = []
    with suppress(OSError):
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in described if line.startswith("model name")]
    facts: dict[str, Any] = {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }
    torch = sys.modules.get("torch")  # not imported for this: only a run that computes has these facts
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        facts["instructions"] = torch.backends.cpu.get_cpu_capability()
        facts["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return facts


def _without_home(value: Any) -> Any:
    if isinstance(value, FromEnvironment):
        return value  # it is stored without what it says
    home = str(Path.home())
    if isinstance(value, Mapping):
        return {key: _without_home(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_home(item) for item in value]
    if isinstance(value, (str, Path)) and len(home) > 1:
        return str(value).replace(home, "~")
    return value
