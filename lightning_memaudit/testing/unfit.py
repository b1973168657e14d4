"""A learner that does not fit its training set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule

from lightning_memaudit.exceptions import ArgumentError

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["ConstantLearner"]


class ConstantLearner(LightningModule):
    """Answers one class whatever it saw, such as the most frequent one: it memorizes nothing because it fits nothing.

    An audit of it must say "not fitted", not "not memorized". Inputs of any shape [B, ...] do.

    Args:
        n_classes: Number of classes ``C``, at least 2.
        prediction: The class that it answers.
        lr: Learning rate of its only parameter, the bias. Above 0 it learns the frequencies of the classes.

    Raises:
        ArgumentError: ``prediction`` is no class.

    Example:
        >>> ConstantLearner(3, prediction=2)(torch.zeros(2, 5)).argmax(1)
        tensor([2, 2])
    """

    def __init__(self, n_classes: int, prediction: int = 0, lr: float = 0.0) -> None:
        super().__init__()
        if n_classes < 2 or not 0 <= prediction < n_classes:
            raise ArgumentError(f"prediction={prediction}, n_classes={n_classes}: one class of at least 2 is needed")
        self.save_hyperparameters()
        self.lr = lr
        self.bias = torch.nn.Parameter(torch.zeros(n_classes).index_fill(0, torch.tensor(prediction), 5.0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits[B, C], the same in every row."""
        return self.bias.expand(len(inputs), -1)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """The cross-entropy."""
        inputs, labels = batch
        return torch.nn.functional.cross_entropy(self(inputs), labels)

    def configure_optimizers(self) -> Optimizer:
        """Gradient descent, by default with steps of 0."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)
