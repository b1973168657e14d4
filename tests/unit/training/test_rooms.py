"""The rooms of ``training`` import one way only, types included."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import lightning_memaudit.training

ROOT = Path(lightning_memaudit.training.__file__).parent
PREFIX = "lightning_memaudit.training."
ROOMS = ["", "engines.in_memory", "engines.ensemble", "engines", "workers", "executors", "arms"]  # from the ground up
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"
}


def imported(path: Path) -> set[str]:
    """The modules of ``training`` that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix(PREFIX) for name in found} & MODULES.keys()


def room(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def test_no_module_leads_back_to_itself() -> None:
    graph = {module: imported(path) - {module} for module, path in MODULES.items()}
    assert len([*TopologicalSorter(graph).static_order()]) == len(MODULES)  # else it raises CycleError


def test_rooms_import_only_from_those_below() -> None:
    for module, path in MODULES.items():
        for other in imported(path) - {module}:
            assert ROOMS.index(room(other)) <= ROOMS.index(room(module)), f"{module} imports {other}"


def test_no_room_has_more_than_15_modules() -> None:
    for name in ROOMS:
        assert len([*(ROOT / name.replace(".", "/")).glob("*.py")]) <= 15


def test_what_only_makes_training_faster_has_one_door() -> None:
    behind = {"engines.malloc", "engines.compilation"}
    through = {module for module, path in MODULES.items() if imported(path) & behind} - behind
    assert through == {"engines.tuning"}


def test_engines_know_nothing_of_workers_and_the_population_nothing_of_engines() -> None:
    for module, path in MODULES.items():
        if room(module) in ("", "engines", "engines.in_memory", "engines.ensemble"):
            assert not {name for name in imported(path) if room(name) in ("workers", "executors", "arms")}
        if room(module) == "":
            assert not {name for name in imported(path) if name.startswith("engines")}
