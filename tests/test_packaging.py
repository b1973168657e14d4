"""The package as a whole: one version, an sdist that lacks nothing, an action that installs its own checkout."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import lightning_memaudit
from lightning_memaudit.cli import main
from lightning_memaudit.outcomes import manifest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAME, HOME = "lightning-memaudit", "https://github.com/lightning-memaudit/lightning-memaudit"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LOWEST = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8")
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "action.yml", "Makefile", ".pre-commit-config.yaml")),
    *sorted((ROOT / "docs").glob("*.md")),
    *WORKFLOWS,
]


def normal(requirement):
    """The name of a requirement as an index spells it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


PINNED = {normal(line): line.partition("==")[2] for line in CONSTRAINTS.splitlines() if not line.startswith("#")}


def under_version_control():
    """Paths of the files of the checkout; in an unpacked sdist, which is one already, those that it lists."""
    if not (ROOT / ".git").exists():
        included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
        return [entry.removeprefix("/") for entry in included]
    listed = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).exists()]


def test_the_version_is_said_once(capsys) -> None:
    version = lightning_memaudit.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?(\.dev\d+)?", version)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{version}\n"
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    path = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    said = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Assign)]
    assert {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in said}["__version__"] == version
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_record_says_the_version_of_a_source_tree_without_metadata(monkeypatch) -> None:
    installed = manifest.version

    def version(name):
        if normal(name) == NAME:
            raise PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(manifest, "version", version)
    assert manifest.library_versions.__wrapped__()[NAME] == lightning_memaudit.__version__


def test_the_version_is_printed_without_heavy_imports() -> None:
    code = "import sys; from lightning_memaudit.cli import main; main(['--version']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    assert version == lightning_memaudit.__version__
    assert not {"torch", "numpy", "lightning", "jsonargparse", "importlib.metadata"} & set(modules.split())


def test_the_sdist_holds_the_whole_checkout() -> None:
    """All that is under version control; `make test-package` compares the files themselves."""
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert included == sorted(included)
    assert all(entry.startswith("/") for entry in included), "without a slash, a pattern fits in every folder"
    names = {entry.removeprefix("/") for entry in included}
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []
    by_itself = {".gitignore", "LICENSE", "pyproject.toml"}  # hatchling adds these
    assert {path.partition("/")[0] for path in under_version_control()} - by_itself == names


def test_urls_name_one_home() -> None:
    urls = PROJECT["project"]["urls"]
    assert {"Homepage", "Documentation", "Changelog", "Issues", "Source"} <= set(urls)
    assert all(url == HOME or url.startswith(f"{HOME}/") for url in urls.values())
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == citation["url"] == HOME
    assert citation["license"] == PROJECT["project"]["license"]
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        assert "OWNER" not in text, path
        homes = re.findall(r"github\.com/([\w.-]+/[\w.-]*memaudit)\b", text)
        assert set(homes) <= {HOME.removeprefix("https://github.com/")}, path
    for tree in (url.removeprefix(f"{HOME}/") for url in urls.values() if "/main/" in url):
        assert (ROOT / tree.partition("/main/")[2]).exists()


def test_nothing_is_installed_from_an_index_that_does_not_have_it() -> None:
    """Extras of what is installed already are fine: ``pip install 'lightning-memaudit[ray]'`` adds the extra."""
    for path in TEXTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "pip install" in line and NAME in line:
                assert re.search(r"lightning-memaudit\[[\w,]+\]'?[`\s.:]|git\+https://|\./lightning-memaudit", line), (
                    f"{path}: {line}"
                )


@pytest.mark.parametrize(
    ("install", "expected"),
    [
        (None, "/where/the/action is"),
        ("lightning-memaudit==9", "lightning-memaudit==9"),
        ("a b; $(touch hit)", "a b; $(touch hit)"),
    ],
)
def test_the_action_installs_its_own_checkout_unless_told_otherwise(tmp_path, install, expected) -> None:
    step = ACTION["runs"]["steps"][0]
    assert step["if"] == "inputs.install != ''"
    assert step["env"] == {"INSTALL": "${{ inputs.install }}"}
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@" > seen\n')
    python.chmod(0o755)
    given = ACTION["inputs"]["install"]["default"] if install is None else install
    path = f"{python.parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env={"PATH": path, "INSTALL": given, "GITHUB_ACTION_PATH": "/where/the/action is"},
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "seen").read_text().splitlines() == ["-m", "pip", "install", "--quiet", expected]
    assert not (tmp_path / "hit").exists()


def test_versions_of_tools_are_pinned_in_constraints_alone() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    asked += [requirement for extra in extras.values() for requirement in extra]
    assert {normal(requirement) for requirement in asked} - {NAME} <= set(PINNED)
    assert all(PINNED.values())
    assert not [requirement for requirement in asked if "==" in requirement]
    for path in (ROOT / "Makefile", *WORKFLOWS):
        assert not re.search(r"\w==\d", path.read_text(encoding="utf-8")), path
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [entry["repo"] for entry in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system"
        assert normal(hook["entry"]) in PINNED


def test_the_lowest_versions_that_are_claimed_are_those_that_are_tested() -> None:
    """All but torch, whose version is that of ``constraints.txt``."""
    extras = re.search(r"^LOWEST_EXTRAS := ([\w,]+)$", MAKEFILE, flags=re.M)[1].split(",")
    optional = PROJECT["project"]["optional-dependencies"]
    asked = PROJECT["project"]["dependencies"] + [requirement for extra in extras for requirement in optional[extra]]
    bounds = {normal(requirement): Version(requirement.partition(">=")[2]) for requirement in asked}
    tested = {normal(line): line.partition("==")[2] for line in LOWEST.splitlines() if not line.startswith("#")}
    assert tested.pop("torch") == PINNED["torch"]
    assert bounds.pop("torch") <= Version(PINNED["torch"])
    assert {name: Version(version) for name, version in tested.items()} == bounds
    everywhere = {(normal(requirement), requirement) for extra in optional.values() for requirement in extra}
    assert all(requirement in asked for name, requirement in everywhere if name in bounds), "one bound a library"


def test_the_subset_on_the_lowest_versions_is_there() -> None:
    listed = re.search(r"^LOWEST_TESTS := ((?:.*\\\n)*.*)$", MAKEFILE, flags=re.M)[1].replace("\\", "").split()
    assert listed == sorted(listed)
    assert [path for path in listed if not (ROOT / path).exists()] == []
    for subject in ("test_audit.py", "arms", "report", "test_gate.py", "gates", "loggers"):
        assert any(path.endswith(f"/{subject}") for path in listed), subject


def test_lint_and_hooks_check_the_same_schemas() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\(CHECK\)\.([a-z-]+)", MAKEFILE)) == set(re.findall(r"vendor\.([a-z-]+)", hooks))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_use_what_there_is(path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if "make" in (words := step.get("run", "").split()):
                assert words[0] == "make"
                assert set(words[1:]) <= targets
            if step.get("uses") == "./":
                assert set(step["with"]) <= set(ACTION["inputs"])
            if str(step.get("run")).startswith("."):
                assert os.access(ROOT / step["run"], os.X_OK)
        versions = job.get("strategy", {}).get("matrix", {}).get("python", [lowest])
        assert lowest in versions, "the lowest Python that pyproject.toml claims is tested"
