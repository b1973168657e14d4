"""The data module of the toy problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

if TYPE_CHECKING:
    import torch

__all__ = ["ToyDataModule"]


class ToyDataModule(LightningDataModule):
    """A training and a test data set in memory; batches are tuples (inputs, target).

    Args:
        train_dataset: The training examples, shuffled in every epoch.
        test_dataset: The test examples, in order.
        batch_size: Examples a batch.

    Example:
        >>> import torch
        >>> data = torch.utils.data.TensorDataset(torch.zeros(5, 1), torch.zeros(5, dtype=torch.long))
        >>> [len(target) for _, target in ToyDataModule(data, data, batch_size=4).train_dataloader()]
        [4, 1]
    """

    def __init__(self, train_dataset: TensorDataset, test_dataset: TensorDataset, *, batch_size: int = 32) -> None:
        super().__init__()
        self.train_dataset = train_dataset
        self.test_dataset = test_dataset
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """The training examples in random order."""
        return DataLoader(self.train_dataset, batch_size=self.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """The test examples in order."""
        return DataLoader(self.test_dataset, batch_size=self.batch_size)
