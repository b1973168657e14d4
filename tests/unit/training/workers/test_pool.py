"""What becomes of worker processes that do all kinds of things: scripts that train nothing and start at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from lightning_memaudit import OutcomeStore
from lightning_memaudit.exceptions import MismatchError, TrainingError
from lightning_memaudit.training.engines.choice import EngineChoice
from lightning_memaudit.training.workers import pool as pool_module
from lightning_memaudit.training.workers.pool import WorkerPool
from lightning_memaudit.training.workers.queue import ModelQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[4]
WORKER = """
import json, os, subprocess, sys, time

folder, n_threads = sys.argv[1:]
behaviour = json.load(open(folder + "/behaviour.json"))
folder = behaviour["folder"]  # which stays when that of the pool is gone
store = behaviour["store"] + "/outcomes/baseline"

def say(**message):
    line = json.dumps(message) + "\\n"
    if behaviour.get("stammers"):
        print(end=line[:9], flush=True)
        time.sleep(0.01)
        line = line[9:]
    print(end=line, flush=True)

def count(what):
    with open(f"{folder}/{what}", "a") as file:
        file.write(f"{os.getpid()}\\n")
    return len(open(f"{folder}/{what}").readlines())

starts = count("starts")
time.sleep(behaviour.get("sleeps", 0))
if behaviour.get("starts") is not None and starts > behaviour["starts"]:
    sys.exit("no room")
if behaviour.get("child"):
    count_of = subprocess.Popen(["sleep", "600"])
    open(folder + "/child", "w").write(str(count_of.pid))
say(event="ready")
for line in sys.stdin:
    request = json.loads(line)
    if request.get("open"):
        count("opened")
        continue
    if choice := request.get("use"):
        for what in ("engine", "chunk_size", "compiled"):
            count(f"use-{choice[what]}")
        continue
    for model_id in request["train"]:
        count(f"trained-{model_id}")
        if model_id in behaviour.get("fails", []):
            say(event="failed", kind="MismatchError", message="other data", where="Traceback")
        if model_id in behaviour.get("kills", []):
            print("first line\\nlast line", file=sys.stderr)
            sys.stderr.flush()
            os.kill(os.getpid(), 11)
        open(f"{store}/{model_id:06d}.npz", "w").close()
        if model_id in behaviour.get("kills_when_stored", []):
            os._exit(3)
        say(event="stored", model_id=model_id)
    say(event="idle")
"""


class Scene:
    """A pool of such workers in a folder."""

    def __init__(self, folder: Path, n_models: int, **behaviour) -> None:
        self.folder = folder
        self.store = OutcomeStore(folder / "store")
        (folder / "store/outcomes/baseline").mkdir(parents=True)
        self.queue = ModelQueue(range(n_models), size=behaviour.pop("size_of_lease", 1), n_workers=2)
        (folder / "behaviour.json").write_text(
            json.dumps({"folder": str(folder), "store": self.store.url, **behaviour})
        )
        self.stored: list[int] = []
        script = folder / "worker.py"
        script.write_text(WORKER)
        self.command: tuple[str, ...] = (sys.executable, str(script))

    @contextmanager
    def pool(self, size: int = 1, damaged=(), *, started_early: bool = False) -> Iterator[WorkerPool]:
        with WorkerPool(n_beside=size, n_threads=3, command=self.command) as pool:
            (pool.folder / "behaviour.json").symlink_to(self.folder / "behaviour.json")
            if started_early:
                expected = self.times("starts") + size
                pool.start()
                wait_for(lambda: self.times("starts") == expected)
            pool.open(self.queue, lambda model_id: model_id not in damaged and self.store.has(model_id))
            yield pool

    def play(self, size: int = 1, damaged=(), *, trains_along: bool = False, started_early: bool = False) -> list[int]:
        with self.pool(size, damaged, started_early=started_early) as pool:
            self.watch(pool, trains_along=trains_along)
        return self.stored

    def watch(self, pool: WorkerPool, *, trains_along: bool = False) -> None:
        """Until nothing remains; models that this process would train are left to the workers, or done at once."""
        deadline = time.monotonic() + 60
        while pool.wait() and time.monotonic() < deadline:
            self.stored += pool.stored()
            if trains_along:
                self.stored += pool.take()
            time.sleep(0.001)

    def times(self, what: str) -> int:
        path = self.folder / what
        return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.mark.parametrize("stammers", [False, True])
@pytest.mark.parametrize(("size", "size_of_lease"), [(1, 1), (3, 1), (2, 8)])
def test_every_model_is_trained_once(size: int, size_of_lease: int, stammers: bool, tmp_path: Path) -> None:
    scene = Scene(tmp_path, 30, size_of_lease=size_of_lease, stammers=stammers)
    assert sorted(scene.play(size)) == list(range(30))
    assert all(scene.times(f"trained-{k}") == 1 for k in range(30))
    assert scene.times("starts") <= size  # some may have come too late


def test_workers_that_were_started_early_wait_for_the_run(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 30)
    with WorkerPool(n_beside=2, n_threads=3, command=scene.command) as pool:
        (pool.folder / "behaviour.json").symlink_to(tmp_path / "behaviour.json")
        assert not pool.is_started
        pool.start()
        wait_for(lambda: scene.times("starts") == 2)
        assert pool.is_started
        assert scene.times("opened") == 0
    assert not pool.folder.exists()
    assert sorted(scene.play(2, started_early=True)) == list(range(30))
    assert scene.times("starts") == 4
    assert scene.times("opened") == 2


def test_a_model_that_kills_whoever_trains_it_costs_only_itself(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 12, kills=[4])
    message = r"model 4: 3 worker processes ended while they trained it \(exit code -11 \(SIGSEGV\): last line\)"
    with pytest.raises(TrainingError, match=message):
        scene.play(2)
    assert sorted(scene.stored) == [k for k in range(12) if k != 4]
    assert scene.times("trained-4") == 3
    assert all(scene.times(f"trained-{k}") == 1 for k in range(12) if k != 4)


def test_this_process_does_not_take_what_killed_a_worker(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 3, kills=[0])
    with scene.pool() as pool:
        wait_for(lambda: scene.times("trained-0") > 0)
        with pytest.raises(TrainingError, match="model 0"):
            scene.watch(pool, trains_along=True)
    assert sorted(scene.stored) == [1, 2]
    assert scene.times("trained-0") == 3


def test_what_was_stored_before_its_worker_died_is_not_trained_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 10, kills_when_stored=[2, 7])
    assert sorted(scene.play(2)) == list(range(10))
    assert all(scene.times(f"trained-{k}") == 1 for k in range(10))
    assert scene.times("starts") <= 4


def test_a_damaged_shard_does_not_count_as_stored(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 2, kills=[1])
    (tmp_path / "store/outcomes/baseline/000001.npz").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="model 1"):
        scene.play(1, damaged=[1])
    assert scene.stored == [0]


def test_a_failure_is_told_to_who_asks_while_a_worker_is_replaced(tmp_path: Path) -> None:
    scene, asked, before = Scene(tmp_path, 1, kills=[0]), threading.Semaphore(0), threading.gettrace()

    def is_stored(model_id: int) -> bool:
        asked.release()
        return False

    def slowly(frame, event, argument):
        if frame.f_code.co_filename != pool_module.__file__:
            return None
        time.sleep(0.01)  # at every line, so that whoever waits for its turn gets it as soon as it may
        return slowly

    with WorkerPool(n_beside=1, n_threads=3, command=scene.command) as pool:
        (pool.folder / "behaviour.json").symlink_to(scene.folder / "behaviour.json")
        threading.settrace(slowly)
        try:
            pool.open(scene.queue, is_stored)
        finally:
            threading.settrace(before)
        for _ in range(3):
            assert asked.acquire(timeout=60)
        assert pool.wait()
        with pytest.raises(TrainingError, match="model 0: 3 worker processes ended"):
            pool.stored()


def test_workers_that_do_not_start_are_done_without(tmp_path: Path, caplog) -> None:
    scene = Scene(tmp_path, 40, starts=0)
    with scene.pool() as pool:
        wait_for(lambda: caplog.records)
        scene.watch(pool, trains_along=True)
    [record] = caplog.records
    assert record.getMessage() == "one worker process less: 5 in a row ended before they began (exit code 1: no room)"
    assert scene.stored == [*range(40)]
    assert scene.times("starts") == 5


def test_nobody_waits_for_workers_that_have_not_started(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 3, sleeps=600)
    started = time.monotonic()
    assert scene.play(2, trains_along=True) == [0, 1, 2]
    assert time.monotonic() - started < 60


def test_no_worker_waits_for_this_process(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 30)
    with scene.pool():
        wait_for(lambda: all(scene.store.has(k) for k in range(30)))  # while this process attends to nothing


def test_how_to_train_reaches_all_workers_and_those_that_come_later(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 9, kills_when_stored=[2], sleeps=0.3)
    with scene.pool() as pool:
        pool.use(EngineChoice("ensemble", 2, compiled=True))
        assert pool.take() == [0, 1]
        scene.watch(pool)
    assert [scene.times(f"use-{what}") for what in ("ensemble", "2", "True")] == [2, 2, 2]
    assert scene.times("starts") == 2
    assert sorted(scene.stored) == list(range(2, 9))


def test_a_suspect_that_no_worker_is_left_for_is_an_error(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 2, kills=[1], starts=1)
    with pytest.raises(TrainingError, match="5 new ones ended before they began"):
        scene.play(1)
    assert scene.stored == [0]


def test_a_worker_that_cannot_even_be_made_is_done_without(tmp_path: Path, caplog) -> None:
    scene = Scene(tmp_path, 5)
    scene.command = (str(tmp_path / "no-such-program"),)
    assert sorted(scene.play(2, trains_along=True)) == list(range(5))
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "one worker process less: it cannot be started"
    ] * 2


def test_what_fails_in_a_worker_comes_out_as_it_was(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 4, fails=[1])
    with pytest.raises(MismatchError, match="other data") as caught:
        scene.play()
    assert str(caught.value) == "other data"
    assert caught.value.exit_code == 4
    assert "In a worker process:\nTraceback" in caught.value.__notes__[0]


def test_workers_and_their_own_processes_end_with_the_pool(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 2, child=True)
    scene.play(2)
    pids = [int(pid) for pid in (tmp_path / "starts").read_text().split()]
    deadline = time.monotonic() + 20
    while any(map(alive, [*pids, int((tmp_path / "child").read_text())])) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, [*pids, int((tmp_path / "child").read_text())]))


def test_threads_devices_and_the_package_of_a_worker(monkeypatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    environment = pool_module._environment(1, 3)
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("3", "3")
    assert environment.get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")
    assert environment["PYTHONPATH"] == str(ROOT)  # a checkout; an installed package needs nothing
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    for visible, devices in [(None, ["0", "1", "2", "0"]), ("4,7", ["4", "7", "4", "7"])]:
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [pool_module._environment(i, 1)["CUDA_VISIBLE_DEVICES"] for i in range(4)] == devices


def test_an_installed_package_is_not_put_before_the_standard_library(monkeypatch) -> None:
    monkeypatch.setattr(pool_module.sysconfig, "get_path", lambda _: str(ROOT))
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    assert pool_module._environment(1, 1)["PYTHONPATH"] == "/of/the/user"
