"""What is imported is declared: nothing works only because another package happens to bring it."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {  # folder → extras whose packages it may import, too
    "analog_glue": ("peer", "dev", "report"),  # `verify --against aihwkit`; triton, which comes with torch's GPU builds; charts
    "scripts": ("peer",),
    "tests": ("dev",),
}
# Packages that are not always installed, so that their metadata cannot be asked: import name → package.
ABSENT_HERE = {"aihwkit": "aihwkit", "aihwkit_lightning": "aihwkit-lightning", "triton": "triton"}
# In no extra, since what it says it needs is neither needed nor ready-made; the message of `verify` says how it is installed.
BY_HAND = {"badcrossbar"}
# Used without an import: by name in a setting, from the command line, by other packages.
NOT_IMPORTED = {
    "ruff", "mypy", "pandas-stubs", "scipy-stubs", "types-tqdm", "pytest-xdist",
    "hydra-submitit-launcher", "playwright",  # by pytest.importorskip
}  # fmt: skip


def plain(name: str) -> str:
    """The name of a package as indexes compare it: "huggingface_hub>=1.0" → "huggingface-hub"."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", name)[0]).lower()


def declared(*extras: str) -> set[str]:
    requirements = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return {plain(line) for line in requirements}


def imported(folder: Path) -> dict[str, set[str]]:
    """Import names from outside the standard library and this checkout → the files that import them, in functions too."""
    own = {"analog_glue", "tests", *(path.stem for place in ("scripts", "tests") for path in (ROOT / place).glob("*.py"))}
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - own:
                found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


@pytest.fixture(scope="module")
def packages() -> dict[str, set[str]]:
    """Import name → packages that hold it."""
    installed = importlib.metadata.packages_distributions()
    return {name: {plain(package) for package in found} for name, found in installed.items()}


def packages_of(name: str, packages: dict[str, set[str]]) -> set[str]:
    return packages.get(name) or {ABSENT_HERE.get(name, name)}


@pytest.mark.slow
@pytest.mark.parametrize("folder", OPTIONAL)
def test_every_import_is_declared(folder, packages):
    known = declared(*OPTIONAL[folder])
    missing = {
        name: sorted(files)
        for name, files in imported(ROOT / folder).items()
        if name not in BY_HAND and not packages_of(name, packages) & known
    }
    assert not missing, f"Declare in pyproject.toml what is imported directly, but is not there: {missing}"


@pytest.mark.slow
def test_every_declaration_is_used(packages):
    used = {package for folder in OPTIONAL for name in imported(ROOT / folder) for package in packages_of(name, packages)}
    assert declared(*PROJECT["optional-dependencies"]) - used - NOT_IMPORTED == set()


@pytest.mark.slow
def test_what_users_install_without_extras_imports_only_where_an_extra_is_asked_for():
    """At the top of a file such an import would break every command; in a function it breaks one, with a message."""
    extras = declared("peer", "dev") - declared()
    at_top = {
        name: path.name
        for path in sorted((ROOT / "analog_glue").rglob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or node.names[0].name]
        if plain(name.split(".")[0]) in extras and not path.name.startswith("triton_")  # the GPU's own files
    }
    assert at_top == {}


def test_every_direct_dependency_has_the_version_that_was_tested():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain(line) for line in lines if "==" in line and not line.startswith("#")}
    assert declared(*PROJECT["optional-dependencies"]) - pinned == set()


def test_one_module_knows_the_progress_bar():
    assert imported(ROOT / "analog_glue")["tqdm"] == {"analog_glue/progress.py"}
