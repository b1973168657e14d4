"""Accuracy of each group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.metrics.counts import accuracy
from lightning_memaudit.metrics.group_counts import GroupCounts

if TYPE_CHECKING:
    from torch import Tensor


class SubgroupAccuracy(GroupCounts):
    """Accuracy of each of ``num_groups`` groups, for multiclass labels or logits.

    A group may be missing from a batch, from a process or from the data. (torchmetrics' ``BinaryGroupStatRates``
    shifts the other groups when one is missing from a batch, as of 1.9.) Its ``compute`` is a tensor, so log it group
    by group: ``self.log_dict({f"acc/{g}": a for g, a in enumerate(metric.compute())})``.

    Args:
        num_groups: G, the number of groups.
        validate_args: Check shapes and codes of every batch, which on a GPU waits for it.
        **kwargs: As for ``torchmetrics.Metric``.

    Raises:
        ArgumentError: ``num_groups`` is below 1; from ``update``, a malformed batch.

    Example:
        >>> import torch
        >>> metric = SubgroupAccuracy(num_groups=3)
        >>> metric.update(torch.tensor([1, 0, 2]), torch.tensor([1, 1, 2]), torch.tensor([0, 0, 2]))
        >>> metric.compute()
        tensor([0.5000,    nan, 1.0000])
    """

    higher_is_better: bool = True
    plot_legend_name: str = "Group"

    def compute(self) -> Tensor:
        """Accuracy by group, float32[G]; NaN for a group never seen. With G = 1 torchmetrics makes it a scalar."""
        return accuracy(self.correct, self.total)
