"""The installed command in processes of its own: exit codes, Ctrl-C, the working directory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lightning_memaudit import OutcomeStore, __version__
from tests.helpers.forked import MEMAUDIT, finished

PROJECT = """
import time
import torch
from lightning.pytorch import LightningDataModule
from lightning_memaudit.testing import LookupProblem, LookupTable
from torch.utils.data import DataLoader

PROBLEM = LookupProblem.random(n_points=8, n_examples=24, n_classes=2, seed=0)


class Net(LookupTable):
    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(8, 2)
        self.seconds = seconds

    def on_train_start(self) -> None:
        time.sleep(self.seconds)


class Data(LightningDataModule):
    def train_dataloader(self):
        return PROBLEM.datamodule().train_dataloader()
"""
CONFIG = """
model: {class_path: project_in_cwd.Net, init_args: {seconds: %s}}
data: {class_path: project_in_cwd.Data}
trainer: {max_epochs: 1, accelerator: cpu}
audit: {n_models: %d, store: store}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "project_in_cwd.py").write_text(textwrap.dedent(PROJECT))
    (tmp_path / "slow.yaml").write_text(CONFIG % (0.3, 40))
    (tmp_path / "quick.yaml").write_text(CONFIG % (0.0, 3))
    return tmp_path


@pytest.fixture
def start(folder):
    command = Path(sys.executable).with_name("memaudit")
    entry = [str(command)] if command.exists() else [shutil.which("memaudit") or "memaudit"]

    def _start(*arguments):
        return subprocess.Popen(
            [*entry, *arguments],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return _start


def test_exit_codes_of_the_installed_command(start):
    process = start("run", "--config", "quick.yaml")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    refused = [start("status", "nowhere"), start("fly")]
    messages = [process.communicate(timeout=240)[1] for process in refused]
    assert [process.returncode for process in refused] == [4, 2]
    assert all(message.startswith("memaudit: ") and "Traceback" not in message for message in messages)


def test_ctrl_c_keeps_finished_models_and_a_new_run_goes_on(start, folder):
    process = start("run", "--config", "slow.yaml")
    outcomes = folder / "store/outcomes/baseline"
    deadline = time.monotonic() + 240
    while len(list(outcomes.glob("*.npz"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    store = OutcomeStore(folder / "store")
    done = store.model_ids()
    assert 2 <= len(done) < 40
    assert f"Stopped. {len(done)} of 40 models are stored in store; run again to go on." in err
    assert store.verify() == []
    before = {path.name: path.read_bytes() for path in outcomes.glob("*.npz")}
    out = finished(MEMAUDIT, "run", "--config", "slow.yaml", "--n-models", len(done) + 1, cwd=folder)
    assert f"{len(done) + 1} models" in out
    now = {path.name: path.read_bytes() for path in outcomes.glob("*.npz")}
    assert before.items() <= now.items()
    assert len(now) == len(before) + 1


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lightning_memaudit", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == __version__
