"""Whether the statistics that are judged come to the figures that a report prints, row by row and group by group."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.uncertainty import Excess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lightning_memaudit.functional.checks import FloatArray
    from lightning_memaudit.gates.evidence import Evidence

__all__ = [
    "COUNTS",
    "DROPS",
    "ERRORS",
    "EXCESS",
    "GAPS",
    "MEANS",
    "NOTHING_PRINTED",
    "Printed",
    "contradictions",
    "sums",
    "unequal",
]

_AGAIN = "write the report again (memaudit report STORE)"
_TOLERANCE = 1e-6  # other versions of SciPy differ by less


def _nothing(*_: Any) -> dict[str, FloatArray]:
    return {}


@dataclass(frozen=True, slots=True)
class Printed:
    """What a report prints of an estimate.

    Attributes:
        figures: Makes of an estimate and the report's level what rows print, by the names they print it under,
            float64[G] each.
        totals: Makes of an estimate what the groups of a grouping share out among them, so that the sum over all of
            them is that of the whole, float64[G] each.
        counts: What rows print that is shared out likewise.
    """

    figures: Callable[[Any, float], Mapping[str, FloatArray]]
    totals: Callable[[Any], Mapping[str, FloatArray]] = _nothing
    counts: tuple[str, ...] = ("n",)


def contradictions(
    rows: Sequence[Mapping[str, Any]], evidence: Evidence, printed: Printed, level: Any
) -> list[str | None]:
    """What each row prints that its statistics do not come to, in words; None where they agree.

    Figures that a row does not print (a baseline file has none) cannot disagree.

    Args:
        rows: Rows of the report, one an entry of the evidence.
        evidence: What their statistics say.
        printed: What the report prints of it.
        level: Level of the intervals that the report prints.
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        return [f"its figures cannot be used: the report's level is {level!r}; {_AGAIN}"] * len(rows)
    come_to = printed.figures(evidence.found, float(level))
    return [
        next((_said(key, row[key], values[g]) for key, values in come_to.items() if _differ(row, key, values[g])), None)
        for g, row in enumerate(rows)
    ]


def sums(rows: Sequence[Mapping[str, Any]], evidence: Evidence | None, printed: Printed) -> dict[str, float]:
    """Totals over the rows of a grouping, to be held against those of the whole.

    Args:
        rows: All rows, those without examples too.
        evidence: What the statistics of those with examples say; None where there is none.
        printed: What is shared out among groups.
    """
    totals = {} if evidence is None else {key: float(x.sum()) for key, x in printed.totals(evidence.found).items()}
    for key in printed.counts:
        values = [row[key] for row in rows if key in row]
        if len(values) == len(rows) and all(_is_number(value) for value in values):
            totals[key] = float(sum(values))
    return totals


def unequal(grouping: str, parts: Mapping[str, float], whole: Mapping[str, float]) -> str | None:
    """What the groups of a grouping do not add up to, in words; None where they do."""
    for key in parts:
        if key in whole and not _agree(parts[key], whole[key]):
            return (
                f"figures contradict each other: the groups of {grouping!r} have {key} {parts[key]:.6g} together, and "
                f"all examples have {whole[key]:.6g}; {_AGAIN}"
            )
    return None


def _of_flips(found: Any) -> dict[str, FloatArray]:
    flips = found.two_way.flips
    return {"examples": found.n, "lost": flips.lost, "gained": flips.gained, "squares": flips.squares}


def _of_drops(found: Any, level: float) -> dict[str, FloatArray]:
    """Figures of drops."""
    low, high = found.two_way.interval(level)
    covers = found.covers_models.astype(np.float64)
    return {"n": found.n, "drop": found.estimate, "low": low, "high": high, "covers_models": covers}


def _of_errors(found: Any, level: float) -> dict[str, FloatArray]:
    """Figures of accuracies, from error rates."""
    low, high = found.two_way.interval(level)
    ends = np.maximum(1 - high, 0.0), np.minimum(1 - low, 1.0)
    return {"n": found.n, "accuracy": 1 - found.estimate, "low": ends[0], "high": ends[1]}


def _of_excess(found: Any, level: float) -> dict[str, FloatArray]:
    """Figures of excess drops."""
    low, high = _contrast(found).interval(level)
    ends = np.maximum(low, -2.0), np.minimum(high, 2.0)
    own = {"n": found.n, "drop": found.group.estimate}
    return own | {"excess": found.estimate, "excess_low": ends[0], "excess_high": ends[1]}


def _of_gaps(found: Any, level: float) -> dict[str, FloatArray]:
    """Figures of gaps."""
    low, high = _contrast(found).interval(level)
    own = {"n": found.n, "accuracy": 1 - found.group.estimate}
    return own | {"gap": found.estimate, "gap_low": low, "gap_high": high}


def _of_means(found: Any, level: float) -> dict[str, FloatArray]:
    """Figures of mean memorization scores."""
    low, high = found.interval(level)
    arms = {"in_accuracy": found.floor.mean[0], "out_accuracy": found.floor.mean[1]}
    return {"n_estimable": found.n, "mean_score": found.estimate, "low": low, "high": high} | arms


def _of_counts(found: Any, _: float) -> dict[str, FloatArray]:
    """Figures of prevalences."""
    return {"n_estimable": found.n, "n_memorized": found.naive}


def _contrast(found: Any) -> Excess[Any]:
    """The two-sided form of a one-sided contrast."""
    return Excess(found.share, found.group.two_way, found.rest.two_way)


def _differ(row: Mapping[str, Any], key: str, value: float) -> bool:
    """Whether a figure is printed and is another one; what is not finite is printed as null."""
    if key not in row:
        return False
    given = row[key]
    if isinstance(given, bool):
        given = float(given)
    return not _agree(given, float(value))


def _agree(given: Any, value: float) -> bool:
    if not _is_number(given):
        return given is None and not math.isfinite(value)
    return math.isclose(given, value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _said(key: str, given: Any, value: float) -> str:
    shown = f"{given:.6g}" if isinstance(given, float) else repr(given)
    return f"its figures contradict each other: {key} is {shown:.40} and its statistics come to {value:.6g}; {_AGAIN}"


DROPS = Printed(_of_drops, _of_flips)
ERRORS = Printed(_of_errors, _of_flips)
EXCESS = Printed(_of_excess)
GAPS = Printed(_of_gaps)
MEANS = Printed(
    _of_means,
    lambda found: {"examples": found.n, "sum of scores": found.n * found.estimate},
    ("n", "n_estimable", "n_not_fitted"),
)
COUNTS = Printed(
    _of_counts,
    lambda found: {key: getattr(found, key) for key in ("n", "naive", "possible", "certain")},
    ("n_estimable", "n_not_fitted"),
)
NOTHING_PRINTED = Printed(_nothing)
