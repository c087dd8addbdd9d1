"""The package is a ladder: a module imports what stands above it, and nothing heavy before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import analog_glue

PACKAGE = Path(analog_glue.__file__).parent

# From the top: each step may import itself and what stands above it. A folder is one step, unless it is a ladder of its own.
LADDER = (
    ("settings", "seeding", "side_by_side", "progress"),
    ("kernels",),
    ("devices",),
    ("tiles",),
    ("nn",),
    ("extraction",),
    ("training",),
    ("hub",),
    ("download",),
    ("tasks", "models"),
    ("evaluation",),
    ("results",),
    ("reports.figures", "reports.grids", "reports.records"),
    ("reports.groups",),
    ("reports.extraction",),
    ("reports.in_situ",),
    ("reports.tables", "verify", "summary"),  # with verify_against_aihwkit
    ("experiment",),
    ("in_situ.heads", "in_situ.workloads", "in_situ.description"),
    ("in_situ.run",),
    ("in_situ.uncertainty",),
    ("in_situ.extraction",),
    ("in_situ.deployment", "in_situ.arrays"),
    ("configuration",),
    ("cli",),
    ("__main__",),
)
STEP = {name: number for number, names in enumerate(LADDER) for name in names}
# In one step, files stand side by side: these may not import each other.
BESIDE = [set(names) for names in LADDER if len(names) > 1]

HYDRA_MODULES = {"configuration.py", "cli.py"}
WITHOUT_TORCH = {
    "settings.py",
    "side_by_side.py",
    "results.py",
    "hub.py",
    "download.py",
    "configuration.py",
    "cli.py",
    "__init__.py",
    "__main__.py",
    *(f"reports/{path.name}" for path in (PACKAGE / "reports").glob("*.py")),
}
HEAVY = {"torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "pandas", "matplotlib"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def step_of(module: str) -> str:
    """The step of a module."""
    name, *rest = module.split(".")[1:]
    if rest and ".".join([name, rest[0]]) in STEP:
        return f"{name}.{rest[0]}"
    return "verify" if name.startswith("verify") else name


def own_imports(tree: ast.AST) -> set[str]:
    """Modules of analog_glue that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            package = PACKAGE.parent.joinpath(*str(node.module).split(".")).is_dir()
            found |= {f"{node.module}.{a.name}" if package else str(node.module) for a in node.names}
    return {name for name in found if name.startswith("analog_glue.")}


def outside_imports(body: list[ast.stmt]) -> set[str]:
    """Other packages imported as soon as the file is: not in functions, not for type checkers alone."""
    found = set()
    for node in body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            found |= outside_imports(node.body + node.orelse)
        elif isinstance(node, ast.Try | ast.With):
            found |= outside_imports(node.body)
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_stands_above_it(path):
    me = step_of(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    if path.name == "__init__.py":
        assert own_imports(parsed(path)) == set()
        return
    assert me in STEP, f"{name_of(path)} has no place on the ladder: give it one in {Path(__file__).name}"
    for module in own_imports(parsed(path)):
        other = step_of(module)
        if other == me or other.startswith("__"):
            continue
        assert other in STEP, f"{name_of(path)} imports {module}, which is not on the ladder"
        assert STEP[other] <= STEP[me], f"{name_of(path)} imports {module}, which stands below it"
        assert not any({me, other} <= names for names in BESIDE), f"{name_of(path)} imports {module} beside it"


def test_no_module_uses_relative_imports_which_this_test_could_not_see():
    for path in MODULES:
        relative = [n for n in ast.walk(parsed(path)) if isinstance(n, ast.ImportFrom) and n.level > 0]
        assert relative == [], name_of(path)


def test_hydra_is_known_only_to_the_command_line():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {str(n.module).split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        if name_of(path) not in HYDRA_MODULES:
            assert not names & {"hydra", "omegaconf"}, name_of(path)


@pytest.mark.parametrize("name", sorted(WITHOUT_TORCH))
def test_what_answers_at_once_imports_nothing_heavy(name):
    assert not outside_imports(parsed(PACKAGE / name).body) & HEAVY


@pytest.mark.parametrize(
    "module", ["analog_glue.cli.main", "analog_glue.configuration.compose", "analog_glue.settings", "analog_glue.runs.rows"]
)
def test_importing_it_really_leaves_torch_out(module):
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
