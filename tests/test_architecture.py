"""The layers of the design, and the curated names at the top."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType

import pytest

import lightning_memaudit
from lightning_memaudit import version

PACKAGE = Path(lightning_memaudit.__file__).parent
LAYERS = [
    "version",
    "exceptions",
    "compat",
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


PATHS = sorted(PACKAGE.rglob("*.py"))
LIBRARIES = ("jsonargparse", "lightning", "opacus", "torch", "torchao", "torchmetrics", "wandb")
# Underscored names that their owners document: of named tuples, of os, and an argument of ray.init.
DOCUMENTED = {"_replace", "_exit", "_temp_dir"}
PRIVATE = re.compile(r"_(?!_)\w*[^\W_]")  # not __dunder__, nor _sunder_ of enumerations
PRIVATE_PATH = re.compile(rf"({'|'.join(LIBRARIES)})(\.\w+)*\._\w+(\.\w+)*")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in PATHS}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_in(tree: ast.AST, module: str, *, is_package: bool = False) -> list[tuple[int, str]]:
    """Every import, lazy, relative and type-only ones and ``import_module`` of a literal too, as dotted names."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level + is_package or None] if node.level else []
            prefix = ".".join([*base, *filter(None, [node.module])])
            found += [(node.lineno, f"{prefix}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "import_module":
            found += [(node.lineno, str(name.value)) for name in node.args[:1] if isinstance(name, ast.Constant)]
    return found


def imports_of(path: Path) -> list[tuple[int, str]]:
    return imports_in(tree_of(path), module_of(path), is_package=path.stem == "__init__")


def own_module(name: str) -> str | None:
    """The module of this package that an import reads: the longest part of the name that is one."""
    parts = name.split(".")
    heads = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((head for head in heads if head in MODULES), None)


def layer(module: str) -> str:
    """The layer of a module; the package itself, whose names come from everywhere, is no layer and below all."""
    return module.split(".")[1] if "." in module else "the package"


def upward(importing: str, imported: str) -> bool:
    order = [*LAYERS, "the package"]
    return layer(imported) != layer(importing) and order.index(layer(imported)) > order.index(layer(importing))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_package_imports_only_those_above_it(path: Path) -> None:
    own = module_of(path)
    if own in ("lightning_memaudit", "lightning_memaudit.__main__"):
        return
    assert layer(own) in LAYERS, f"{layer(own)} is not in the design"
    for line, name in imports_of(path):
        if (imported := own_module(name)) is not None:
            assert not upward(own, imported), f"{path}:{line} imports {name} from below"


def test_every_way_to_import_from_below_is_seen() -> None:
    own = "lightning_memaudit.data.plan"
    for line in (
        "import lightning_memaudit",
        "from lightning_memaudit import OutcomeStore",
        "from lightning_memaudit import __version__",
        "def f():\n    import lightning_memaudit.outcomes.store",
        "if TYPE_CHECKING:\n    from lightning_memaudit.outcomes.store import OutcomeStore",
        "from ..outcomes import store",
        "from ..outcomes.store import OutcomeStore",
        "from .. import outcomes",
        "import_module('lightning_memaudit.outcomes.store')",
    ):
        seen = [own_module(name) for _, name in imports_in(ast.parse(line), own)]
        assert any(module and upward(own, module) for module in seen), line
    for line in ("from . import source", "from .source import DataSource", "from lightning_memaudit import exceptions"):
        seen = [own_module(name) for _, name in imports_in(ast.parse(line), own)]
        assert seen[0] not in (None, "lightning_memaudit"), line
        assert not any(module and upward(own, module) for module in seen), line


def in_circles(imports: dict[str, set[str]]) -> set[str]:
    """What is left when all are gone, one after the other, that import none of the rest or that none imports."""
    left = dict(imports)
    while True:
        imported = {name for names in left.values() for name in names}
        free = {name for name, names in left.items() if name not in imported or not names & left.keys()}
        if not free:
            return set(left)
        left = {name: names - free for name, names in left.items() if name not in free}


def test_no_circle_of_modules() -> None:
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"b", "c"}
    graph = {}
    for path in PATHS:
        own = module_of(path)
        graph[own] = {module for _, name in imports_of(path) if (module := own_module(name))} - {own}
    circles = in_circles(graph)
    assert not circles, "\n" + "\n".join(f"{name}: {sorted(graph[name] & circles)}" for name in sorted(circles))


def test_a_folder_holds_at_most_fifteen_modules() -> None:
    sizes = Counter(path.parent.relative_to(PACKAGE.parent) for path in PATHS if path.stem != "__init__")
    assert {str(folder): size for folder, size in sizes.items() if size > 15} == {}


def own_names(tree: ast.AST) -> set[str]:
    """What the classes of a file define: methods, fields, and attributes that they set on themselves."""
    found: set[str] = set()
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(kind):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
                found.add(node.attr)
    return found


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def private_uses(tree: ast.AST, names_of_package: Collection[str] = ()) -> list[tuple[int, str]]:
    """Where a file touches names with an underscore that no class of its own has.

    Attributes, those that are asked for by a string, modules and names that are imported, and names in strings. On
    ``self`` and ``cls`` any class of the package may have defined them, elsewhere a class of the same file.
    """
    own, found = own_names(tree) | DOCUMENTED, []
    f_strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts_of_f_strings = {id(part) for node in f_strings for part in node.values}
    for node in ast.walk(tree):
        named, known = "", own
        if isinstance(node, ast.Attribute):
            named, known = node.attr, own | set(names_of_package) if is_self(node.value) else own
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts_of_f_strings:
            named = "_path" if PRIVATE_PATH.fullmatch(node.value) else node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            made = node.args[1]
            start = made.values[0] if isinstance(made, ast.JoinedStr) else None
            if isinstance(start, ast.Constant) and str(start.value).startswith("_") and not is_self(node.args[0]):
                named = "_made"
        if PRIVATE.fullmatch(named) and named not in known:
            found.append((node.lineno, ast.unparse(node)))
    for line, name in imports_in(tree, "lightning_memaudit.of.a.module"):
        if own_module(name) is None and any(PRIVATE.fullmatch(part) for part in name.split(".")):
            found.append((line, name))
    return found


def test_only_compat_touches_private_names_of_libraries() -> None:
    names = {name for path in PATHS for name in own_names(tree_of(path))}
    found = [
        f"{path}:{line} {use}"
        for path in PATHS
        if path.parent != PACKAGE / "compat"
        for line, use in private_uses(tree_of(path), names)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "trainer._logger_connector",
        "self.trainer._logger_connector",
        "self._trainer",
        "super()._load_from_state_dict(state)",
        "nn.modules.dropout._DropoutNd",
        "getattr(scheduler, '_schedulers', ())",
        "setattr(trainer, '_logger_connector', None)",
        "getattr(callback, f'_{name}')",
        "vars(module)['_buffers']",
        "for name in ('base_lrs', '_last_lr'): setattr(part, name, 0)",
        "import torch._dynamo",
        "import torch._inductor as inductor",
        "from torch.utils import _pytree as pytree",
        "from torch.utils._python_dispatch import TorchDispatchMode",
        "from lightning.pytorch.core.optimizer import _MockOptimizer",
        "import_module('torch._dynamo')",
        "'torch._dynamo' in sys.modules",
    ],
)
def test_a_private_name_is_seen(line: str) -> None:
    assert private_uses(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    [
        "class A:\n    def __init__(self):\n        self._x = 1\n    def same(self, other):\n        return other._x",
        "class A:\n    _x: int\n    def f(self):\n        return self._x, getattr(self, f'_{name}')",
        "from __future__ import annotations\nvalue.__class__",
        "part._replace(steps=1)",
        "columns = f'{name}_codes', f'group_{i}'",
        "from lightning_memaudit.functional.influence._tiles import tiles",
    ],
)
def test_own_names_are_not_private(line: str) -> None:
    assert private_uses(ast.parse(line)) == []


def test_no_class_redefines_a_private_method_of_a_library() -> None:
    methods = (FunctionType, property, classmethod, staticmethod)
    found = []
    for name in MODULES.keys() - {"lightning_memaudit.__main__", "lightning_memaudit.training.workers.__main__"}:
        kinds = [kind for kind in vars(import_module(name)).values() if isinstance(kind, type)]
        for kind in (kind for kind in kinds if kind.__module__ == name):
            foreign = [vars(base) for base in kind.__mro__ if not base.__module__.startswith("lightning_memaudit")]
            private = [
                key for key, value in vars(kind).items() if PRIVATE.fullmatch(key) and isinstance(value, methods)
            ]
            found += [f"{name}.{kind.__name__}.{key}" for key in private if any(key in base for base in foreign)]
    assert found == []


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
    face = import_module(f"lightning_memaudit.functional.{package}")
    assert face.__all__ == sorted(face.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert face.__doc__
    others = {path.stem for path in (PACKAGE / "functional" / package).glob("*.py")} - {"__init__"}
    assert all(name.startswith("_") for name in others)


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
