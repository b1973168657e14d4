"""What the metrics of this package share: counts of right predictions and examples by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torchmetrics import Metric

from lightning_memaudit.functional.checks import as_positive_int
from lightning_memaudit.metrics.counts import check_batch, count_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["GroupCounts"]


class GroupCounts(Metric):
    """A metric that is computed from right predictions and examples of each of ``num_groups`` groups.

    Args:
        num_groups: G, the number of groups.
        validate_args: Check shapes and codes of every batch, which on a GPU waits for it.
        **kwargs: As for ``torchmetrics.Metric``.

    Raises:
        ArgumentError: ``num_groups`` is below 1; from ``update``, a malformed batch.
    """

    is_differentiable: bool = False
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

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Plot as torchmetrics does, and give the figure even when the axes are the caller's.

        Args:
            val: Result of ``compute`` or ``forward``, or several of them in order; ``None``: the present one.
            ax: Where to draw; ``None``: a new figure.

        Returns:
            Figure and axes.
        """
        from matplotlib import pyplot
        from torchmetrics.utilities.plot import plot_single_or_multi_val

        axes = pyplot.subplots()[1] if ax is None else ax
        plot_single_or_multi_val(
            self.compute() if val is None else val,
            ax=axes,
            higher_is_better=self.higher_is_better,
            name=type(self).__name__,
            lower_bound=self.plot_lower_bound,
            upper_bound=self.plot_upper_bound,
            legend_name=self.plot_legend_name,
        )
        return cast("Figure", axes.figure), axes
