"""Every example runs as its docstring says, in a process and a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_memaudit import OutcomeStore

EXAMPLES = Path(__file__).parents[2] / "examples"
MEMAUDIT = "import sys; from lightning_memaudit.cli import main; sys.exit(main())"


@pytest.fixture
def example(tmp_path):
    """Run a command in a copy of the examples."""
    shutil.copytree(
        EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__", "*-audit", "lightning_logs")
    )

    def _example(*command, folder="."):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path / folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done

    return _example


def memorization(folder):
    report = json.loads((folder / "report.json").read_text())
    assert (folder / "report.md").read_text().startswith("#")
    assert list((folder / "figures").iterdir())
    return report["memorization"]


def test_callback_in_your_script(example, tmp_path):
    script = ["examples/callback_in_your_script.py", "--max-epochs", "3"]
    example(*script, "--model-id", "1")
    assert OutcomeStore(tmp_path / "callback-audit/store").model_ids() == [1]
    done = example(*script, "--n-models", "3")
    assert "3 models, 400 training examples" in done.stdout
    assert memorization(tmp_path / "callback-audit")["n_models"] == 3


def test_audit_digits(example, tmp_path):
    done = example("examples/audit_digits.py", "--n-models", "8", "--out", "out")
    assert "8 models, 500 training examples" in done.stdout
    listed = [line for line in done.stdout.splitlines() if line.startswith("  example")]
    assert len(listed) == 5
    assert all("annotation" in line for line in listed)
    assert "Warning" not in done.stderr
    found = memorization(tmp_path / "out")
    assert "annotation" in json.dumps(found)
    assert set(OutcomeStore(tmp_path / "out/store").examples("test").groups) == {"digit", "annotation"}


def test_lightning_cli(example, tmp_path):
    folder = "examples/lightning_cli"
    run = ["-c", MEMAUDIT, "run", "--config", "config.yaml", "--config", "audit.yaml", "--n-models", "3"]
    done = example(*run, "--trainer.max_epochs", "2", folder=folder)
    assert "3 models, 500 training examples" in done.stdout
    assert memorization(tmp_path / folder / "digits-audit/report")["n_models"] == 3


def test_the_same_configuration_trains_one_model(example):
    fit = ["project.py", "fit", "--config", "config.yaml", "--trainer.fast_dev_run", "true"]
    example(*fit, folder="examples/lightning_cli")
