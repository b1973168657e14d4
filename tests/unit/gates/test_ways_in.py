"""The GitHub action, the pre-commit hook, and the files that the documentation shows."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from lightning_memaudit.cli import main
from lightning_memaudit.gates.output import FORMS
from lightning_memaudit.gates.policy.file import policy_of
from lightning_memaudit.gates.rules import KINDS

ROOT = Path(__file__).parents[3]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
DOCS = (ROOT / "docs/gates.md").read_text()
FAKE = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$SEEN"
exit "$CODE"
"""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, flags=re.M | re.S)


@pytest.fixture
def act(tmp_path):
    """Run the action's step with a command that notes its arguments and ends with a code."""
    command = tmp_path / "bin/memaudit"
    command.parent.mkdir()
    command.write_text(FAKE)
    command.chmod(0o755)
    step = ACTION["runs"]["steps"][1]

    def _act(code=0, **inputs):
        given = {name: entry.get("default", "") for name, entry in ACTION["inputs"].items()} | inputs
        environment = {
            variable: given[re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value)[1]]
            for variable, value in step["env"].items()
        }
        files = {"SEEN": tmp_path / "seen", "GITHUB_OUTPUT": tmp_path / "output"}
        run = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env={"PATH": f"{command.parent}:{os.environ['PATH']}", "CODE": str(code), **environment,
                 **{name: str(path) for name, path in files.items()}},
            capture_output=True, text=True,
        )  # fmt: skip
        return run.returncode, files["SEEN"].read_text().splitlines(), files["GITHUB_OUTPUT"].read_text()

    return _act


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_the_action_ends_with_the_code_of_the_gate(act, code) -> None:
    returned, seen, output = act(code, report="out")
    assert (returned, output) == (code, f"exit-code={code}\n")
    assert seen == [
        "gate", "--format", "text", "--format", "github", "--format", "summary", "--format=junit=memaudit-gate.xml",
        "--", "out",
    ]  # fmt: skip


def test_the_action_passes_every_input_as_one_word_and_runs_none(act, tmp_path) -> None:
    nasty = f"a b $(touch {tmp_path}/hit) ; `touch {tmp_path}/hit` \" ' -x"
    inputs = dict.fromkeys(("report", "policy", "baseline", "junit", "sarif", "only"), nasty)
    _, seen, _ = act(**inputs, **{"exit-zero": "true"})
    assert seen[7:] == [
        f"--policy={nasty}", f"--baseline={nasty}", f"--format=junit={nasty}", f"--format=sarif={nasty}",
        f"--only={nasty}", "--exit-zero", "--", nasty,
    ]  # fmt: skip
    assert not (tmp_path / "hit").exists()
    assert not any("${{" in step["run"] for step in ACTION["runs"]["steps"])


def test_the_words_of_the_action_are_understood(tmp_path, act, capsys) -> None:
    """What the step passes, given to the command itself: only the report is missing."""
    policy = tmp_path / "p.toml"
    policy.write_text('schema = 1\n[rules.r]\nkind = "drop"\nmargin = 1\n')
    _, seen, _ = act(report="-none", policy=str(policy), junit=str(tmp_path / "x.xml"), only="r")
    assert main(seen) == 4
    assert "report='-none': there is neither a report.json nor a store" in capsys.readouterr().err


def test_the_hook_lints_policies_and_nothing_else(tmp_path, capsys) -> None:
    (hook,) = HOOKS
    assert hook["entry"] == "memaudit gate --lint"
    pattern = re.compile(hook["files"])
    found = [name for name in ("memaudit.toml", "a/pyproject.toml", "xmemaudit.toml", "a.py") if pattern.search(name)]
    assert found == ["memaudit.toml", "a/pyproject.toml"]
    for name in ("memaudit.toml", "pyproject.toml"):
        (tmp_path / name).write_text("schema = 1\n[rules.r]\n" if name == "memaudit.toml" else "[project]\n")
    assert main([*hook["entry"].split()[1:], str(tmp_path / "pyproject.toml")]) == 0
    assert main([*hook["entry"].split()[1:], str(tmp_path / "memaudit.toml")]) == 2
    assert "rules.r.kind" in capsys.readouterr().err


def test_policies_of_the_documentation_are_understood() -> None:
    texts = blocks("toml")
    assert len(texts) == 2
    kinds = {rule.kind.name for text in texts for rule in policy_of(tomllib.loads(text)).rules}
    assert kinds <= set(KINDS)
    assert all(f"| `{kind}` |" in DOCS for kind in KINDS)
    assert all(f"`{form}`" in DOCS for form in FORMS)


def test_workflows_of_the_documentation_use_what_there_is() -> None:
    github, gitlab, hooks = (yaml.safe_load(text) for text in blocks("yaml"))
    (step,) = (step for step in github["jobs"]["gate"]["steps"] if step.get("id") == "gate")
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert {name for name, entry in ACTION["inputs"].items() if entry.get("required")} <= set(step["with"])
    assert hooks["repos"][0]["hooks"] == [{"id": HOOKS[0]["id"]}]
    job = gitlab["memorization"]
    (command,) = (line for line in job["script"] if line.startswith("memaudit"))
    assert f"--format junit={job['artifacts']['reports']['junit']}" in command
    assert job["allow_failure"] == {"exit_codes": [3]}
