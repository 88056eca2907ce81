"""The direction of imports within the package."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).parents[1] / "edge_daemon"

LAYERS: Final = (
    "__init__",
    "errors",
    "_lib",
    "records",
    "config",
    "schema",
    "pipeline",
    "capture",
    "detection",
    "tracking",
    "inference",
    "analysis",
    "monitoring",
    "publishing",
    "output",
    "preview",
    "commands",
    "daemon",
    "cli",
    "__main__",
)
"""Rooms in the order of the data flow; each imports only from itself and from those before it."""

LAZY: Final = {("__init__", "analysis"), ("__init__", "inference")}
"""The public names, which are imported at first use."""


def modules() -> dict[str, Path]:
    """Files of all modules by their dotted names below the package."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imports(path: Path) -> Iterator[str]:
    """Dotted names below the package that a module imports, in functions, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            package, _, name = node.module.partition(".")
            if package == "edge_daemon":
                for alias in node.names:
                    submodule = f"{name}.{alias.name}".strip(".")
                    yield submodule if submodule in MODULES else name or "__init__"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("edge_daemon."):
                    yield alias.name.removeprefix("edge_daemon.")


MODULES: Final = modules()


def room(module: str) -> str:
    return module.partition(".")[0]


def arrows() -> dict[tuple[str, str], set[str]]:
    """Imports between rooms, each with the modules that make them."""
    found = defaultdict(set)
    for module, path in MODULES.items():
        for imported in imports(path):
            if room(module) != room(imported):
                found[room(module), room(imported)].add(module)
    return found


def test_every_room_has_a_layer() -> None:
    assert {room(module) for module in MODULES} == set(LAYERS)


def test_imports_point_one_way() -> None:
    backward = {
        arrow: by
        for arrow, by in arrows().items()
        if LAYERS.index(arrow[0]) < LAYERS.index(arrow[1]) and arrow not in LAZY
    }
    assert backward == {}


@pytest.mark.parametrize("root", ["daemon", "cli"])
def test_nothing_imports_the_composition_root(root: str) -> None:
    importers = {arrow[0] for arrow in arrows() if arrow[1] == root}
    assert importers <= {"cli", "__main__"}


def test_daemon_imports_no_command() -> None:
    assert ("daemon", "commands") not in arrows()


def test_modules_have_no_import_cycle() -> None:
    graph = {
        module: {found for found in imports(path) if found in MODULES and found != module}
        for module, path in MODULES.items()
        if module != "__init__"  # imports its names at first use
    }
    for imported in graph.values():
        imported.discard("__init__")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {' -> '.join(error.args[1])}")
