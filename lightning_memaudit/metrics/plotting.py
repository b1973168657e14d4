"""Plots of metrics in torchmetrics' own style."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor
    from torchmetrics import Metric


def plot_metric(metric: Metric, val: Tensor | Sequence[Tensor] | None, ax: Axes | None) -> tuple[Figure, Axes]:
    """Plot as torchmetrics does, and give the figure even when the axes are the caller's.

    Args:
        metric: The metric.
        val: Its result, or several in order; ``None``: the present one.
        ax: Where to draw; ``None``: a new figure.

    Returns:
        Figure and axes.

    Example:
        >>> from torchmetrics import MeanMetric
        >>> metric = MeanMetric()
        >>> metric.update(1.0)
        >>> figure, axes = plot_metric(metric, None, None)
        >>> axes.figure is figure
        True
    """
    from matplotlib import pyplot
    from torchmetrics.utilities.plot import plot_single_or_multi_val

    axes = pyplot.subplots()[1] if ax is None else ax
    plot_single_or_multi_val(
        metric.compute() if val is None else val,
        ax=axes,
        higher_is_better=metric.higher_is_better,
        name=type(metric).__name__,
        lower_bound=metric.plot_lower_bound,
        upper_bound=metric.plot_upper_bound,
        legend_name=metric.plot_legend_name,
    )
    return cast("Figure", axes.figure), axes
