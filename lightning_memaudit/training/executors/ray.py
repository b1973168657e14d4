"""A Ray cluster: long-lived actors, each of which holds the data once."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.training.choice import decide
from lightning_memaudit.training.executors.process import make_parcel
from lightning_memaudit.training.executors.work import Work
from lightning_memaudit.training.parcel import pack
from lightning_memaudit.training.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.choice import Engine
    from lightning_memaudit.training.task import Population

__all__ = ["Ray"]


@dataclass(frozen=True, slots=True)
class Ray:
    """Actors on a Ray cluster (extra ``[ray]``); the store must be one that all its nodes reach.

    Args:
        address: Of the cluster; None takes the one this process is connected to or ``RAY_ADDRESS`` names, else starts
            one on this machine, which ends with the audit.
        n_actors: Actors; None takes one for each ``num_cpus`` (or ``num_gpus``) that the cluster has.
        num_cpus: Cores of an actor, which are its threads.
        num_gpus: GPUs of an actor; a fraction shares one (Ray does not divide its memory).
        engine: How each actor trains; None takes the fastest that is right for the model.
        init: More arguments for ``ray.init``.

    Raises:
        ArgumentError: A number is out of range.
    """

    address: str | None = None
    n_actors: int | None = None
    num_cpus: int = 1
    num_gpus: float = 0.0
    engine: Engine | None = None
    init: Mapping[str, Any] = field(default_factory=dict)
    name: ClassVar[str] = "ray"

    def __post_init__(self) -> None:
        if (self.n_actors is not None and self.n_actors < 1) or self.num_cpus < 1 or self.num_gpus < 0:
            raise ArgumentError(
                f"n_actors={self.n_actors!r}, num_cpus={self.num_cpus!r}, num_gpus={self.num_gpus!r}: at least one "
                "actor of one core is needed, and no negative number of GPUs"
            )

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
        ray = _import_ray()
        allowed: tuple[Engine, ...] = ("in-memory", "ensemble") if self.engine is None else (self.engine,)
        decision = decide(population, plan, model_ids, store, allowed=allowed)
        ours = not ray.is_initialized()
        if ours:
            ray.init(**({} if self.address is None else {"address": self.address}), **self.init)
        try:
            rows = decision.data.train if decision.data is not None else None
            files = _packed(
                make_parcel(population, plan, store, decision, notes), rows if isinstance(rows, TensorRows) else None
            )
            work = Work(model_ids, decision.choice.chunk_size, self._n_actors(ray))
            yield from _Actors(ray, self, ray.put(files), self._n_actors(ray)).train(work, store)
        finally:
            if ours:
                ray.shutdown()

    def _n_actors(self, ray: Any) -> int:
        if self.n_actors is not None:
            return self.n_actors
        resources = ray.cluster_resources()
        if self.num_gpus:
            return max(1, int(resources.get("GPU", 0) / self.num_gpus))
        return max(1, int(resources.get("CPU", 1) // self.num_cpus))


class _Trainer:
    """What runs in an actor."""

    def __init__(self, files: Mapping[str, bytes], n_threads: int) -> None:
        import torch

        torch.set_num_threads(n_threads)
        self._folder = tempfile.TemporaryDirectory(prefix="memaudit-", ignore_cleanup_errors=True)
        for name, content in files.items():
            (Path(self._folder.name) / name).write_bytes(content)
        self._session = Session.open(Path(self._folder.name))

    def train(self, model_ids: list[int]) -> list[int]:
        return list(self._session.train(model_ids))


class _Actors:
    def __init__(self, ray: Any, options: Ray, files: Any, size: int) -> None:
        self._ray = ray
        self._options = options
        self._files = files
        self._size = size
        self._kind = ray.remote(num_cpus=options.num_cpus, num_gpus=options.num_gpus)(_Trainer)

    def train(self, work: Work, store: OutcomeStore) -> Iterator[int]:
        ray = self._ray
        actors = [self._hire() for _ in range(self._size)]
        calls: dict[Any, tuple[Any, list[int]]] = {}
        try:
            while work.remains or calls:
                idle = [actor for actor in actors if all(actor is not busy for busy, _ in calls.values())]
                for actor in idle:
                    if work.remains:
                        lease = work.take()
                        calls[actor.train.remote(lease)] = (actor, lease)
                (done, *_), _ = ray.wait(list(calls))
                actor, lease = calls.pop(done)
                try:
                    yield from ray.get(done)
                except ray.exceptions.RayActorError as death:
                    stored = [model_id for model_id in lease if store.has(model_id)]
                    yield from stored
                    reason = str(death).partition("\n")[0]
                    work.give_back([model_id for model_id in lease if model_id not in stored], why=reason)
                    actors = [self._hire() if other is actor else other for other in actors]
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
        finally:
            for actor in actors:
                ray.kill(actor)

    def _hire(self) -> Any:
        return self._kind.remote(self._files, self._options.num_cpus)


def _packed(parcel: Any, rows: TensorRows | None) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="memaudit-") as name:
        pack(parcel, Path(name), rows=rows)
        return {path.name: path.read_bytes() for path in Path(name).iterdir()}


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError(
            "executor='ray': Ray is not installed; pip install 'lightning-memaudit[ray]', or executor='process'"
        ) from error
    return ray
