"""Figures of a report as PNG files, the same bytes each time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.sections.memorization import MemorizationResult

__all__ = ["contact_sheet", "figure_names", "figures"]

_COLUMNS = 10


def figure_names(examples: Examples) -> list[str]:
    """The files that ``figures`` gives."""
    has_images = examples.previews is not None and examples.previews.dtype == np.uint8
    return ["memorization.png", "top.png"] if has_images else ["memorization.png"]


def figures(memorization: MemorizationResult, examples: Examples) -> dict[str, bytes]:
    """PNG files by name: the histogram, and a contact sheet where the examples are images."""
    pictures = {"memorization.png": _png(memorization.plot().get_figure())}  # type: ignore[arg-type]
    if "top.png" in figure_names(examples):
        pictures["top.png"] = _png(contact_sheet(memorization, examples))
    return pictures


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


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()
