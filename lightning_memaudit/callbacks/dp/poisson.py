"""Poisson samples of a training set: every example enters the batch of a step by a coin of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from scipy import stats
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from lightning_memaudit.exceptions import UnsupportedDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.utils.data import Dataset

__all__ = ["Draw", "PoissonLoader", "PoissonSampler", "check_loader", "parts_needed", "poisson_loader"]

_OVERFLOW = 1e-9  # probability that a batch has more than ``max_physical_batch_size`` examples in a part


@dataclass(slots=True)
class Draw:
    """The sample that the current batch came from.

    Attributes:
        number: Counts the batches.
        n_examples: How many examples were drawn; 0 for an empty sample, for which one example stands in.
    """

    number: int = 0
    n_examples: int = 0


class PoissonSampler(DistributedSampler[list[int]]):
    """Yields the indices of Poisson samples, each split into parts of equal size.

    Every process draws the same samples and takes its share of each. (Lightning leaves a loader alone that has a
    ``DistributedSampler``.)

    Args:
        dataset: The training examples.
        sample_rate: Probability that an example is drawn.
        steps: Samples an epoch.
        generator: Source of the coins, in the same state in all processes.
        parts: Batches that a sample is split into.
        rank: Which process this is.
        world_size: Number of processes.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        sample_rate: float,
        steps: int,
        generator: torch.Generator,
        parts: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank)
        self.sample_rate = sample_rate
        self.steps = steps
        self.parts = parts
        self.generator = generator

    def __len__(self) -> int:
        return self.steps * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        n_examples = len(self.dataset)  # type: ignore[arg-type]
        for _ in range(self.steps):
            coins = torch.rand(n_examples, generator=self.generator, dtype=torch.float64)
            drawn = (coins < self.sample_rate).nonzero().flatten()
            for part in drawn[self.rank :: self.num_replicas].tensor_split(self.parts):
                yield part.tolist()


class PoissonLoader(DataLoader[Any]):
    """A loader over a ``PoissonSampler`` that says of each batch how many examples were drawn for it."""

    draw: Draw

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for n_examples, batch in super().__iter__():
            self.draw.number += 1
            self.draw.n_examples = n_examples
            yield batch


@dataclass(slots=True)
class _Collate:
    """The user's collate function, with one example in place of none, beside the number of examples."""

    function: Callable[[list[Any]], Any]
    dataset: Dataset[Any]

    def __call__(self, samples: list[Any]) -> tuple[int, Any]:
        return len(samples), self.function(samples or [self.dataset[0]])


def poisson_loader(loader: DataLoader[Any], draw: Draw, **sampling: Any) -> PoissonLoader:
    """The user's loader over Poisson samples; workers, collate function and memory pinning are kept.

    Args:
        loader: A loader that ``check_loader`` let pass.
        draw: Filled in with every batch.
        sampling: Arguments of ``PoissonSampler``.
    """
    sampler = PoissonSampler(loader.dataset, **sampling)
    made = PoissonLoader(
        loader.dataset,
        batch_sampler=sampler,
        num_workers=loader.num_workers,
        collate_fn=_Collate(loader.collate_fn, loader.dataset),
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
    # For those who read a loader: with a batch_sampler torch itself uses neither, and forbids to set them.
    vars(made).update(draw=draw, sampler=sampler, batch_size=loader.batch_size)
    return made


def check_loader(loader: object) -> DataLoader[Any]:
    """The loader itself, when Poisson samples can take the place of its batches.

    Raises:
        UnsupportedDataError: It is not one plain, shuffled or sequential ``DataLoader`` over a map-style data set.
    """
    kind = type(loader).__name__
    if isinstance(loader, dict | list | tuple) or kind == "CombinedLoader":
        raise UnsupportedDataError(
            f"the training loader is a {kind}: DifferentialPrivacy accounts for one DataLoader; join the data sets "
            "with torch.utils.data.ConcatDataset"
        )
    if type(loader) is not DataLoader:
        raise UnsupportedDataError(
            f"the training loader is a {kind}: DifferentialPrivacy draws its own Poisson samples, from one plain "
            "torch.utils.data.DataLoader; return that"
        )
    if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
        raise UnsupportedDataError(
            f"the training data set ({type(loader.dataset).__name__}) has no numbered rows, from which Poisson samples "
            "could be drawn; use a map-style data set (with __len__ and __getitem__)"
        )
    if loader.batch_size is None:
        raise UnsupportedDataError(
            "the training DataLoader has no batch_size (a batch_sampler of its own, or batch_size=None), and Poisson "
            "samples replace its batches; use batch_size= and shuffle=True"
        )
    sampler, n_examples = loader.sampler, len(loader.dataset)
    whole = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == n_examples
    )
    if not whole:
        raise UnsupportedDataError(
            f"the sampler {type(sampler).__name__} of the training DataLoader would be replaced by Poisson samples, in "
            "which all examples are equally likely; use shuffle=True (over torch.utils.data.Subset(dataset, indices) "
            "where only some rows are meant)"
        )
    if not n_examples or not len(loader):
        raise UnsupportedDataError(
            f"the training DataLoader gives no batch ({n_examples} examples, batch_size={loader.batch_size}, "
            f"drop_last={loader.drop_last}); add examples, or lower batch_size"
        )
    return loader


def parts_needed(n_examples: int, sample_rate: float, max_physical_batch_size: int | None, world_size: int = 1) -> int:
    """Into how many parts every sample is split, so that practically none has more examples than fit into memory.

    The number is the same for all samples, so that Lightning accumulates and counts them as it always does.

    Example:
        >>> parts_needed(10_000, 0.0512, 128), parts_needed(10_000, 0.0512, None)
        (6, 1)
    """
    if max_physical_batch_size is None:
        return 1
    largest: int = math.ceil(stats.binom.isf(_OVERFLOW, n_examples, sample_rate) / world_size)
    return max(1, math.ceil(largest / max_physical_batch_size))
