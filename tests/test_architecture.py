"""The house: its rooms are a ladder without circles, its two halves meet where named, and nothing heavy comes before its time.

Everything is computed from the imports of the source, those inside functions and those for type checkers alone included.
"""

import ast
import graphlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import analog_glue

PACKAGE = Path(analog_glue.__file__).parent

# From the ground up: a room imports only what stands before it. A folder is a room, and so is a file beside the folders; the
# folders of in_situ are rooms of their own.
LADDER = (
    *("errors", "interruption", "progress", "seeding", "hub", "download", "settings"),  # the ground
    "runs",  # a run on disk
    "configuration",  # from words to checked settings and built components
    *("kernels", "devices", "tiles", "nn"),  # the signal of phase-change memory …
    *(
        "tasks",
        "classes",
        "models",
        "training",
        "evaluation",
        "costs",
        "tuning",
        "specification",
    ),  # … what it is trained and scored on, and what it takes
    "reports",  # tables and figures of rows
    "commands",  # train, evaluate, and what they would do
    *("in_situ.files", "in_situ.kernels", "in_situ.devices", "in_situ.nn"),  # the second wing, in the same order
    *("in_situ.extraction", "in_situ.training", "in_situ.tasks", "in_situ.reports", "in_situ.commands"),
    "verify",  # both halves against published measurements
    "cli",
    "__main__",
)
SHARED = LADDER[: LADDER.index("kernels")]  # by both halves

# Where in_situ uses the half of phase-change memory: (who, what) → why. The other way round there is no arrow.
MEETINGS = {
    ("in_situ.kernels", "kernels.jit"): "kernels are compiled, and kept, in one way",
    ("in_situ.kernels", "kernels.threefry"): "one generator of random numbers",
    ("in_situ.nn", "kernels.parallel"): "rows of an array are shared among the cores",
    ("in_situ.nn", "nn.names"): "layers are chosen by the same patterns",
    ("in_situ.tasks.heads", "tasks"): "a head learns the sentences of GLUE …",
    ("in_situ.tasks.heads", "models"): "… behind an encoder",
    ("in_situ.reports", "reports"): "tables and figures look alike",
    ("in_situ.commands", "reports.grids"): "a run without devices is called by the word that tables know",
    ("in_situ.commands", "commands.summary"): "every command ends with the same words",
    ("in_situ.commands.deploy", "commands.deploy"): "weights trained in situ are put on chips of phase-change memory …",
    ("in_situ.commands.deploy", "commands.calibrated"): "… with input ranges from training examples,",
    ("in_situ.commands.deploy", "devices"): "… with their devices,",
    ("in_situ.commands.deploy", "tiles"): "their tiles",
    ("in_situ.commands.deploy", "nn"): "and their layers,",
    ("in_situ.commands.deploy", "evaluation"): "and scored as they age",
    ("in_situ.commands.dry_run", "costs"): "on so many tiles",
    ("in_situ.commands.workloads", "nn"): "an LSTM or a perceptron is put on tiles, too",
    ("in_situ.commands.workloads", "evaluation"): "and scored as they age",
}

HYDRA = {"hydra", "omegaconf"}
HYDRA_ROOMS = {"configuration", "cli"}
HEAVY = {"torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "pandas", "matplotlib"}
# Rooms, or modules of a room, that are imported before anything is known to be in order.
AT_ONCE = (
    *("errors", "progress", "hub", "download", "settings", "configuration", "cli", "__main__"),
    *("runs.rows", "runs.folder", "runs.files", "runs.provenance", "runs.identity"),
    *("tasks", "classes", "models", "reports", "commands.summary", "in_situ.files", "in_situ.reports"),
    *("in_situ.tasks.task", "in_situ.tasks.heads", "in_situ.tasks.images", "in_situ.tasks.war_and_peace"),
)


def name_of(path: Path) -> str:
    """Of a module inside the package: "nn.linear"; "" of the package itself, "nn" of a folder's `__init__`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FOLDERS = {name for name, path in MODULES.items() if path.name == "__init__.py"}


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(nodes: list[ast.AST]) -> set[str]:
    """Full names of what import statements name."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(names: set[str]) -> set[str]:
    """The modules of the package among imported names."""
    inside = {name.removeprefix("analog_glue.") for name in names if name.startswith("analog_glue.")}
    return {name if name in MODULES else name.rpartition(".")[0] for name in inside}


@cache
def arrows(module: str) -> frozenset[str]:
    """Modules that a module imports anywhere."""
    return frozenset(ours(imported(list(ast.walk(parsed(module))))) - {""})


def at_import(body: list[ast.stmt]) -> list[ast.AST]:
    """Statements that run as soon as a file is imported: not those in functions, not those for type checkers alone."""
    found: list[ast.AST] = []
    for node in body:
        if isinstance(node, ast.If):
            found += [] if "TYPE_CHECKING" in ast.dump(node.test) else at_import(node.body)
            found += at_import(node.orelse)
        elif isinstance(node, ast.Try | ast.With):
            found += at_import(node.body)
        else:
            found.append(node)
    return found


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "in_situ" else parts[0]


def is_in(module: str, place: str) -> bool:
    """Whether `place` is the module, or a folder around it."""
    return f"{module}.".startswith(f"{place}.")


def told(lines: list[str]) -> str:
    return "\n" + "\n".join(lines)


def circle(graph: dict[str, set[str]]) -> str:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return " → ".join(reversed(error.args[1]))
    return ""


def test_every_room_has_its_place_on_the_ladder():
    rooms = {room_of(module) for module in MODULES} - {"", "in_situ"}
    assert rooms == set(LADDER), told([f"`{room}` stands in the house or on the ladder alone" for room in rooms ^ set(LADDER)])


@pytest.mark.slow
def test_no_arrow_points_up():
    wrong = [
        f"{module} imports {other}: the room `{room_of(other)}` comes after `{room_of(module)}`"
        for module in MODULES
        for other in sorted(arrows(module))
        if module not in FOLDERS and LADDER.index(room_of(other)) > LADDER.index(room_of(module))
    ]
    assert not wrong, told(wrong)


def test_rooms_and_modules_have_no_circles():
    rooms: dict[str, set[str]] = {room: set() for room in LADDER}
    for module in MODULES.keys() - FOLDERS:
        rooms[room_of(module)] |= {room_of(other) for other in arrows(module)} - {room_of(module)}
    assert circle(rooms) == ""
    assert circle({module: set(arrows(module)) for module in MODULES}) == ""


def test_the_two_halves_meet_only_where_named():
    half = [room for room in LADDER[: LADDER.index("in_situ.files")] if room not in SHARED]
    found = {
        (module, other) for module in MODULES for other in arrows(module) if is_in(module, "in_situ") and room_of(other) in half
    }
    wrong = [
        f"{module} imports {other}: name the meeting and its reason in MEETINGS, or do without"
        for module, other in sorted(found)
        if not any(is_in(module, who) and is_in(other, what) for who, what in MEETINGS)
    ]
    assert not wrong, told(wrong)
    gone = [
        f"{who} no longer imports {what}: take it from MEETINGS"
        for who, what in MEETINGS
        if not any(is_in(module, who) and is_in(other, what) for module, other in found)
    ]
    assert not gone, told(gone)


def test_folders_import_nothing():
    assert [module for module in FOLDERS if imported(list(ast.walk(parsed(module))))] == []


def test_no_module_uses_relative_imports_which_these_tests_could_not_see():
    relative = [
        module
        for module in MODULES
        if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(parsed(module)))
    ]
    assert relative == []


@pytest.mark.slow
def test_hydra_is_known_only_to_the_configuration_and_the_command_line():
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in imported(list(ast.walk(parsed(module))))
        if name.split(".")[0] in HYDRA and room_of(module) not in HYDRA_ROOMS
    ]
    assert not wrong, told(wrong)


@pytest.mark.parametrize("place", AT_ONCE)
def test_what_answers_at_once_imports_nothing_heavy(place):
    reached = {module: module for module in MODULES if is_in(module, place)}  # module → the way to it
    assert reached, "nothing is called so"
    waiting = list(reached)
    while waiting:
        module = waiting.pop()
        names = imported(at_import(parsed(module).body))
        heavy = {name.split(".")[0] for name in names} & HEAVY
        assert not heavy, f"{reached[module]} → {', '.join(sorted(heavy))}"
        for other in ours(names) - reached.keys():
            reached[other] = f"{reached[module]} → {other}"
            waiting.append(other)


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["analog_glue.cli.main", "analog_glue.configuration.compose", "analog_glue.settings", "analog_glue.runs.rows"]
)
def test_importing_it_really_leaves_torch_out(module):
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
