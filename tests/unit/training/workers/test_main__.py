"""The worker process by itself: what it is sent, what it answers, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.drivers import Driver
from tests.helpers.tiny import TinyNet

ROOT = Path(__file__).parents[3]
SLEEPER = 3


class Talker(TinyNet):
    """Does with the standard streams what users do, and dozes when it is model ``SLEEPER``."""

    def training_step(self, batch, batch_idx):
        print("a line that is no message", self.trainer.datamodule.model_id)
        os.write(1, b'{"event": "stored", "model_id": 99}\n')
        os.write(2, b"on standard error\n")
        assert sys.stdin.read() == ""
        if self.trainer.datamodule.model_id == SLEEPER and self.trainer.current_epoch == 1:
            (Path(os.environ["MEMAUDIT_TEST_FOLDER"]) / "asleep").touch()
            time.sleep(600)
        return super().training_step(batch, batch_idx)


class Worker:
    def __init__(self, folder: Path, driver: Driver) -> None:
        self.errors = (folder / "errors").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lightning_memaudit.training.workers", driver.files, "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=ROOT,
            env=os.environ | {"MEMAUDIT_TEST_FOLDER": str(folder)},
        )

        self.ask("open", True)

    def send(self, *model_ids: int) -> None:
        self.ask("train", model_ids)

    def ask(self, what: str, of) -> None:
        self.process.stdin.write(json.dumps({what: of}).encode() + b"\n")
        self.process.stdin.flush()

    def heard(self) -> dict:
        line = self.process.stdout.readline()
        assert line, (self.process.wait(), Path(self.errors.name).read_text())
        return json.loads(line)

    def close(self) -> int:
        self.process.stdin.close()
        code = self.process.wait(timeout=20)
        self.process.stdout.close()
        self.errors.close()
        return code


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a worker on a model; it is given 100 s to be ready."""
    monkeypatch.setenv("MEMAUDIT_TEST_FOLDER", str(tmp_path))
    workers = []

    def _start(model) -> tuple[Worker, Driver]:
        driver = Driver(tmp_path, engine="in-memory", model=model)
        workers.append(Worker(tmp_path, driver))
        return workers[-1], driver

    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)  # pytest's own refuses to be read
        yield _start
    for worker in workers:
        worker.process.kill()
        worker.close()


def test_messages_are_not_disturbed_and_the_end_of_its_input_is_the_end_of_a_worker(start, tmp_path: Path) -> None:
    worker, driver = start(Talker)
    assert worker.heard() == {"event": "ready"}
    worker.send(0, 2)
    worker.send(1)
    assert [worker.heard() for _ in range(5)] == [
        {"event": "stored", "model_id": 0},
        {"event": "stored", "model_id": 2},
        {"event": "idle"},
        {"event": "stored", "model_id": 1},
        {"event": "idle"},
    ]
    assert sorted(driver.shards()) == ["000000.npz", "000001.npz", "000002.npz"]
    assert driver.store.verify() == []
    assert (tmp_path / "errors").read_bytes() == b""  # what was printed is forgotten when its model is stored
    worker.send(SLEEPER)
    deadline = time.monotonic() + 60
    while not (tmp_path / "asleep").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    started = time.monotonic()
    assert worker.close() == 0
    assert time.monotonic() - started < 10
    assert not driver.files.exists()
    assert sorted(driver.shards()) == ["000000.npz", "000001.npz", "000002.npz"]
    assert b"a line that is no message 3" in (tmp_path / "errors").read_bytes()


def test_what_fails_in_the_users_code_is_reported_and_ends_the_worker(start, tmp_path: Path) -> None:
    class Fails(TinyNet):  # a local class: the store knows it by its qualified name
        def on_train_end(self):
            if self.trainer.datamodule.model_id == 1:
                raise ZeroDivisionError("my bug")

    worker, driver = start(Fails)
    assert worker.heard() == {"event": "ready"}
    worker.send(0, 1, 2)
    assert worker.heard() == {"event": "stored", "model_id": 0}
    failure = worker.heard()
    assert (failure["event"], failure["kind"]) == ("failed", "TrainingError")
    assert failure["message"].startswith(
        "model 1 failed in your code: ZeroDivisionError: my bug. What is stored is kept"
    )
    assert "in on_train_end" in failure["where"]
    assert worker.process.wait(timeout=60) == 1
    assert "ZeroDivisionError: my bug" in (tmp_path / "errors").read_text().splitlines()[-1]
    assert driver.files.exists()  # the parent may have others
    assert sorted(driver.shards()) == ["000000.npz"]
