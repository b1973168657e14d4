"""Distance between the best and the worst group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lightning_memaudit.metrics.counts import accuracy
from lightning_memaudit.metrics.group_counts import GroupCounts

if TYPE_CHECKING:
    from torch import Tensor


class SubgroupGap(GroupCounts):
    """Largest minus smallest accuracy of ``num_groups`` groups, a scalar.

    Over the groups seen so far. It is never negative, so chance alone makes it positive: describe with it, do not test.

    Args:
        num_groups: G, the number of groups.
        validate_args: Check shapes and codes of every batch, which on a GPU waits for it.
        **kwargs: As for ``torchmetrics.Metric``.

    Raises:
        ArgumentError: ``num_groups`` is below 1; from ``update``, a malformed batch.

    Example:
        >>> metric = SubgroupGap(num_groups=3)
        >>> metric.update(torch.tensor([1, 0, 2]), torch.tensor([1, 1, 2]), torch.tensor([0, 0, 2]))
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better: bool = False

    def compute(self) -> Tensor:
        """Largest minus smallest accuracy, float32 scalar; NaN while fewer than two groups were seen."""
        seen = self.total > 0
        values = accuracy(self.correct, self.total)
        gap = values.where(seen, -torch.inf).max() - values.where(seen, torch.inf).min()
        return gap.where(seen.sum() > 1, torch.nan)
