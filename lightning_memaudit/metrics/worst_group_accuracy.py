"""Accuracy of the group that is worst off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchmetrics import Metric

from lightning_memaudit.functional.checks import as_positive_int
from lightning_memaudit.metrics.counts import accuracy, check_batch, count_batch
from lightning_memaudit.metrics.plotting import plot_metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor


class WorstGroupAccuracy(Metric):
    """Accuracy of the worst of ``num_groups`` groups, a scalar to log and to monitor.

    Over the groups seen so far: a group that the validation data lacks cannot make it NaN, nor pass for perfect.

    Args:
        num_groups: G, the number of groups.
        validate_args: Check shapes and codes of every batch, which on a GPU waits for it.
        **kwargs: As for ``torchmetrics.Metric``.

    Raises:
        ArgumentError: ``num_groups`` is below 1; from ``update``, a malformed batch.

    Example:
        >>> metric = WorstGroupAccuracy(num_groups=3)
        >>> metric.update(torch.tensor([1, 0, 2]), torch.tensor([1, 1, 2]), torch.tensor([0, 0, 2]))
        >>> metric.compute()
        tensor(0.5000)
    """

    is_differentiable: bool = False
    higher_is_better: bool = True
    full_state_update: bool = False
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 1.0
    correct: Tensor
    total: Tensor

    def __init__(self, num_groups: int, *, validate_args: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_groups = as_positive_int(num_groups, name="num_groups")
        self.validate_args = validate_args
        self.add_state("correct", torch.zeros(num_groups, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(num_groups, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, groups: Tensor) -> None:
        """Add a batch.

        Args:
            preds: Predicted labels [N], or logits or probabilities [N, C].
            target: Labels [N].
            groups: Group of each example [N], in [0, num_groups).
        """
        if self.validate_args:
            check_batch(preds, target, groups, self.num_groups)
        correct, total = count_batch(preds, target, groups, self.num_groups)
        self.correct += correct
        self.total += total

    def compute(self) -> Tensor:
        """Smallest accuracy of a group seen, float32 scalar; NaN before any example."""
        seen = self.total > 0
        worst = accuracy(self.correct, self.total).where(seen, torch.inf).min()
        return worst.where(seen.any(), torch.nan)

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Plot one value, or a line over several.

        Args:
            val: Result of ``compute`` or ``forward``, or several of them in order; ``None``: the present one.
            ax: Where to draw; ``None``: a new figure.

        Returns:
            Figure and axes.
        """
        return plot_metric(self, val, ax)
