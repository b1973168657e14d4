"""Accuracy of the group that is worst off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lightning_memaudit.metrics.counts import accuracy
from lightning_memaudit.metrics.group_counts import GroupCounts

if TYPE_CHECKING:
    from torch import Tensor


class WorstGroupAccuracy(GroupCounts):
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

    higher_is_better: bool = True

    def compute(self) -> Tensor:
        """Smallest accuracy of a group seen, float32 scalar; NaN before any example."""
        seen = self.total > 0
        worst = accuracy(self.correct, self.total).where(seen, torch.inf).min()
        return worst.where(seen.any(), torch.nan)
