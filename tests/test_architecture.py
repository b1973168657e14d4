"""The layers of the design, and the curated names at the top."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_memaudit

PACKAGE = Path(lightning_memaudit.__file__).parent
LAYERS = [
    "exceptions",
    "functional",
    "data",
    "outcomes",
    "metrics",
    "sections",
    "report",
    "loggers",
    "gates",
    "callbacks",
    "treatments",
    "training",
    "audit",
    "cli",
    "testing",
]
CONTRACT = {
    "Audit",
    "AuditLogger",
    "AuditReport",
    "DifferentialPrivacy",
    "OutcomeRecorder",
    "OutcomeStore",
    "SubgroupMonitor",
    "SubsetDataModule",
    "SubsetPlan",
    "TrainingDynamics",
    "evaluate_gate",
}
HEAVY = ("matplotlib", "numba", "opacus", "pandas", "ray", "sklearn", "torchao", "wandb")


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Every import in a file, lazy ones, type-only ones and ``import_module`` of a literal too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def layer(name: str) -> str:
    return name.split(".")[1] if name.count(".") else ""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_package_imports_only_those_above_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    assert own in LAYERS, f"{own} is not in the design"
    for line, name in imports_of(path):
        if name.startswith("lightning_memaudit.") and layer(name) != own:
            assert LAYERS.index(layer(name)) < LAYERS.index(own), f"{path}:{line} imports {name} from below"


def test_functional_knows_neither_lightning_nor_files() -> None:
    for path in (PACKAGE / "functional").rglob("*.py"):
        for line, name in imports_of(path):
            root = name.split(".")[0]
            assert root not in {"lightning", "matplotlib", "fsspec", "wandb", "pathlib", "tqdm"}, (
                f"{path}:{line} {name}"
            )


def private_imports(path: Path) -> list[str]:
    """Imports of ``functional.X._name`` from anywhere but ``functional/X``."""
    found = []
    for line, name in imports_of(path):
        parts = name.split(".")
        private = parts[:2] == ["lightning_memaudit", "functional"] and len(parts) > 3 and parts[3].startswith("_")
        if private and path.relative_to(PACKAGE).parts[:2] != ("functional", parts[2]):
            found.append(f"{path}:{line} imports {name}, which is private to functional/{parts[2]}")
    return found


def test_packages_of_functional_are_used_through_their_face() -> None:
    assert [found for path in PACKAGE.rglob("*.py") for found in private_imports(path)] == []


@pytest.mark.parametrize("package", ["impact", "influence", "long_tail", "memorization", "uncertainty"])
def test_a_package_of_functional_has_one_sorted_face(package: str) -> None:
    face = importlib.import_module(f"lightning_memaudit.functional.{package}")
    assert face.__all__ == sorted(face.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert face.__doc__
    others = {path.stem for path in (PACKAGE / "functional" / package).glob("*.py")} - {"__init__"}
    assert all(name.startswith("_") for name in others)


def test_public_names_are_those_of_the_contract_sorted_and_there() -> None:
    names = lightning_memaudit.__all__
    assert names == sorted(names)
    assert set(names) <= CONTRACT
    for name in names:
        assert getattr(lightning_memaudit, name).__name__ == name
        assert getattr(lightning_memaudit, name).__doc__
    assert set(names) <= set(dir(lightning_memaudit))
    with pytest.raises(AttributeError, match="Nothing"):
        _ = lightning_memaudit.Nothing


def test_import_is_light() -> None:
    code = "import sys, lightning_memaudit; print(*(m for m in {!r} if m in sys.modules))".format(
        (*HEAVY, "lightning", "torch"),
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
