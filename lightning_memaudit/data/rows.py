"""All examples of a DataLoader in memory, from which minibatches are gathered without a DataLoader."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.utils import _pytree as pytree

from lightning_memaudit.data.randomness import random_state, seeded
from lightning_memaudit.exceptions import UnsupportedDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch.utils.data import DataLoader

__all__ = [
    "CollatedRows",
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
_CHECKED_BATCHES = 4


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
    spec: pytree.TreeSpec

    def __len__(self) -> int:
        return len(self.leaves[0])

    def batch(self, indices: torch.Tensor) -> Any:
        """The minibatch of ``indices``; an index of several dimensions gives batches stacked alike."""
        return pytree.tree_unflatten([leaf[indices] for leaf in self.leaves], self.spec)

    def to(self, device: torch.device) -> TensorRows:
        """The same rows on a device."""
        return replace(self, leaves=tuple(leaf.to(device) for leaf in self.leaves))

    def save(self, path: Path) -> None:
        """Write the rows, for other processes to map."""
        torch.save({"leaves": self.leaves, "spec": pytree.treespec_dumps(self.spec)}, path)

    @classmethod
    def load(cls, path: Path) -> TensorRows:
        """Map rows that another process wrote: all processes share one copy in memory."""
        content = torch.load(path, mmap=True, weights_only=True)
        return cls(tuple(content["leaves"]), pytree.treespec_loads(content["spec"]))


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
    """Goes through rows in their own order, as a sequential DataLoader would.

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
        for indices in torch.split(torch.arange(len(self.rows)), self.batch_size):
            yield self.rows.batch(indices)


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
        NotInMemoryError: Too large, or reading draws random numbers or gives something else the second time.
    """
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
        if random_state() != before or not _equal([samples[i] for i in again], repeated):
            raise NotInMemoryError("reading the data set draws random numbers (augmentation), anew in every epoch")
        rows = _stacked(samples, collate)
        if rows is not None and _gathers(rows, samples, collate, loader.batch_size or 1):
            return rows
        if random_state() != before:
            raise NotInMemoryError("collate_fn draws random numbers, anew in every epoch")
    return CollatedRows(samples, collate)


def available_memory() -> float:
    """Bytes of main memory that are free, as far as the system tells."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):  # no such figure on this system
        return 4e9


def _fetch(loader: DataLoader[Any], indices: Sequence[int]) -> list[Any]:
    dataset: Any = loader.dataset
    if getattr(dataset, "__getitems__", None):
        return list(dataset.__getitems__(list(indices)))
    return [dataset[i] for i in indices]


def _stacked(samples: list[Any], collate: Callable[[list[Any]], Any]) -> TensorRows | None:
    columns: list[list[torch.Tensor]] = []
    spec: pytree.TreeSpec | None = None
    for start in range(0, len(samples), _COLLATED_AT_ONCE):
        part = samples[start : start + _COLLATED_AT_ONCE]
        leaves, part_spec = pytree.tree_flatten(collate(part))
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
    for size in (batch_size, 1, *[max(1, batch_size // 2)] * (_CHECKED_BATCHES - 2)):
        indices = torch.from_numpy(np.random.default_rng(size).permutation(len(samples))[:size])
        if not _equal(rows.batch(indices), collate([samples[i] for i in indices.tolist()])):
            return False
    return True


def _equal(first: Any, second: Any) -> bool:
    leaves, spec = pytree.tree_flatten(first)
    others, other_spec = pytree.tree_flatten(second)
    return bool(spec == other_spec) and all(_same(a, b) for a, b in zip(leaves, others, strict=True))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b))
    return bool(a is b or a == b or _content(a) == _content(b))


def _content(thing: Any) -> Any:
    return thing.tobytes() if hasattr(thing, "tobytes") else vars(thing) if hasattr(thing, "__dict__") else None


def _bytes(tree: Any) -> float:
    total = 0.0
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, torch.Tensor | np.ndarray):
            total += leaf.nbytes
        else:
            total += len(leaf) if isinstance(leaf, str | bytes) else 64
    return total
