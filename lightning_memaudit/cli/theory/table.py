"""The figures of ``memaudit theory`` as text for people."""

from __future__ import annotations

import math
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LIMITS_OF_COUNTS", "LIMITS_OF_PRIORS", "table"]

_MEANINGS = {
    "n_least_frequency": ("n · least frequency", "how often the rarest point is expected in the sample"),
    "singleton_share": ("seen once / n", "share of the sample whose point occurs once in it: E|X_1| / n"),
    "n_tau_1": ("n · τ_1", "expected frequency of a point seen once, in units of 1/n (definition of τ_ℓ)"),
    "missing_mass": ("missing mass", "share of the population whose points are not in the sample: N E[α (1 − α)^n]"),
    "optimal_error": ("optimal error", "error that no learner can avoid: (1 − 1/m) · missing mass (opt)"),
    "singleton_mass": ("mass seen once", "share of the population whose points were seen once: τ_1 E|X_1|"),
    "cost_of_not_fitting": (
        "cost: singletons not fitted",
        "excess error of guessing at every point seen once: (1 − 1/m) τ_1 E|X_1| (main theorem, Σ τ_ℓ errn(ℓ))",
    ),
    "cost_of_limited_memorization": (
        "cost: memorization ≤ γ",
        "least excess error of γ-limited memorization: no example adds more than γ: max(1 − 1/m − γ, 0) τ_1 E|X_1|",
    ),
    "cost_of_dp_paper": (
        "cost: DP, paper",
        "least excess error when Pr[right] ≤ e^ε/m + δ at a point seen once (theorem on differential privacy)",
    ),
    "cost_of_dp_sharp": (
        "cost: DP, sharp",
        "the same with the largest Pr[right] that any (ε, δ)-DP mechanism reaches (linear program, by adjacency)",
    ),
}
LIMITS_OF_PRIORS = [
    (
        "least costs, on average over populations and samples, and for points seen once only. The learner does not "
        "know the frequencies; labels are uniform, free of noise, and tell nothing of each other, so a model that "
        "generalises between points can pay less. For one data set they are approximate: its frequencies share one sum."
    ),
    "no constant: under Zipf's law with exponent 1 and N = n the cost falls like 1/ln N.",
]
LIMITS_OF_COUNTS = [
    (
        "only for points that are natural atoms: values of a metadata column, exact or near-duplicates. Where somebody "
        "chose the number of clusters, the counts are the choice: not applicable."
    ),
    (
        "95 % intervals of τ_ℓ are for the population's own frequencies, that of the missing mass for this very "
        "sample. Costs take the number of singletons as it was seen, so theirs is that of τ_1 alone."
    ),
    (
        "least costs, for points seen once only. Labels are uniform, free of noise, and tell nothing of each other, so "
        "a model that generalises between points can pay less."
    ),
]
_WIDTH = 120


def table(content: Mapping[str, Any]) -> str:
    """The text of everything but the notes."""
    populations = content["populations"]
    parts = [_heading(content), _figures(populations)]
    parts += [_by_ell(population) for population in populations]
    parts += [_groups(population, content) for population in populations if population["groups"]]
    if content["groups_reason"]:
        parts.append(_wrapped(f"Head, torso, tail: not applicable: {content['groups_reason']}.", "  "))
    parts.append("\n".join(_wrapped(f"Limits: {line}", "  ") for line in content["limits"]))
    return "\n\n".join(parts)


def _heading(content: Mapping[str, Any]) -> str:
    asked = [f"m = {content['n_classes']} classes"]
    if content["gamma"] is not None:
        asked.append(f"γ = {content['gamma']:g}")
    if content["epsilon"] is not None:
        asked.append(f"ε = {content['epsilon']:g}, δ = {content['delta']:g}, adjacency {content['adjacency']}")
    if content["counts"] is not None:
        source = f"counts {content['counts']}, by Good–Turing, smoothing {content['smoothing']}"
        asked.append("Φ_ℓ, the points that were seen ℓ times, stand for E|X_ℓ|")
    elif content["mode"] == "list":
        source = f"prior {content['prior']}, mode list (as all numbers printed in the paper)"
    else:
        source = f"prior {content['prior']}, mode {content['mode']}"
    return f"What limiting memorization costs (Feldman 2019): {source}\n{', '.join(asked)}"


def _figures(populations: Sequence[Mapping[str, Any]]) -> str:
    """One line of values for each figure, a column for each population, and what it means below."""
    counted = populations[0]["n_points"] is None
    sizes = [str(population["n_seen" if counted else "n_points"]) for population in populations]
    rows = [["points seen" if counted else "points N", *sizes]]
    rows.append(["samples n", *(str(population["n_samples"]) for population in populations)])
    names = list(populations[0]["figures"])
    for name in names:
        figures = [population["figures"][name] for population in populations]
        rows.append([_MEANINGS[name][0], *(show(figure["value"]) + _ends(figure["interval"]) for figure in figures)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for position, name in enumerate(names):
        lines[position + 2] += "\n" + _wrapped("    " + _MEANINGS[name][1], "    ")
    return "\n".join(lines)


def _by_ell(population: Mapping[str, Any]) -> str:
    counted = population["n_points"] is None
    title = (
        f"Points seen ℓ times in n = {population['n_samples']}: expected frequency τ_ℓ of one, "
        f"{'number Φ_ℓ' if counted else 'number E|X_ℓ|'}, and mass of all of them"
    )
    rows = [["ℓ", "τ_ℓ", "n · τ_ℓ", "Φ_ℓ" if counted else "E|X_ℓ|", "mass"]]
    if counted:
        rows[0] += ["n · τ_ℓ, 95 %", "by"]
    for row in population["by_ell"]:
        cells = [str(row["ell"]), *(show(row[name]) for name in ("tau", "n_tau", "points", "mass"))]
        if counted:
            scaled = [population["n_samples"] * end for end in row["interval"]]
            cells += [_ends(scaled).strip(), row["method"]]
        rows.append(cells)
    return "\n".join([title, *_aligned(rows)])


def _groups(population: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    torso, tail = content["groups"]
    costs = [name for name in population["groups"][0] if name.startswith("cost_")]
    titles = [_MEANINGS[name][0].removeprefix("cost: ") for name in costs]
    rows = [["group", "share", "points", "n · share", "optimal error", *titles]]
    for row in population["groups"]:
        cells = [row["group"], show(row["share"]), str(row["n_points"]), show(row["n_samples"])]
        rows.append([*cells, *(show(row[name]) for name in ("optimal_error", *costs))])
    total = [sum(row["share"] * row[name] for row in population["groups"]) for name in ("optimal_error", *costs)]
    rows.append(["total", "1", str(population["n_points"]), show(population["n_samples"]), *map(show, total)])
    title = (
        f"Who pays, N = {population['n_points']}, n = {population['n_samples']}: error and cost WITHIN each group; "
        f"the total is Σ share · cost (disparate effect). Most frequent first: the torso begins at {torso:g} of the "
        f"mass, the tail at {tail:g}"
    )
    return "\n".join([_wrapped(title), *_aligned(rows)])


def show(value: float) -> str:
    """A number with six digits; a whole one as it is.

    Example:
        >>> show(0.4716757), show(1.2345678e-5), show(0.0), show(float("nan")), show(8519.81), show(7)
        ('0.471676', '1.2346e-05', '0', 'NaN', '8519.81', '7')
    """
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if value == 0 or abs(value) >= 10:
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"
    return f"{value:.6f}" if abs(value) >= 1e-3 else f"{value:.4e}"


def _ends(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" [{show(interval[0])}, {show(interval[1])}]"


def _wrapped(text: str, indent: str = "") -> str:
    return fill(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
