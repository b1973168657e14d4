"""README and docs name only what there is: imports, links, targets of make and commands."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from lightning_memaudit.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.M | re.S)


@every_page
def test_python_is_python_and_imports_what_the_package_has(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightning_memaudit"):
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert missing == [], f"{page.name}: {node.module} has no {missing}"


@every_page
def test_classes_named_by_their_path_are_there(page: Path) -> None:
    for path in set(re.findall(r"\blightning_memaudit(?:\.[A-Za-z_]\w*)+", page.read_text())):
        module, _, name = path.rpartition(".")
        try:
            importlib.import_module(path)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), name), f"{page.name}: there is no {path}"


@every_page
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@every_page
def test_files_named_are_there(page: Path) -> None:
    named = set(re.findall(r"`((?:tests|examples|benchmarks|docs)/[\w./-]+\w)`", page.read_text()))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@every_page
def test_targets_and_commands_are_there(page: Path) -> None:
    shell = "\n".join(re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", page.read_text(), flags=re.M | re.S))
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"^make ([\w-]+)", shell, flags=re.M)) <= targets
    assert set(re.findall(r"^(?:\$ )?memaudit ([a-z]+)", shell, flags=re.M)) <= set(COMMANDS)
