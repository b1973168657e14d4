"""The order in which a DataLoader draws its examples, without loading any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import RandomSampler, SequentialSampler, Subset

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

__all__ = ["EpochOrder"]


class EpochOrder:
    """The rows that a training loader draws in each epoch, from the same random numbers in the same order.

    A ``DataLoader`` takes two numbers from the global generator when an epoch begins: one for its worker processes, and
    one (by a shuffling sampler) for the permutation. So does this.

    Args:
        loader: A loader over ``torch.utils.data.Subset``, as ``SubsetDataModule.train_dataloader`` gives it.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        if not isinstance(loader.dataset, Subset):
            raise TypeError("EpochOrder needs a loader over a Subset")
        self._loader = loader
        self._rows = torch.as_tensor(loader.dataset.indices)
        self._started = False

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
        loader = self._loader
        if not (self._started and loader.persistent_workers and loader.num_workers):
            torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        self._started = True

    def draw(self) -> torch.Tensor:
        """The rows of one epoch in the order of drawing, int64[n]; ``batch_size`` of them make a batch."""
        positions = self._positions()
        if self._loader.drop_last:
            positions = positions[: len(positions) // self.batch_size * self.batch_size]
        return self._rows[positions]

    def _positions(self) -> torch.Tensor:
        sampler, n = self._loader.sampler, len(self._rows)
        if type(sampler) is SequentialSampler:
            return torch.arange(n)
        if type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == n:
            generator = sampler.generator
            if generator is None:
                generator = torch.Generator()
                generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
            drawn = torch.randperm(n, generator=generator)
            if sampler.generator is not None:
                torch.randperm(n, generator=generator)  # the sampler draws one more, of which it takes nothing
            return drawn
        return torch.as_tensor(list(sampler), dtype=torch.int64)
