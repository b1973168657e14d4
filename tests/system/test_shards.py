"""``memaudit run --shard i/n`` as processes of their own on one store, by hand and by the Slurm example."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from lightning_memaudit import OutcomeStore
from lightning_memaudit.cli import main
from tests.helpers.forked import MEMAUDIT, Forked
from tests.helpers.workers import same_outcomes, shards

EXAMPLE = Path(__file__).parents[2] / "examples/slurm/memaudit.sbatch"
N_MODELS = 9
PROJECT = """
import os
import time
from pathlib import Path

from lightning.pytorch import LightningDataModule
from lightning_memaudit.testing import LookupProblem, LookupTable

PROBLEM = LookupProblem.random(n_points=8, n_examples=24, n_classes=2, seed=0)


class Net(LookupTable):
    def __init__(self) -> None:
        super().__init__(8, 2)

    def on_train_end(self) -> None:
        model_id, process = self.trainer.datamodule.model_id, os.environ.get("SHARD_TEST", "here")
        Path(f"trained-{model_id}-by-{process}").touch(exist_ok=False)
        waits_for = os.environ.get("SHARD_TEST_WAITS_FOR", f"trained-{model_id}-by-{process}")
        while not Path(waits_for).exists():
            time.sleep(0.02)


class Data(LightningDataModule):
    def train_dataloader(self):
        return PROBLEM.datamodule().train_dataloader()
"""
CONFIG = """
model: {class_path: shard_project.Net}
data: {class_path: shard_project.Data}
trainer: {max_epochs: 1, accelerator: cpu}
"""
AUDIT = f"""
audit:
  n_models: {N_MODELS}
  store: store
  executor: trainer
"""
RUN = ("run", "--config", "config.yaml", "--config", "audit.yaml", "--no-progress")


@pytest.fixture
def project(tmp_path: Path, monkeypatch):
    for name, content in [("shard_project.py", PROJECT), ("config.yaml", CONFIG), ("audit.yaml", AUDIT)]:
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the working directory
    yield tmp_path
    sys.modules.pop("shard_project", None)


@pytest.fixture
def start(project: Path):
    """Start the command in the folder of the project."""
    started = []

    def _start(*arguments: str, **variables: str) -> Forked:
        started.append(Forked(MEMAUDIT, *arguments, cwd=project, env=os.environ | variables))
        return started[-1]

    yield _start
    for process in started:
        process.kill()


def trained(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("trained-*")}


def said(process: Forked) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return out


def test_two_shards_at_once_leave_the_store_of_one_run(start, project: Path, capsys) -> None:
    early = start(*RUN, "--shard", "0/2", SHARD_TEST="0", SHARD_TEST_WAITS_FOR="trained-1-by-1")
    late = start(*RUN, "--shard", "1/2", SHARD_TEST="1", SHARD_TEST_WAITS_FOR="early-is-done")
    lacks = (
        r"shard 0/2 is trained; the other shards still lack 4 of 9 models\. When all are done: memaudit report store"
    )
    assert re.search(lacks, said(early))
    assert not (project / "store/report").exists()
    (project / "early-is-done").touch()
    assert "9 models, 24 training examples" in said(late)
    assert (project / "store/report/report.json").is_file()
    assert trained(project) == {f"trained-{k}-by-{k % 2}" for k in range(N_MODELS)}

    store = OutcomeStore(project / "store")
    assert store.partial_writes() == []
    before = shards(store)
    assert main([*RUN, "--shard", "0/2"]) == 0  # once more: it trains nothing, and has nobody to wait for
    assert "9 models, 24 training examples" in capsys.readouterr().out
    assert shards(store) == before
    assert not any(name.endswith("by-here") for name in trained(project))

    assert main([*RUN, "--store", "whole"]) == 0
    whole = OutcomeStore(project / "whole")
    assert whole.model_ids() == list(range(N_MODELS))
    same_outcomes(store, whole)
    assert store.manifest.digests == whole.manifest.digests


@pytest.mark.parametrize("shard", ["2/2", "x", "0/0"])
def test_wrong_shards_are_one_message(shard: str, project: Path, capsys) -> None:
    assert main([*RUN, "--shard", shard]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"memaudit: --shard {shard}: i/n is needed, with i from 0 to n - 1: 0/4, 1/4, 2/4 and 3/4 for four shards\n"
    )
    assert not (project / "store").exists()


def slurm(folder: Path, index: int) -> dict[str, str]:
    """What Slurm's own programs would do: ``srun`` runs the command, the variables tell which task this is."""
    (folder / "bin").mkdir(exist_ok=True)
    srun = folder / "bin" / "srun"
    srun.write_text('#!/bin/bash\nexec "$@"\n')
    srun.chmod(0o755)
    return {
        "PATH": f"{srun.parent}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "SLURM_ARRAY_TASK_ID": str(index),
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_JOB_ID": str(4000 + index),
        "SLURM_JOB_NAME": "memaudit",
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
    }


def test_a_task_of_the_slurm_example(project: Path) -> None:
    shutil.copy(EXAMPLE, project)
    environment = os.environ | slurm(project, 0) | {"OMP_NUM_THREADS": "1", "SHARD_TEST": "0"}
    command = ["bash", "memaudit.sbatch"]
    task = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert task.returncode == 0, task.stderr[-3000:]
    assert "shard 0/8 is trained; the other shards still lack 7 of 9 models" in task.stdout
    assert trained(project) == {"trained-0-by-0", "trained-8-by-0"}
    assert OutcomeStore(project / "store").verify() == []


def test_the_array_of_the_example_has_as_many_tasks_as_it_says() -> None:
    text = EXAMPLE.read_text()
    last = re.search(r"^#SBATCH --array=0-(\d+)$", text, re.MULTILINE)
    size = re.search(r'^N_SHARDS="\$\{N_SHARDS:-(\d+)\}"$', text, re.MULTILINE)
    assert last is not None
    assert size is not None
    assert int(last[1]) + 1 == int(size[1])
