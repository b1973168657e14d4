"""Fits of two processes: one shard, one log, and the shares of one subset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lightning_memaudit import AuditReport, OutcomeStore
from tests.helpers.forked import finished
from tests.helpers.reports import small_store
from tests.unit.data.toys import ROWS

RECORDER = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.integration.callbacks.test_outcome_recorder import fit

if __name__ == "__main__":
    fit(sys.argv[1], strategy="ddp", devices=2)
"""


def test_two_processes_write_one_shard(tmp_path: Path) -> None:
    script = tmp_path / "ddp.py"
    script.write_text(RECORDER)
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, script, tmp_path / "store", Path(__file__).parents[3]],
        capture_output=True,
        text=True,
        timeout=250,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    store = OutcomeStore(tmp_path / "store")
    assert store.model_ids() == [0]
    assert store.verify() == store.partial_writes() == []
    assert store.load().correct.shape == (1, 24)
    assert store.manifest.identity.optimisation["trainer"]["processes"] == 2  # the effective batch is twice as large


def test_one_of_two_processes_logs(tmp_path: Path) -> None:
    store = small_store(tmp_path / "known", n_models=4)
    AuditReport.from_store(store, sections=["memorization"]).save(tmp_path / "report", formats=["json"])
    finished(Path(__file__).with_name("audit_logger.py"), tmp_path)
    (logged,) = tmp_path.rglob("memaudit")
    assert (logged / "report.json").exists()
    assert sorted(path.name for path in tmp_path.glob("*.rank")) == ["0.rank", "1.rank"]
    assert [path.read_text() for path in sorted(tmp_path.glob("*.rank"))] == ["1", "0"]


def test_two_processes_share_the_subset(tmp_path: Path) -> None:
    finished(Path(__file__).with_name("subset.py"), tmp_path)
    seen = {way: [json.loads((tmp_path / f"{way}-{rank}.json").read_text()) for rank in (0, 1)] for way in ("in", "by")}
    assert seen["in"] == seen["by"]
    first, second = (record["seen"] for record in seen["in"])
    assert len(first) == len(second) == (len(ROWS) + 1) // 2
    assert set(first) | set(second) == set(ROWS.tolist())
    assert len(set(first) & set(second)) <= len(ROWS) % 2  # the padding of DistributedSampler
