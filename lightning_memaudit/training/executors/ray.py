"""A Ray cluster: long-lived actors, each of which sets the data up once."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError, TrainingError
from lightning_memaudit.functional.checks import as_positive_int
from lightning_memaudit.training.engines.choice import EngineOptions, engines_to_try, record
from lightning_memaudit.training.engines.selection import decide
from lightning_memaudit.training.engines.tuning import compiled_where_it_pays
from lightning_memaudit.training.timing import Thresholds
from lightning_memaudit.training.workers.dispatch import (
    check_reachable,
    deal,
    serialized_run,
    shared_rows,
    stored_before,
    stored_since,
)
from lightning_memaudit.training.workers.remote_errors import describe, rebuild
from lightning_memaudit.training.workers.resources import using_threads
from lightning_memaudit.training.workers.serialization import pack
from lightning_memaudit.training.workers.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lightning_memaudit.training.engines.choice import ChosenEngine, EngineChoice, EngineName, Tuning
    from lightning_memaudit.training.run import Run
    from lightning_memaudit.training.workers.queue import ModelQueue

__all__ = ["Ray"]

_log = logging.getLogger(__name__)
_QUIET = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
_PATIENCE = 120.0  # seconds without a word from any actor
_LONGEST_ROOT = 32  # characters; the sockets in a session's folder take 60 more, of 104 to 107
_SECONDS_TO_END = 10.0  # of the processes of a cluster


@dataclass(frozen=True, slots=True)
class Ray:
    """Actors on a Ray cluster (extra ``[ray]``); the store must be one that all its nodes reach.

    Args:
        address: Of the cluster. None takes the one this process is connected to, else the one that ``RAY_ADDRESS``
            names or that ``ray start`` has started on this machine, else starts one on this machine, which ends with
            the audit and keeps its files in a folder that goes with it. ``"local"`` always starts one.
        n_workers: Actors, which start as the cluster finds room for them; None takes as many as the nodes that are up
            have room for.
        num_cpus: Cores of an actor, which are its threads.
        num_gpus: GPUs of an actor; a fraction shares one (Ray does not divide its memory).
        engine: How each actor trains: ``"trainer"``, ``"in-memory"`` or ``"ensemble"``; None takes the fastest that is
            right for the model.
        init: More arguments for ``ray.init``; by default it keeps its messages and its dashboard to itself.
        tuning: ``"full"``, or ``"off"``: neither compile a training step nor change how the C library keeps memory.
        thresholds: When faster engines are tried and taken.

    Raises:
        ArgumentError: A number is out of range, or there is no such engine or tuning.
    """

    address: str | None = None
    n_workers: int | None = None
    num_cpus: int = 1
    num_gpus: float = 0.0
    engine: EngineName | None = None
    init: Mapping[str, Any] = field(default_factory=dict)
    tuning: Tuning = "full"
    thresholds: Thresholds = field(default_factory=Thresholds)
    name: ClassVar[str] = "ray"

    def __post_init__(self) -> None:
        as_positive_int(self.num_cpus, name="num_cpus")
        if self.n_workers is not None:
            as_positive_int(self.n_workers, name="n_workers")
        if isinstance(self.num_gpus, bool) or not isinstance(self.num_gpus, int | float) or not self.num_gpus >= 0:
            raise ArgumentError(f"num_gpus={self.num_gpus!r}: a number of at least 0 is needed")
        engines_to_try(self.engine)
        EngineOptions(self.tuning)

    def train(self, run: Run, model_ids: Sequence[int], engine: ChosenEngine) -> Iterator[int]:
        """Train ``model_ids``.

        Raises:
            ConfigurationError: Ray is not installed or cannot be reached, no node has room for an actor, or other
                processes cannot reach the store.
            TrainingError: The user's code failed, or actors were killed again and again.
        """
        if not model_ids:
            return
        check_reachable(run.store)
        ray = _import_ray()
        options = EngineOptions(self.tuning, self.thresholds)
        with ExitStack() as own:
            if not ray.is_initialized():
                folder = {} if "_temp_dir" in self.init or not _starts_one(self.address) else _own_folder(own)
                own.callback(ray.shutdown)
                self._connect(ray, **folder)
            n_workers = min(self.n_workers or self._places(ray), len(model_ids))
            with using_threads(self.num_cpus):
                decision = decide(run, model_ids, engine, options, allowed=engines_to_try(self.engine))
                decision = engine.decision = compiled_where_it_pays(run, model_ids, decision, n_workers=n_workers)
            record(run, {**decision.choice.to_dict(), "processes": n_workers})
            damaged = stored_before(run, model_ids)
            queue = deal(model_ids, decision.choice, n_workers, multiple=self._leases_a_call(decision.choice))
            with tempfile.TemporaryDirectory(prefix="memaudit-", ignore_cleanup_errors=True) as name:
                pack(serialized_run(run, decision, damaged=damaged), Path(name), rows=shared_rows(decision))
                yield from _Cast(ray, self, Path(name), queue, stored_since(run, damaged)).play(n_workers)

    def _connect(self, ray: Any, **options: str) -> None:
        try:
            ray.init(address=self.address, **(_QUIET | options | dict(self.init)))
        except (OSError, RuntimeError, TypeError, ValueError, ray.exceptions.RayError) as error:
            raise ConfigurationError(
                f"executor='ray': ray.init(address={self.address!r}) failed ({type(error).__name__}: "
                f"{_first_line(error)}); check address= and init=, or take executor='process'"
            ) from error

    def _places(self, ray: Any) -> int:
        """Actors that the nodes have room for."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        places = sum(
            _fitting(node.get("CPU", 0.0), node.get("GPU", 0.0), self.num_cpus, self.num_gpus) for node in nodes
        )
        if not places:
            offers = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
            raise ConfigurationError(
                f"executor='ray': no node that is up has room for an actor of num_cpus={self.num_cpus}, "
                f"num_gpus={self.num_gpus:g} (they have {offers or 'nothing'}); ask for less, or say n_workers= to "
                "wait for a node that has"
            )
        return places

    def _leases_a_call(self, choice: EngineChoice) -> int:
        if choice.chunk_size > 1 or not choice.seconds_per_model:
            return 1
        return max(1, round(self.thresholds.call_seconds / choice.seconds_per_model))


def _starts_one(address: str | None) -> bool:
    """Whether ``ray.init`` would start a cluster, by its own rules."""
    if address in (None, "auto"):
        address = os.environ.get("RAY_ADDRESS") or address
    return address == "local" or (address is None and not Path(_ray_root(), "ray", "ray_current_cluster").exists())


def _ray_root() -> str:
    """The folder in which Ray keeps its own, ``ray``."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",)
    return next((os.environ[name] for name in names if name in os.environ), "/tmp")  # noqa: S108 - Ray's rule


def _own_folder(own: ExitStack) -> dict[str, str]:
    """The option that keeps a cluster's files together, in a folder that goes with ``own``.

    The token that Ray would write into the home folder is in the environment instead, for all clusters of this process:
    Ray remembers the first.
    """
    root = _ray_root()
    folder = tempfile.mkdtemp(prefix="ma", dir=root if len(root) <= _LONGEST_ROOT else "/tmp")  # noqa: S108
    own.callback(_remove, Path(folder))
    if "RAY_AUTH_TOKEN_PATH" not in os.environ and not (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return {"_temp_dir": folder}


def _remove(folder: Path) -> None:
    """Remove the folder of a cluster that was shut down, whose processes may still be writing."""
    deadline = time.monotonic() + _SECONDS_TO_END
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


def _fitting(cpus: float, gpus: float, num_cpus: int, num_gpus: float) -> int:
    places = int(cpus // num_cpus)
    return min(places, int(gpus / num_gpus + 1e-9)) if num_gpus else places


class _Trainer:
    """What runs in an actor; its methods answer in messages, as worker processes do."""

    def __init__(self, n_threads: int) -> None:
        import torch

        torch.set_num_threads(n_threads)
        self._session: Session | None = None

    def open(self, folder: str, files: Mapping[str, bytes] | None) -> dict[str, Any]:
        """Set the population up from the driver's folder, if this is its machine, else from the files."""
        try:
            if files is None and not Path(folder).is_dir():
                return {"event": "elsewhere"}
            if files is None:
                self._session = Session.open(Path(folder))
            else:
                with tempfile.TemporaryDirectory(prefix="memaudit-") as own:  # what is mapped outlives its name
                    for name, content in files.items():
                        (Path(own) / name).write_bytes(content)
                    self._session = Session.open(Path(own))
        except BaseException as error:
            return {"event": "failed", **describe(error)}
        return {"event": "ready"}

    def train(self, model_ids: list[int]) -> dict[str, Any]:
        """Train some models."""
        assert self._session is not None  # noqa: S101 - the driver opens before it trains
        try:
            return {"event": "idle", "stored": list(self._session.train(model_ids))}
        except BaseException as error:
            return {"event": "failed", **describe(error)}


class _Cast:
    """The actors of one run, and what each of them has in hand."""

    def __init__(
        self, ray: Any, options: Ray, folder: Path, queue: ModelQueue, is_stored: Callable[[int], bool]
    ) -> None:
        self._ray = ray
        self._options = options
        self._folder = folder
        self._queue = queue
        self._is_stored = is_stored
        self._kind = ray.remote(num_cpus=options.num_cpus, num_gpus=options.num_gpus)(_Trainer)
        self._actors: list[Any] = []
        self._calls: dict[Any, tuple[Any, list[int]]] = {}  # what each call is of; an empty list while it opens
        self._idle: list[Any] = []
        self._files: Any = None
        self._failed_starts, self._has_started = 0, False

    def play(self, size: int) -> Iterator[int]:
        """Run through the queue with so many actors; yields the models that they stored."""
        try:
            for _ in range(size):
                self._hire()
            while self._queue.remains or self._is_busy:
                while self._idle and self._queue.remains:
                    self._ask(self._idle.pop(), self._queue.take_as_worker())
                done, _ = self._ray.wait(list(self._calls), timeout=_PATIENCE)
                if not done and not self._has_started:
                    _log.warning("executor='ray': no actor has started for %.0f s; is the cluster full?", _PATIENCE)
                for call in done:
                    yield from self._heed(call)
        finally:
            for actor in self._actors:
                self._ray.kill(actor)

    @property
    def _is_busy(self) -> bool:
        return any(lease for _, lease in self._calls.values())

    def _hire(self) -> None:
        actor = self._kind.remote(self._options.num_cpus)
        self._actors.append(actor)
        self._open(actor, None)

    def _open(self, actor: Any, files: Any) -> None:
        self._calls[actor.open.remote(str(self._folder), files)] = (actor, [])

    def _ask(self, actor: Any, lease: list[int]) -> None:
        self._calls[actor.train.remote(lease)] = (actor, lease)

    def _heed(self, call: Any) -> Iterator[int]:
        actor, lease = self._calls.pop(call)
        try:
            message = self._ray.get(call)
        except self._ray.exceptions.RayError as death:
            yield from self._replace(actor, lease, why=_reason(death))
            return
        match message["event"]:
            case "failed":
                raise rebuild(message)
            case "elsewhere":
                self._open(actor, self._put_files())
                return
            case "ready":
                self._failed_starts, self._has_started = 0, True
            case "idle":
                yield from message["stored"]
        self._idle.append(actor)

    def _put_files(self) -> Any:
        if self._files is None:
            self._files = self._ray.put({path.name: path.read_bytes() for path in self._folder.iterdir()})
        return self._files

    def _replace(self, actor: Any, lease: list[int], *, why: str) -> Iterator[int]:
        self._actors.remove(actor)
        self._ray.kill(actor)  # it may be out of reach only
        if lease:
            stored = [k for k in lease if self._is_stored(k)]
            yield from stored
            self._queue.give_back([model_id for model_id in lease if model_id not in stored], why=why)
        else:
            self._failed_starts += 1
            if self._failed_starts >= self._options.thresholds.actor_starts:
                raise TrainingError(
                    f"executor='ray': {self._failed_starts} actors in a row ended before they began ({why}). What is "
                    "stored is kept. Is lightning_memaudit installed on all nodes, and is there memory for an actor?"
                )
        self._hire()


def _reason(death: Exception) -> str:
    """The telling line of Ray's account of a death, without its list of common causes."""
    lines = [line.strip() for line in str(death).splitlines() if line.strip()]
    telling = lines[-1].partition(" Some common causes")[0] if lines else type(death).__name__
    return (telling.partition("Worker exit detail: ")[2] or telling).rstrip(".")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError(
            "executor='ray': Ray is not installed; pip install 'lightning-memaudit[ray]', or executor='process'"
        ) from error
    return ray
