"""The layers of the design, and the curated names at the top."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_memaudit
from lightning_memaudit import version

PACKAGE = Path(lightning_memaudit.__file__).parent
LAYERS = [
    "version",
    "exceptions",
    "functional",
    "data",
    "outcomes",
    "metrics",
    "record",
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
    "__version__",
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


def test_public_names_are_those_of_the_contract_sorted_and_there() -> None:
    names = lightning_memaudit.__all__
    assert names == sorted(names)
    assert set(names) <= CONTRACT
    assert lightning_memaudit.__version__ == version.__version__
    for name in set(names) - {"__version__"}:
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
