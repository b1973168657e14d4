"""Figures of a report as PNG and SVG files, the same bytes each time."""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.sections.impact_plots import height_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.figure import Figure

    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.sections.impact import ImpactResult
    from lightning_memaudit.sections.long_tail import LongTailResult
    from lightning_memaudit.sections.memorization import MemorizationResult

__all__ = ["contact_sheet", "figure_names", "figures", "impact_figure"]

_COLUMNS = 10


def figure_names(results: Mapping[str, Any], examples: Examples) -> list[str]:
    """The files that ``figures`` gives."""
    return [name for names in _drawings(results, examples) for name in names]


def figures(results: Mapping[str, Any], examples: Examples) -> dict[str, bytes]:
    """Pictures by file name: of memorization, and of the impact of each arm.

    Args:
        results: The sections that were computed, by name.
        examples: The training examples.
    """
    pictures: dict[str, bytes] = {}
    for names, draw in _drawings(results, examples).items():
        figure = draw()
        for name in names:
            pictures[name] = _file(figure, name)
            figure.set_layout_engine("none")  # its places are found; the next format takes them over
    return pictures


def impact_figure(impact: ImpactResult, arm: str) -> Figure:
    """Drops of one arm: by group, and by memorization."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, height_of(impact.summary["arms"][arm])), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    impact.plot(left, arm=arm)
    impact.plot_memorization(right, arm=arm)
    return figure


def contact_sheet(memorization: MemorizationResult, examples: Examples) -> Figure:
    """The most memorized images, each with its label, what models say that did not train on it, and its score."""
    from matplotlib.figure import Figure

    top = memorization.summary["top"]
    n_rows = max(1, -(-len(top) // _COLUMNS))
    figure = Figure(figsize=(1.15 * _COLUMNS, 1.75 * n_rows), layout="constrained")
    for position, ax in enumerate(figure.subplots(n_rows, _COLUMNS, squeeze=False).flat):
        ax.set_axis_off()
        if position < len(top):
            row = top[position]
            assert examples.previews is not None  # noqa: S101 - figures() saw to it
            ax.imshow(examples.previews[row["index"]], cmap="gray_r", interpolation="nearest")
            ax.set_title(f"label {row['label']}\nunseen: {row['out_prediction']}\nmem {row['score']:.2f}", fontsize=8)
    return figure


def _drawings(results: Mapping[str, Any], examples: Examples) -> dict[tuple[str, ...], Callable[[], Figure]]:
    """What draws each picture, by the files that it goes to."""
    drawings: dict[tuple[str, ...], Callable[[], Figure]] = {}
    if "memorization" in results:
        memorization: MemorizationResult = results["memorization"]
        drawings["memorization.png",] = lambda: memorization.plot().get_figure()  # type: ignore[assignment, return-value]
        if examples.previews is not None and examples.previews.dtype == np.uint8:
            drawings["top.png",] = partial(contact_sheet, memorization, examples)
    if "impact" in results:
        impact: ImpactResult = results["impact"]
        for arm in impact.arms:
            drawings[f"impact_{arm}.png", f"impact_{arm}.svg"] = partial(impact_figure, impact, arm)
    if "long_tail" in results:
        long_tail: LongTailResult = results["long_tail"]
        drawings["rank_frequency.png", "rank_frequency.svg"] = lambda: long_tail.plot().get_figure()  # type: ignore[assignment, return-value]
        if any(entry["status"] == "ok" for entry in long_tail.summary["costs"].values()):
            drawings["predicted_costs.png", "predicted_costs.svg"] = lambda: long_tail.plot_costs().get_figure()  # type: ignore[assignment, return-value]
    return drawings


def _file(figure: Figure, name: str) -> bytes:
    from matplotlib import rc_context

    file, kind = io.BytesIO(), name.rpartition(".")[2]
    with rc_context({"svg.hashsalt": "memaudit"}):
        figure.savefig(file, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return file.getvalue()
