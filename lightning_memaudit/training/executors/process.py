"""Several processes on this machine; this one trains along."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

import torch

from lightning_memaudit import exceptions
from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError, MemauditError, TrainingError
from lightning_memaudit.training.choice import decide
from lightning_memaudit.training.engines import train_here
from lightning_memaudit.training.executors.work import Work
from lightning_memaudit.training.parcel import Parcel, import_path, pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.choice import Decision, Engine
    from lightning_memaudit.training.task import Population

__all__ = ["Process", "default_workers", "make_parcel", "threads_shared_among", "train_in_processes"]

_LEASES = 2  # of a worker at a time, so that it need not wait for the next


@dataclass(frozen=True, slots=True)
class Process:
    """Worker processes, each with its share of the threads; this process trains along.

    Args:
        n_workers: Processes in all, this one included; None takes one a core (one a GPU where there are GPUs).
        engine: How each of them trains; None takes the fastest that is right for the model.

    Raises:
        ArgumentError: ``n_workers`` is not positive.
    """

    n_workers: int | None = None
    engine: Engine | None = None
    name: ClassVar[str] = "process"

    def __post_init__(self) -> None:
        if self.n_workers is not None and self.n_workers < 1:
            raise ArgumentError(f"n_workers={self.n_workers!r}: a positive number of processes is needed")

    def __call__(
        self,
        population: Population,
        plan: SubsetPlan,
        model_ids: Sequence[int],
        store: OutcomeStore,
        *,
        notes: Sequence[str] = (),
    ) -> Iterator[int]:
        """Run through ``model_ids``."""
        if not model_ids:
            return
        if store.url.startswith("memory:"):
            raise ConfigurationError(f"store={store.url!r}: other processes cannot reach it; use a folder or a URL")
        allowed: tuple[Engine, ...] = ("in-memory", "ensemble") if self.engine is None else (self.engine,)
        n_workers = min(self.n_workers or default_workers(), len(model_ids))
        with threads_shared_among(n_workers):
            decision = decide(population, plan, model_ids, store, allowed=allowed)
            yield from train_in_processes(
                population, plan, model_ids, store, decision, n_workers=n_workers, notes=notes
            )


def default_workers() -> int:
    """One process a GPU, or one a core."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads_shared_among(n_workers: int) -> Iterator[None]:
    """Give this process its share of the threads, and all of them back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // n_workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_parcel(
    population: Population, plan: SubsetPlan, store: OutcomeStore, decision: Decision, notes: Sequence[str]
) -> Parcel:
    """What workers need."""
    choice = decision.choice.to_dict()
    return Parcel(population.as_given(), plan.to_dict(), store.url, choice, tuple(notes), import_path())


def train_in_processes(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    decision: Decision,
    *,
    n_workers: int,
    notes: Sequence[str] = (),
) -> Iterator[int]:
    """Train models in ``n_workers`` processes, this one included; what a killed worker left is done by the others.

    Raises:
        TrainingError: The user's code failed, or workers died again and again on the same models.
    """
    work = Work(model_ids, decision.choice.chunk_size, n_workers)
    with tempfile.TemporaryDirectory(prefix="memaudit-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if n_workers > 1:
            rows = decision.data.train if decision.data is not None else None
            parcel = make_parcel(population, plan, store, decision, notes)
            pack(parcel, folder, rows=rows if isinstance(rows, TensorRows) else None)
        with _Crew(folder, n_workers - 1, torch.get_num_threads()) as crew:
            while work.remains or crew.is_busy:
                yield from crew.attend(work, store, wait=not work.remains)
                if work.remains:
                    for model_id in train_here(population, plan, work.take(), store, decision, notes=notes):
                        yield model_id
                        yield from crew.attend(work, store, wait=False)


@dataclass(slots=True, eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    errors: IO[bytes]
    leases: deque[list[int]] = field(default_factory=deque)
    is_ready: bool = False
    unread: bytes = b""

    @classmethod
    def start(cls, folder: Path, index: int, n_threads: int) -> _Worker:
        environment = os.environ | {"OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}
        if torch.cuda.is_available():
            environment["CUDA_VISIBLE_DEVICES"] = _device(index)
        errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the worker lives
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "lightning_memaudit.training.worker", str(folder), str(n_threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which ends its workers
        )
        return cls(process, cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout), errors)

    def send(self, model_ids: list[int]) -> None:
        self.leases.append(model_ids)
        with suppress(BrokenPipeError):  # it has died, which reading from it will show
            self.requests.write(json.dumps({"train": model_ids}).encode() + b"\n")
            self.requests.flush()

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The messages that have arrived, and whether the worker has ended."""
        content = os.read(self.answers.fileno(), 2**16)
        *lines, self.unread = (self.unread + content).split(b"\n")
        return [json.loads(line) for line in lines], not content

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.requests, self.answers, self.errors):
            with suppress(BrokenPipeError):  # a request that nobody reads any more
                stream.close()

    def last_words(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return f"exit code {self.process.returncode}" + (f": {lines[-1][:200]}" if lines else "")


class _Crew:
    """The worker processes of one run."""

    def __init__(self, folder: Path, size: int, n_threads: int) -> None:
        self._folder = folder
        self._n_threads = n_threads
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        for index in range(size):
            self._hire(index)

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._selector.close()

    @property
    def is_busy(self) -> bool:
        return any(worker.leases for worker in self._workers)

    def attend(self, work: Work, store: OutcomeStore, *, wait: bool) -> Iterator[int]:
        """Take what the workers report, and give them more to do; yields the models that they stored."""
        for key, _ in self._selector.select(timeout=None if wait and self.is_busy else 0):
            worker: _Worker = key.data
            messages, ended = worker.read()
            for message in messages:
                yield from self._heed(worker, message)
            if ended:
                yield from self._replace(worker, work, store)
        for worker in self._workers:
            while worker.is_ready and work.remains and len(worker.leases) < (_LEASES if work.is_plenty else 1):
                worker.send(work.take())

    def _heed(self, worker: _Worker, message: dict[str, Any]) -> Iterator[int]:
        if message["event"] == "stored":
            worker.leases[0].remove(message["model_id"])
            yield message["model_id"]
        elif message["event"] == "ready":
            worker.is_ready = True
        elif message["event"] == "idle":
            worker.leases.popleft()
        elif message["event"] == "failed":
            kind = getattr(exceptions, message["kind"], None)
            error = kind if isinstance(kind, type) and issubclass(kind, MemauditError) else TrainingError
            raise error(message["message"])

    def _replace(self, worker: _Worker, work: Work, store: OutcomeStore) -> Iterator[int]:
        self._selector.unregister(worker.answers)
        index = self._workers.index(worker)
        words = worker.last_words()
        begun, *untouched = [lease for lease in worker.leases if lease] or [[]]
        stored = [model_id for model_id in begun if store.has(model_id)]
        yield from stored
        work.give_back([model_id for model_id in begun if model_id not in stored], why=words)
        work.return_untouched([model_id for lease in untouched for model_id in lease])
        worker.end()
        self._hire(index)

    def _hire(self, index: int) -> None:
        worker = _Worker.start(self._folder, index + 1, self._n_threads)
        self._workers[index : index + 1] = [worker]
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)


def _device(index: int) -> str:
    visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    devices = visible or [str(device) for device in range(torch.cuda.device_count())]
    return devices[index % len(devices)]
