"""The figure of the section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_memaudit.sections.canvas import figure_of, new_axes
from lightning_memaudit.sections.section import Drawing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

__all__ = ["drawings", "plot_scores"]


def plot_scores(content: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Histogram of the scores, with the threshold, on a logarithmic count axis."""
    ax = new_axes(6, 3.2) if ax is None else ax
    histogram = content["histogram"]
    ax.stairs(histogram["counts"], histogram["edges"], fill=True, color="#4269d0")
    ax.axvline(content["prevalence"]["threshold"], color="#888888", linestyle="--", linewidth=1)
    ax.set_yscale("symlog", linthresh=1)
    first = next((i for i, count in enumerate(histogram["counts"]) if count), 0)
    limits = min(histogram["edges"][first], -0.1), 1.02
    ax.set(xlabel="memorization score", ylabel="examples", xlim=limits, ylim=(0, 2 * max(histogram["counts"])))
    return ax


def drawings(content: Mapping[str, Any]) -> list[Drawing]:
    """The figures of a report."""
    caption = (
        f"Memorization scores of {content['n_examples']} examples, {content['n_models']} models; the dashed line is "
        f"the threshold {content['prevalence']['threshold']}"
    )
    return [Drawing("memorization", caption, lambda: figure_of(plot_scores(content)))]
