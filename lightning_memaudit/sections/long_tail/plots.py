"""Pictures of the long tail, from the section's summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.sections.canvas import new_axes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

__all__ = ["plot_costs", "plot_ranks"]

_SEEN, _FITTED, _PREDICTED = "#4269d0", "#d6453d", "#6c7a89"


def plot_ranks(summary: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Frequency of each subpopulation against its rank, with the power law of the tail where one was fitted."""
    ax = new_axes(6, 3.6) if ax is None else ax
    ranks, fit, known = summary["ranks"], summary["tail_fit"], summary["subpopulations"]
    ax.loglog(ranks["rank"], ranks["frequency"], "o", markersize=3, color=_SEEN, label="subpopulations")
    if fit["exponent"] is not None:
        tail = [i for i, n in enumerate(ranks["n"]) if n >= fit["xmin"]]
        last = tail[-1]
        at = np.array([ranks["rank"][i] for i in tail], dtype=np.float64)
        slope = fit["rank_exponent"]
        line = ranks["frequency"][last] * (at / ranks["rank"][last]) ** -slope
        name = f"power law, rank exponent {slope:.2f} ({fit['verdict']})"
        ax.loglog(at, line, color=_FITTED, linewidth=1, label=name)
    ax.set(xlabel=f"rank of {known['n']} subpopulations ({known['grouping']})", ylabel="share of the training set")
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_costs(summary: Mapping[str, Any], *, ax: Axes | None = None) -> Axes:
    """Predicted and measured cost of each arm; says why where there is none."""
    known = {arm: entry["total"] for arm, entry in summary["costs"].items() if entry["status"] == "ok"}
    ax = new_axes(6, 1.2 + 0.5 * max(len(known), 1)) if ax is None else ax
    if not known:
        reasons = [entry["reason"] for entry in summary["costs"].values()] or [summary["no_costs"]]
        ax.text(0.5, 0.5, reasons[0], ha="center", va="center", wrap=True, fontsize=8)
        ax.set_axis_off()
        return ax
    for offset, side, colour in ((-0.12, "predicted", _PREDICTED), (0.12, "measured", _SEEN)):
        for row, total in enumerate(known.values()):
            value, low, high = (total[key] for key in (side, f"{side}_low", f"{side}_high"))
            if low is not None and high is not None:
                ax.plot([100 * low, 100 * high], [row + offset] * 2, color=colour, linewidth=1.5)
            ax.plot([100 * value], [row + offset], "o", color=colour, markersize=4, label=side if not row else None)
    ax.axvline(0, color="#888888", linewidth=0.8)
    ax.set_yticks(range(len(known)), list(known), fontsize=8)
    ax.set_ylim(len(known) - 0.5, -0.5)
    ax.set_xlabel(f"accuracy lost, points ({100 * summary['level']:.0f} % intervals)", fontsize=8)
    ax.legend(frameon=False, fontsize=8)
    return ax
