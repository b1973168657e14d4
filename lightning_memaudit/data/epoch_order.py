"""The order in which a DataLoader draws its examples, without loading any."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import RandomSampler, SequentialSampler, Subset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data import DataLoader

__all__ = ["EpochOrder"]


class EpochOrder:
    """The rows that a training loader draws in each epoch, from the same random numbers in the same order.

    A ``DataLoader`` takes two numbers from the global generator when an epoch begins: one for its worker processes,
    unless they live on, and one (by a shuffling sampler) for the permutation. So does this. A sampler with a generator
    of its own draws only as far as batches are asked of it, which for worker processes is some batches ahead.

    Args:
        loader: A loader over ``torch.utils.data.Subset``, as ``SubsetDataModule.train_dataloader`` gives it.
        workers: The loader whose worker processes count; None takes ``loader``.
    """

    def __init__(self, loader: DataLoader[Any], *, workers: DataLoader[Any] | None = None) -> None:
        if not isinstance(loader.dataset, Subset):
            raise TypeError("EpochOrder needs a loader over a Subset")
        workers = loader if workers is None else workers
        self._loader = loader
        self._rows = torch.as_tensor(loader.dataset.indices)
        self._n_ahead = workers.num_workers * (workers.prefetch_factor or 0)
        self._workers_live_on = workers.num_workers > 0 and workers.persistent_workers
        self._started = False
        self._batches: Iterator[list[int]] = iter(())
        self._ahead: list[list[int]] = []

    @property
    def batch_size(self) -> int:
        """Examples in a batch; the last batch of an epoch may be smaller."""
        return self._loader.batch_size or 1

    def __len__(self) -> int:
        """Examples that are drawn in an epoch."""
        drawn = len(self._loader.sampler)  # type: ignore[arg-type]
        return drawn // self.batch_size * self.batch_size if self._loader.drop_last else drawn

    def start_epoch(self) -> None:
        """What ``iter(loader)`` draws."""
        if not (self._started and self._workers_live_on):
            torch.empty((), dtype=torch.int64).random_(generator=self._loader.generator)
        self.go_on()

    def go_on(self) -> None:
        """The part of ``start_epoch`` that is left when something else called ``iter`` on a loader without workers."""
        self._started = True
        self._batches = iter(self._loader.batch_sampler)  # type: ignore[arg-type]
        self._ahead = list(islice(self._batches, self._n_ahead))

    def draw(self, n_batches: int | None = None) -> torch.Tensor:
        """The rows of one epoch in the order of drawing, int64[n]; ``batch_size`` of them make a batch.

        Args:
            n_batches: How many batches are taken, one at least; None goes on until there are no more.
        """
        n = len(self) if n_batches is None else min(n_batches * self.batch_size, len(self))
        return self._rows[self._positions(n_batches)[:n]]

    def _positions(self, n_batches: int | None) -> torch.Tensor:
        sampler: Any = self._loader.sampler
        n = len(self._rows)
        if type(sampler) is SequentialSampler:
            return torch.arange(n)
        permutes = type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == n
        if permutes and sampler.generator is None and not self._n_ahead:  # as its __iter__, without the lists
            generator = torch.Generator()
            generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
            return torch.randperm(n, generator=generator)
        drawn = chain(self._ahead, islice(self._batches, n_batches))
        return torch.tensor(list(chain.from_iterable(drawn)), dtype=torch.int64)
