"""All examples of a DataLoader in memory, from which minibatches are gathered without a DataLoader."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle
import numpy as np
import torch

from lightning_memaudit.compat.torch import containers_missing, flatten, leaves_of, unflatten
from lightning_memaudit.data.equality import equal
from lightning_memaudit.data.randomness import random_state, seeded
from lightning_memaudit.exceptions import UnsupportedDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch.utils.data import DataLoader

__all__ = [
    "CollatedRows",
    "InMemoryData",
    "InMemoryLoader",
    "NotInMemoryError",
    "Rows",
    "TensorRows",
    "available_memory",
    "materialise",
]

_SAMPLE = 64  # rows that tell how much memory all of them take
_READ_TWICE = 256
_COLLATED_AT_ONCE = 1024
_CHECKED_ALONE = 64  # rows that are collated one by one; all, where samples differ in shape


class NotInMemoryError(UnsupportedDataError):
    """The examples cannot be kept in memory, or would not be the same there; the message says why."""


class Rows(Protocol):
    """Examples in memory."""

    def __len__(self) -> int:
        """How many there are."""
        ...  # pragma: no cover

    def batch(self, indices: torch.Tensor) -> Any:
        """The minibatch of some rows, as the loader's collate would make it."""
        ...  # pragma: no cover

    def to(self, device: torch.device) -> Rows:
        """The same rows on a device, as far as they are tensors."""
        ...  # pragma: no cover


@dataclass(frozen=True, slots=True, eq=False)
class TensorRows:
    """Examples whose minibatches are rows of stacked tensors.

    Attributes:
        leaves: Tensors of n rows each.
        spec: How they make up a batch.
    """

    leaves: tuple[torch.Tensor, ...]
    spec: Any

    def __len__(self) -> int:
        return len(self.leaves[0])

    def batch(self, indices: torch.Tensor) -> Any:
        """The minibatch of ``indices``; an index of several dimensions gives batches stacked alike."""
        return unflatten(self.gather(indices), self.spec)

    def gather(self, indices: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of a minibatch; row by row, which is three times as fast as indexing."""
        flat = indices.reshape(-1)
        return [leaf.index_select(0, flat).view(*indices.shape, *leaf.shape[1:]) for leaf in self.leaves]

    def to(self, device: torch.device) -> TensorRows:
        """The same rows on a device."""
        return replace(self, leaves=tuple(leaf.to(device) for leaf in self.leaves))

    def save(self, path: Path) -> None:
        """Write the rows, for other processes to map."""
        spec = torch.frombuffer(bytearray(cloudpickle.dumps(self.spec)), dtype=torch.uint8)
        torch.save({"leaves": self.leaves, "spec": spec}, path)

    @classmethod
    def load(cls, path: Path) -> TensorRows:
        """Map rows that another process wrote: all processes share one copy in memory."""
        content = torch.load(path, mmap=True, weights_only=True)
        spec = pickle.loads(content["spec"].numpy().tobytes())  # noqa: S301 - our own parent wrote it
        return cls(tuple(content["leaves"]), spec)


@dataclass(frozen=True, slots=True, eq=False)
class CollatedRows:
    """Examples that the user's own collate puts together anew for each minibatch.

    Attributes:
        samples: One sample a row.
        collate: The loader's ``collate_fn``.
    """

    samples: Sequence[Any]
    collate: Callable[[list[Any]], Any]

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: torch.Tensor) -> Any:
        """The minibatch of ``indices``."""
        return self.collate([self.samples[i] for i in indices.tolist()])

    def to(self, device: torch.device) -> CollatedRows:
        """These rows; their minibatches are moved one by one."""
        del device
        return self


@dataclass(frozen=True, slots=True, eq=False)
class InMemoryLoader:
    """Goes through rows in their own order and draws one random number, as a sequential DataLoader does.

    Attributes:
        rows: The examples.
        batch_size: Examples in a batch; the last one may be smaller.
    """

    rows: Rows
    batch_size: int

    @property
    def dataset(self) -> range:
        """Stands for the data set, of which only the length counts."""
        return range(len(self.rows))

    def __iter__(self) -> Iterator[Any]:
        torch.empty((), dtype=torch.int64).random_()
        for indices in torch.split(torch.arange(len(self.rows)), self.batch_size):
            yield self.rows.batch(indices)


@dataclass(frozen=True, slots=True, eq=False)
class InMemoryData:
    """The examples of a population in the memory of this process.

    Attributes:
        train: All training examples.
        scoring: Goes through the examples of each split; a split that cannot be kept in memory has its DataLoader.
    """

    train: Rows
    scoring: Mapping[str, Any]


def materialise(loader: DataLoader[Any], *, seed: int, limit: float | None = None) -> Rows:
    """Read every example of a loader's data set once.

    Args:
        loader: A plain loader over a map-style data set.
        seed: Seed under which the examples are read.
        limit: Bytes that they may take; None allows a quarter of the memory that is free.

    Returns:
        ``TensorRows`` where gathering rows of the collated whole gives the very batches that ``collate_fn`` makes,
        else ``CollatedRows``.

    Raises:
        NotInMemoryError: Too large; reading draws random numbers or gives something else the second time; or torch
            lacks what takes batches apart.
    """
    if reason := containers_missing():
        raise NotInMemoryError(reason)
    if loader.num_workers and loader.worker_init_fn is not None:
        raise NotInMemoryError("worker_init_fn, which may change what worker processes read")
    allowed = available_memory() / 4 if limit is None else limit
    n_examples = len(loader.dataset)  # type: ignore[arg-type]
    collate = loader.collate_fn
    with seeded(seed):
        before = random_state()
        head = _fetch(loader, range(min(_SAMPLE, n_examples)))
        needed = _bytes(head) / len(head) * n_examples
        if needed > allowed:
            raise NotInMemoryError(
                f"the data set would take about {needed / 1e9:.1f} GB in memory, and {allowed / 1e9:.1f} GB are allowed"
            )
        samples = _fetch(loader, range(n_examples))
        again = np.unique(np.linspace(0, n_examples - 1, min(_READ_TWICE, n_examples)).astype(int)).tolist()
        repeated = _fetch(loader, again)
        if random_state() != before or not equal([samples[i] for i in again], repeated):
            raise NotInMemoryError("reading the data set draws random numbers (augmentation), anew in every epoch")
        rows = _gathered(samples, collate, loader.batch_size or 1)
        if random_state() != before:
            raise NotInMemoryError("collate_fn draws random numbers, anew in every epoch")
    return CollatedRows(samples, collate) if rows is None else rows


def available_memory() -> float:
    """Bytes of main memory that can be had, as far as the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):  # no such figure on this system
        return 4e9


def _fetch(loader: DataLoader[Any], indices: Sequence[int]) -> list[Any]:
    dataset: Any = loader.dataset
    try:
        if getattr(dataset, "__getitems__", None):
            return list(dataset.__getitems__(list(indices)))
        return [dataset[i] for i in indices]
    except Exception as error:  # of a data set that counts on being in a worker process, or on being asked for a batch
        raise NotInMemoryError(f"a data set that raises {type(error).__name__} when it is read at once") from error


def _gathered(samples: list[Any], collate: Callable[[list[Any]], Any], batch_size: int) -> TensorRows | None:
    """The rows of which gathering some is the same as collating them, if there are such."""
    try:
        rows = _stacked(samples, collate)
        return rows if rows is not None and _gathers(rows, samples, collate, batch_size) else None
    except Exception:  # a collate that takes no batches but those it was written for
        return None


def _stacked(samples: list[Any], collate: Callable[[list[Any]], Any]) -> TensorRows | None:
    columns: list[list[torch.Tensor]] = []
    spec: Any = None
    for start in range(0, len(samples), _COLLATED_AT_ONCE):
        part = samples[start : start + _COLLATED_AT_ONCE]
        leaves, part_spec = flatten(collate(part))
        whole = all(isinstance(leaf, torch.Tensor) and leaf.ndim and len(leaf) == len(part) for leaf in leaves)
        if not leaves or not whole or part_spec != (spec or part_spec):
            return None
        spec = part_spec
        columns.append(leaves)
    shapes = {tuple((leaf.shape[1:], leaf.dtype, leaf.layout) for leaf in leaves) for leaves in columns}
    if spec is None or len(shapes) != 1:
        return None
    return TensorRows(tuple(torch.cat(parts) for parts in zip(*columns, strict=True)), spec)


def _gathers(rows: TensorRows, samples: list[Any], collate: Callable[[list[Any]], Any], batch_size: int) -> bool:
    """Whether gathering is the same as collating: not so when a collate pads, mixes or normalises a batch."""
    order = np.random.default_rng(batch_size).permutation(len(samples))
    n_alone = _CHECKED_ALONE if len({_shapes(sample) for sample in samples}) == 1 else len(samples)
    parts = [order[:batch_size], order[-batch_size:], order[: max(1, batch_size // 2)], *order[:n_alone, None]]
    return all(
        equal(rows.batch(torch.from_numpy(part)), collate([samples[i] for i in part.tolist()])) for part in parts
    )


def _shapes(sample: Any) -> tuple[Any, ...]:
    return tuple(getattr(leaf, "shape", None) for leaf in leaves_of(sample))


def _bytes(tree: Any) -> float:
    total = 0.0
    for leaf in leaves_of(tree):
        if isinstance(leaf, torch.Tensor | np.ndarray):
            total += leaf.nbytes
        else:
            total += len(leaf) if isinstance(leaf, str | bytes) else 64
    return total
