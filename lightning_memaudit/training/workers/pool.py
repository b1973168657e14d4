"""Worker processes, and what each of them has in hand."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch

from lightning_memaudit.exceptions import TrainingError
from lightning_memaudit.training.workers.queue import ModelQueue
from lightning_memaudit.training.workers.remote_errors import rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lightning_memaudit.training.engines.choice import EngineChoice

__all__ = ["WorkerPool"]

_log = logging.getLogger(__name__)
_COMMAND = (sys.executable, "-P", "-m", "lightning_memaudit.training.workers")  # -P: not from the working directory
_SECONDS_TO_END = 5.0  # of a worker that has closed its pipe


class WorkerPool:
    """The worker processes of one run: a context in which they and the folder of the serialized run live.

    They may be started before the run is serialized, so that they import while a way of training is chosen. A thread of
    this process attends to them, so that none waits while this process trains.

    Args:
        n_beside: Workers beside this process.
        n_threads: Threads of each.
        most_starts: Workers in a row that may end before they begin.
        command: Starts a worker; the folder and the number of threads follow.

    Attributes:
        is_started: Whether the workers were started.
    """

    def __init__(
        self, *, n_beside: int, n_threads: int, most_starts: int = 5, command: Sequence[str] = _COMMAND
    ) -> None:
        self.n_beside = n_beside
        self._most_starts = most_starts
        self._command = command
        self.is_started = False
        self._n_threads = n_threads
        self._failed_starts = 0
        self._opening: list[dict[str, Any]] = []  # what every worker is told first, once the run is serialized
        self._queue = ModelQueue((), size=1, n_workers=1)
        self._is_stored: Callable[[int], bool] = bool
        self._stored: list[int] = []
        self._failure: BaseException | None = None
        self._has_ended = False
        self._change = threading.Condition()  # of all of the above and of what each worker has in hand
        self._attendant = threading.Thread(target=self._attend, daemon=True)
        self._selector = selectors.DefaultSelector()
        self._wakened, self._waker = os.pipe()
        self._workers: list[_Worker] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def beside_this_process(cls, n_workers: int, *, most_starts: int) -> WorkerPool:
        """Those that make ``n_workers`` processes together with this one, each with as many threads as this one.

        Args:
            n_workers: Processes in all.
            most_starts: Workers in a row that may end before they begin.
        """
        return cls(n_beside=n_workers - 1, n_threads=torch.get_num_threads(), most_starts=most_starts)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        with self._change:
            self._has_ended = True
            os.write(self._waker, b".")
        if self._attendant.is_alive():
            self._attendant.join()
        for worker in self._workers:
            worker.end()
        self._selector.close()
        os.close(self._wakened)
        os.close(self._waker)
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """Of the serialized run; it is made when it is first asked for."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="memaudit-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def start(self) -> None:
        """Start the workers, if that has not been done; they wait for ``open``."""
        with self._change:
            if not self.is_started:
                self.is_started = True
                for index in range(self.n_beside):
                    self._hire(index + 1)  # this process is the first

    def open(self, queue: ModelQueue, is_stored: Callable[[int], bool]) -> None:
        """Let the workers unpack the serialized run, which is in ``folder`` by now, and train.

        Args:
            queue: What is to be trained; ``take`` gives this process its share.
            is_stored: Whether a model is recorded by now.
        """
        with self._change:
            self._queue, self._is_stored = queue, is_stored
            self._tell({"open": True})
        self.start()
        self._attendant.start()

    def use(self, choice: EngineChoice) -> None:
        """Let the workers train otherwise, from their next models on."""
        with self._change:
            self._queue.use(choice.chunk_size)
            self._tell({"use": choice.to_dict()})

    def _tell(self, request: dict[str, Any]) -> None:
        """Send a request to all workers, and to those that come later."""
        self._opening.append(request)
        for worker in self._workers:
            worker.ask(request)

    def take(self) -> list[int]:
        """Models for this process to train; none when it has to wait for what the workers do, or all is done."""
        with self._change:
            return self._queue.take() if self._queue.is_fresh and self._failure is None else []

    def stored(self) -> list[int]:
        """The models that workers have stored since this was last asked.

        Raises:
            MemauditError: A worker failed, or workers were killed on the same models again and again.
        """
        with self._change:
            stored, self._stored = self._stored, []
            if not stored and self._failure is not None:
                raise self._failure
            return stored

    def wait(self) -> bool:
        """Wait until there is news of the workers, or models to take; whether anything remains to be waited for."""
        with self._change:
            while True:
                if self._stored or self._failure is not None or self._queue.is_fresh:
                    return True
                if not self._queue.remains and not any(worker.lease for worker in self._workers):
                    return False
                if not self._workers:
                    raise TrainingError(
                        f"models remain on which worker processes ended, and {self._most_starts} new ones ended before "
                        "they began; executor='sequential' trains in this process. What is stored is kept"
                    )
                self._change.wait()

    def _attend(self) -> None:
        """Take what the workers report, and give them more to do, until the pool ends."""
        self._selector.register(self._wakened, selectors.EVENT_READ)
        while self._failure is None:
            events = self._selector.select()
            with self._change:
                if self._has_ended:
                    return
                try:
                    for key, _ in events:
                        self._hear(key.data)
                    self._hand_out()
                except BaseException as failure:  # for the thread that trains, before it sees that a worker is gone
                    self._failure = failure
                self._change.notify_all()

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.is_ready and not worker.lease and self._queue.remains:
                worker.train(self._queue.take_as_worker(), at_once=self._queue.size)

    def _hear(self, worker: _Worker) -> None:
        messages, ended = worker.read()
        for message in messages:
            match message["event"]:
                case "ready":
                    worker.is_ready = True
                    self._failed_starts = 0
                case "stored":
                    worker.lease.remove(message["model_id"])
                    self._stored.append(message["model_id"])
                case "failed":
                    raise rebuild(message)
        if ended:
            self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        self._selector.unregister(worker.answers)
        self._workers.remove(worker)
        why = worker.last_words()
        if worker.is_ready:
            stored = [k for k in worker.lease if self._is_stored(k)]
            self._stored += stored
            rest = [model_id for model_id in worker.lease if model_id not in stored]
            self._queue.give_back(rest, why=why, at_once=worker.at_once)
        else:
            self._failed_starts += 1
        if self._failed_starts < self._most_starts:
            self._hire(worker.index)
        else:
            _log.warning("one worker process less: %d in a row ended before they began (%s)", self._most_starts, why)

    def _hire(self, index: int) -> None:
        try:
            worker = _Worker.start(self._command, self.folder, index, self._n_threads)
        except OSError as error:  # too many processes, no memory for another, a full disk
            _log.warning("one worker process less: it cannot be started (%s)", error)
            return
        self._workers.append(worker)
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        for request in self._opening:
            worker.ask(request)


@dataclass(slots=True, eq=False)
class _Worker:
    index: int
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    errors: IO[bytes]
    lease: list[int] = field(default_factory=list)
    at_once: int = 1
    is_ready: bool = False
    unread: bytes = b""

    @classmethod
    def start(cls, command: Sequence[str], folder: Path, index: int, n_threads: int) -> _Worker:
        errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the worker lives
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*command, str(folder), str(n_threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(index, n_threads),
                start_new_session=True,  # Ctrl-C is for this process, which ends its workers
            )
        except OSError:
            errors.close()
            raise
        return cls(index, process, cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout), errors)

    def train(self, model_ids: list[int], *, at_once: int) -> None:
        self.lease, self.at_once = model_ids, at_once
        self.ask({"train": model_ids})

    def ask(self, request: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # it has died, which reading from it will show
            self.requests.write(json.dumps(request).encode() + b"\n")
            self.requests.flush()

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The messages that have arrived, and whether the worker has ended."""
        content = os.read(self.answers.fileno(), 2**16)
        *lines, self.unread = (self.unread + content).split(b"\n")
        return [json.loads(line) for line in lines], not content

    def end(self) -> None:
        """Kill the worker and the processes that it started (of a DataLoader, say)."""
        with suppress(ProcessLookupError, PermissionError):  # there is none any more
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.requests, self.answers, self.errors):
            with suppress(BrokenPipeError):  # a request that nobody reads any more
                stream.close()

    def last_words(self) -> str:
        """How a worker came to its end, which this makes sure of."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_SECONDS_TO_END)
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        self.end()
        code = self.process.returncode
        signalled = f" ({signal.Signals(-code).name})" if code < 0 else ""
        return f"exit code {code}{signalled}" + (f": {lines[-1][:200]}" if lines else "")


def _environment(index: int, n_threads: int) -> dict[str, str]:
    environment = os.environ | {"OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}
    if torch.cuda.is_available():
        environment["CUDA_VISIBLE_DEVICES"] = _device(index)
    package = str(Path(__file__).parents[3])
    if package not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):  # a checkout
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    return environment


def _device(index: int) -> str:
    visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    devices = visible or [str(device) for device in range(torch.cuda.device_count())]
    return devices[index % len(devices)]
