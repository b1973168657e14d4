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
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch

import lightning_memaudit
from lightning_memaudit.exceptions import TrainingError
from lightning_memaudit.training.executors.work import Work
from lightning_memaudit.training.failure import rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Crew"]

_log = logging.getLogger(__name__)
_COMMAND = (sys.executable, "-P", "-m", "lightning_memaudit.training.worker")  # -P: not from the working directory
_STARTS = 5  # in a row that fail
_SECONDS_TO_END = 5.0  # of a worker that has closed its pipe


class Crew:
    """The worker processes of one run: a context in which they and the folder of their parcel live.

    They may be started before the parcel is made, so that they import while a way of training is chosen.

    Args:
        size: Workers.
        n_threads: Threads of each.

    Attributes:
        is_started: Whether the workers were started.
    """

    def __init__(self, *, size: int, n_threads: int) -> None:
        self.size = size
        self.is_started = False
        self._n_threads = n_threads
        self._failed_starts = 0
        self._is_open = False
        self._work: Work = Work((), size=1, n_workers=1)
        self._is_stored: Callable[[int], bool] = bool
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def beside_this_process(cls, n_workers: int) -> Crew:
        """Those that make ``n_workers`` processes together with this one, each with as many threads as this one."""
        return cls(size=n_workers - 1, n_threads=torch.get_num_threads())

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._selector.close()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """Of the parcel; it is made when it is first asked for."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="memaudit-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def start(self) -> None:
        """Start the workers, if that has not been done; they wait for ``open``."""
        if not self.is_started:
            self.is_started = True
            for index in range(self.size):
                self._hire(index + 1)  # this process is the first

    def open(self, work: Work, is_stored: Callable[[int], bool]) -> None:
        """Let the workers unpack the parcel, which is in ``folder`` by now.

        Args:
            work: What is to be trained.
            is_stored: Whether a model is recorded by now.
        """
        self._work, self._is_stored, self._is_open = work, is_stored, True
        for worker in self._workers:
            worker.open()
        self.start()

    @property
    def is_busy(self) -> bool:
        """Whether a worker has models in hand."""
        return any(worker.leases for worker in self._workers)

    def attend(self, *, wait: bool) -> Iterator[int]:
        """Take what the workers report, and give them more to do; yields the models that they stored.

        Args:
            wait: Until there is something to take, if anything is under way.

        Raises:
            MemauditError: A worker failed, or workers were killed on the same models again and again.
        """
        if self._work.remains and not self._work.is_fresh and not self._workers:
            raise TrainingError(
                f"models remain on which worker processes ended, and {_STARTS} new ones ended before they began; "
                "executor='sequential' trains in this process. What is stored is kept"
            )
        self._hand_out()
        yield from self._listen(timeout=0)
        if not self._work.remains and self._take_back():
            return
        if wait and not self._work.is_fresh and (self.is_busy or self._work.remains):
            yield from self._listen(timeout=None)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give the workers something to do, also those that have not started yet."""
        for worker in self._workers:
            n_leases = 2 if worker.is_ready and self._work.is_plenty else 1  # so that none need wait for the next
            while len(worker.leases) < n_leases and (self._work.remains if worker.is_ready else self._work.is_fresh):
                worker.send(self._work.take_as_worker())

    def _take_back(self) -> bool:
        """Take a lease from a worker that has not started, for this process, which has nothing else to do."""
        for worker in reversed(self._workers):
            if worker.leases and not worker.is_ready:
                self._dismiss(worker)
                worker.end()
                self._work.return_untouched(worker.leases.popleft())
                return True
        return False

    def _listen(self, timeout: float | None) -> Iterator[int]:
        for key, _ in self._selector.select(timeout):
            worker: _Worker = key.data
            messages, ended = worker.read()
            for message in messages:
                yield from self._heed(worker, message)
            if ended:
                yield from self._replace(worker)

    def _heed(self, worker: _Worker, message: dict[str, Any]) -> Iterator[int]:
        match message["event"]:
            case "ready":
                worker.is_ready = True
                self._failed_starts = 0
            case "stored":
                worker.leases[0].remove(message["model_id"])
                yield message["model_id"]
            case "idle":
                worker.leases.popleft()
            case "failed":
                raise rebuild(message)

    def _replace(self, worker: _Worker) -> Iterator[int]:
        self._dismiss(worker)
        why = worker.last_words()
        begun, *untouched = [lease for lease in worker.leases if lease] or [[]]
        if worker.is_ready:
            stored = [k for k in begun if self._is_stored(k)]
            yield from stored
            self._work.return_untouched([model_id for lease in untouched for model_id in lease])
            self._work.give_back([model_id for model_id in begun if model_id not in stored], why=why)
        else:
            self._work.return_untouched(begun)
            self._failed_starts += 1
        if self._failed_starts < _STARTS:
            self._hire(worker.index)
        else:
            _log.warning("one worker process less: %d in a row ended before they began (%s)", _STARTS, why)

    def _dismiss(self, worker: _Worker) -> None:
        self._selector.unregister(worker.answers)
        self._workers.remove(worker)

    def _hire(self, index: int) -> None:
        try:
            worker = _Worker.start(self.folder, index, self._n_threads)
        except OSError as error:  # too many processes, no memory for another, a full disk
            _log.warning("one worker process less: it cannot be started (%s)", error)
            return
        self._workers.append(worker)
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        if self._is_open:
            worker.open()


@dataclass(slots=True, eq=False)
class _Worker:
    index: int
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    errors: IO[bytes]
    leases: deque[list[int]] = field(default_factory=deque)
    is_ready: bool = False
    unread: bytes = b""

    @classmethod
    def start(cls, folder: Path, index: int, n_threads: int) -> _Worker:
        errors = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the worker lives
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*_COMMAND, str(folder), str(n_threads)],
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

    def open(self) -> None:
        self._ask("open", True)

    def send(self, model_ids: list[int]) -> None:
        self.leases.append(model_ids)
        self._ask("train", model_ids)

    def _ask(self, what: str, of: Any) -> None:
        with suppress(BrokenPipeError):  # it has died, which reading from it will show
            self.requests.write(json.dumps({what: of}).encode() + b"\n")
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
    package = str(Path(lightning_memaudit.__file__).parents[1])
    if package not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):  # a checkout
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    return environment


def _device(index: int) -> str:
    visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    devices = visible or [str(device) for device in range(torch.cuda.device_count())]
    return devices[index % len(devices)]
