"""Models that tell who trains them, and what tests do to those processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.helpers.tiny import TinyNet

if TYPE_CHECKING:
    from lightning_memaudit import OutcomeStore

ROOT = Path(__file__).parents[2]
FOLDER = "MEMAUDIT_TEST_FOLDER"
PATIENCE = 120.0


def trace(name: str) -> Path:
    """A file by which processes tell each other something."""
    return Path(os.environ[FOLDER]) / name


class Dozing(TinyNet):
    """Says which process trains it, and takes its time."""

    def on_train_end(self) -> None:
        doze()


class DozingTogether(TinyNet):
    """The same for models that are trained at once, which have no hook of their own."""

    def training_step(self, batch, batch_idx):
        doze()
        return super().training_step(batch, batch_idx)


class Meeting(TinyNet):
    """Is not done before two processes have trained one."""

    def on_train_end(self) -> None:
        meet()


def is_worker() -> bool:
    """Whether this process was started to train for another."""
    return sys.argv[0].endswith(("workers/__main__.py", "default_worker.py"))  # ours, and Ray's


def doze() -> None:
    """Take as long as ``takes`` says at that moment; workers three times as long as the process that has them."""
    trace(f"training-{os.getpid()}").touch()
    busy, seconds = trace(f"busy-{os.getpid()}"), trace("seconds")
    busy.touch()
    begun = time.monotonic()
    while seconds.exists() and time.monotonic() - begun < (3 if is_worker() else 1) * float(seconds.read_text() or 0):
        time.sleep(0.02)
    busy.unlink()


def takes(seconds: float) -> None:
    """How long a model dozes from now on."""
    trace("seconds").write_text(str(seconds))


def meet() -> None:
    """Wait until two processes were here."""
    trace(f"training-{os.getpid()}").touch()
    wait_for(lambda: len(trainers()) > 1)


def trainers() -> set[int]:
    """The processes that have trained a model."""
    return {int(path.name.partition("-")[2]) for path in Path(os.environ[FOLDER]).glob("training-*")}


def wait_for(condition) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command of every living process."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    )
    found = {}
    for line in listing.stdout.splitlines():
        pid, parent, state, command = line.split(maxsplit=3)
        if not state.startswith("Z"):
            found[int(pid)] = (int(parent), command)
    return found


def workers_of(driver: int) -> dict[int, str]:
    """The worker processes of a process, and their commands."""
    return {
        pid: command
        for pid, (parent, command) in processes().items()
        if parent == driver and "lightning_memaudit.training.workers" in command
    }


def shards(store: OutcomeStore) -> dict[str, tuple[int, bytes]]:
    """When the file of each model was written, and its content."""
    folder = Path(store.storage.path("outcomes/baseline"))
    paths = sorted(folder.glob("*.npz")) if folder.exists() else []
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


class Assassin(threading.Thread):
    """Kills processes in mid-training, with models stored in between, and keeps what was stored at those moments.

    Args:
        store: Of the audit.
        victims: Gives the processes that may be killed.
        n_kills: How many.
    """

    def __init__(self, store: OutcomeStore, victims, n_kills: int) -> None:
        super().__init__(daemon=True)
        self.store = store
        self.victims = victims
        self.n_kills = n_kills
        self.killed: list[int] = []
        self.stored: list[dict[str, tuple[int, bytes]]] = []

    def run(self) -> None:
        moments = random.Random(0)
        while len(self.killed) < self.n_kills:
            known = len(self.stored[-1]) if self.stored else 0
            wait_for(lambda known=known: len(shards(self.store)) > known and self._at_work())
            time.sleep(moments.uniform(0, 0.3))
            if victims := self._at_work():
                self.stored.append(shards(self.store))
                self.killed.append(moments.choice(sorted(victims)))
                os.kill(self.killed[-1], signal.SIGKILL)
        takes(0)

    def _at_work(self) -> set[int]:
        busy = {int(path.name.partition("-")[2]) for path in trace("").glob("busy-*")} - {os.getpid(), *self.killed}
        return busy & set(self.victims()) if busy else busy


def same_outcomes(store: OutcomeStore, reference: OutcomeStore, *, margins_within: float = 0.0) -> None:
    """Hold the record of an audit against another."""
    assert store.verify() == []
    for split in reference.splits():
        ours, theirs = store.load(split=split), reference.load(split=split)
        for name in ("model_ids", "mask", "correct", "prediction"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)
        for name in ("margin", "loss"):
            difference = np.abs(getattr(ours, name) - getattr(theirs, name)).max()
            assert difference <= margins_within
