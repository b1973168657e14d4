"""The plot of ``memaudit theory``: cost against ε and against γ, for the population and for head, torso and tail."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightning_memaudit.cli.theory.content import Question
    from lightning_memaudit.functional.checks import FloatArray

__all__ = ["draw", "plot"]

_EPSILONS = np.geomspace(0.05, 20.0, 120)
_GAMMAS = np.linspace(0.0, 1.0, 101)
_COLOURS = {"total": "#222222", "head": "#4269d0", "torso": "#efb118", "tail": "#d6453d"}


def plot(content: Mapping[str, Any], question: Question, kind: str) -> bytes:
    """The file.

    Args:
        content: What the command computed.
        question: What was asked.
        kind: ``"png"`` or ``"svg"``.

    Returns:
        The same bytes each time.
    """
    from matplotlib import rc_context

    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "memaudit"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        draw(content, question).savefig(file, format=kind, dpi=120, metadata=metadata)
    return file.getvalue()


def draw(content: Mapping[str, Any], question: Question) -> Figure:
    """One row of axes for each population: cost against ε, the paper's bound and the sharp value, and against γ."""
    from matplotlib.figure import Figure

    populations = content["populations"]
    figure = Figure(figsize=(10, 3.8 * len(populations)), layout="constrained")
    for population, (left, right) in zip(populations, figure.subplots(len(populations), 2, squeeze=False), strict=True):
        _curves(left, population, _EPSILONS, lambda value: replace(question, epsilon=float(value), gamma=None))
        _curves(right, population, _GAMMAS, lambda value: replace(question, gamma=float(value), epsilon=None))
        size = f"n = {population['n_samples']}"
        size = size if population["n_points"] is None else f"N = {population['n_points']}, {size}"
        left.set_title(f"{size}: cost of (ε, δ)-DP, δ = {question.delta:g}", fontsize=9)
        left.set_xlabel(f"ε (dashed: sharp value, adjacency {question.adjacency})", fontsize=8)
        left.set_xscale("log")
        right.set_title(f"{size}: cost of γ-limited memorization", fontsize=9)
        right.set_xlabel("γ", fontsize=8)
        for axes, asked in ((left, question.epsilon), (right, question.gamma)):
            axes.set_ylabel("excess error within the group" if population["groups"] else "excess error", fontsize=8)
            axes.set_ylim(bottom=0)
            axes.tick_params(labelsize=8)
            axes.legend(fontsize=8, frameon=False)
            if asked is not None:
                axes.axvline(asked, color="#999999", linewidth=0.8, zorder=0)
    return figure


def _curves(
    axes: Axes, population: Mapping[str, Any], values: FloatArray, question_at: Callable[[float], Question]
) -> None:
    """What is lacking at each value, times the mass of the singletons of the population and of each group."""
    lacking = [question_at(value).shortfalls() for value in values]
    for cost, style in (("cost_of_dp_paper", "-"), ("cost_of_limited_memorization", "-"), ("cost_of_dp_sharp", "--")):
        if cost not in lacking[0]:
            continue
        lack = np.array([found[cost] for found in lacking])
        total = population["figures"]["singleton_mass"]
        masses = {"total": total["value"]} | {row["group"]: row["singleton_mass"] for row in population["groups"]}
        for name, mass in masses.items():
            label = name if style == "-" else None
            axes.plot(values, lack * mass, linestyle=style, color=_COLOURS[name], linewidth=1.4, label=label)
        if style == "-" and total["interval"] is not None:
            low, high = total["interval"]
            edges = (lack * low, lack * high)
            axes.fill_between(values, *edges, label="95 % of τ_1", color=_COLOURS["total"], alpha=0.12, linewidth=0)
