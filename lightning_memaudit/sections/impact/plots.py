"""Pictures of what a treatment costs, from the entry of one arm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_memaudit.sections.canvas import new_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["arm_figure", "plot_groups", "plot_memorization"]

_MOST_ROWS = 40
_COLOURS = {"costs": "#d6453d", "gains": "#2b8a3e", "undecided": "#6c7a89"}  # by verdict
_LONGEST_NAME = 40


def plot_groups(entry: Mapping[str, Any], *, level: float, ax: Axes | None = None) -> Axes:
    """Drop of each group with its interval, largest on top; the drop over all examples is a line."""
    ax = new_axes(6, _height_of(entry)) if ax is None else ax
    rows, n_left_out = _shown(entry)
    names = [_short(f"{grouping}: {row['group']}") + f" (n = {row['n']})" for grouping, row in rows]
    _draw(ax, [row for _, row in rows])
    overall = entry["overall"]
    ax.axvline(100 * overall["drop"], color="#4269d0", linewidth=1)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.5, -0.5)
    left_out = f"; {n_left_out} more groups in the table" if n_left_out else ""
    ax.set_xlabel(
        f"accuracy lost, points ({100 * level:.0f} % intervals, {entry['n_models']} pairs of models{left_out})",
        fontsize=8,
    )
    ax.set_title(f"{_short(entry['arm'])}: drop by group, overall in blue", fontsize=9)
    return ax


def plot_memorization(entry: Mapping[str, Any], *, level: float, ax: Axes | None = None) -> Axes:
    """Drop of each bin of memorization, the two from different models; the reason where there is none."""
    ax = new_axes(4.5, 3.2) if ax is None else ax
    bins = entry["by_memorization"]["bins"]
    ax.set_title("drop by memorization", fontsize=9)
    rows = [row for row in bins.get("rows", ()) if row["n"]]
    if not rows:
        ax.set_axis_off()
        reason = bins["reason"] or "no training example has a score"
        ax.text(0.5, 0.5, f"cannot be said:\n{reason}", ha="center", va="center", wrap=True, fontsize=8)
        return ax
    _draw(ax, rows)
    names = [f"{row['from']:g} to {row['to']:g} (n = {row['n']})" for row in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=8)
    ax.set_ylim(-0.5, len(rows) - 0.5)
    ax.set_ylabel("memorization", fontsize=8)
    ax.set_xlabel(
        f"accuracy lost on unseen training examples, points\n({100 * level:.0f} % intervals, {bins['n_models']} pairs "
        "of models)",
        fontsize=8,
    )
    return ax


def arm_figure(entry: Mapping[str, Any], *, level: float) -> Figure:
    """Drops of one arm: by group, and by memorization."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, _height_of(entry)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    plot_groups(entry, level=level, ax=left)
    plot_memorization(entry, level=level, ax=right)
    return figure


def _height_of(entry: Mapping[str, Any]) -> float:
    """Inches that the plot of the groups needs."""
    return 1.4 + 0.22 * max(len(_shown(entry)[0]), 5)


def _shown(entry: Mapping[str, Any]) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """The groups with examples, those farthest from the overall drop if there are too many, by grouping and drop."""
    rows = [
        (grouping, row)
        for grouping, part in entry["by_group"].items()
        for row in part.get("rows", ())
        if row["drop"] is not None
    ]
    kept = sorted(rows, key=lambda pair: -abs(pair[1]["drop"] - entry["overall"]["drop"]))[:_MOST_ROWS]
    order = list(entry["by_group"])
    kept.sort(key=lambda pair: (order.index(pair[0]), -pair[1]["drop"]))
    return kept or [("overall", {"group": "all", **entry["overall"]})], len(rows) - len(kept)


def _draw(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    ax.axvline(0, color="#bbbbbb", linewidth=1)
    colours = [_COLOURS[row["verdict"]] for row in rows]
    spans = [
        (position, 100 * row["low"], 100 * row["high"], colour)
        for position, (row, colour) in enumerate(zip(rows, colours, strict=True))
        if row["low"] is not None and row["high"] is not None
    ]
    if spans:
        places, lows, highs, shades = zip(*spans, strict=True)
        ax.hlines(places, lows, highs, colors=shades, linewidth=2)
    ax.scatter([100 * row["drop"] for row in rows], range(len(rows)), color=colours, s=18, zorder=3)


def _short(name: str) -> str:
    text = " ".join(str(name).split()).replace("$", r"\$")
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"
