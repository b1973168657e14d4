"""How the frequencies of atoms fall off: ranks, and a power law held against a log-normal in the tail."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import optimize, special, stats

from lightning_memaudit.functional.checks import as_counts, as_positive_int, as_probability

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import Array, FloatArray, IntArray

__all__ = ["TailFit", "TailVerdict", "fit_tail", "rank_frequency"]

TailVerdict = Literal["power law", "log-normal", "undecided", "neither", "too few"]
_LEAST_ATOMS, _LEAST_VALUES = 10, 3
_STEEPEST = 12.0  # exponents beyond it tell nothing apart
_REJECTED_BELOW = 0.1  # goodness of fit, the rule of Clauset, Shalizi and Newman (2009), section 4
_MOST_DRAWN, _LEAST_REPLICATES = 200_000, 20
_TABLE = 20_000


@dataclass(frozen=True, slots=True)
class TailFit:
    """A power law and a log-normal, both cut off below ``xmin``, fitted to the counts of atoms.

    Attributes:
        verdict: Which of them is nearer to the tail, ``"undecided"``, ``"neither"`` where the power law is at the end
            of its range or both are rejected, or ``"too few"`` atoms to fit anything.
        n_atoms: Atoms that were seen.
        xmin: Smallest count of the tail.
        n_tail: Atoms in the tail.
        exponent: α of p(x) ∝ x^−α, the law of the COUNTS; NaN when nothing was fitted.
        low: Lower end of its interval, given ``xmin``.
        high: Upper end.
        rank_exponent: s of frequency ∝ rank^−s, which is 1 / (α − 1): 1 is Zipf's law.
        distance: Kolmogorov–Smirnov distance of the power law.
        fit_p: Share of samples of the fitted power law, each fitted again from the same ``xmin``, that are farther from
            it; below .1 the power law is rejected. It speaks of the power law alone.
        log_normal_distance: Kolmogorov–Smirnov distance of the log-normal.
        log_normal_p: Its p-value were both parameters known: too large, so that a small one rejects it all the same.
        mu: Of the log-normal.
        sigma: Of the log-normal.
        ratio: Log-likelihood ratio per atom, power law less log-normal; positive speaks for the power law.
        ratio_low: Lower end of its interval.
        ratio_high: Upper end.
        p_value: Of Vuong's test that both are equally far from the truth.
        atoms_needed: Atoms in the tail that would decide, were the ratio what it seems; NaN where none would.
        note: Why nothing was fitted, or an empty text.
    """

    verdict: TailVerdict
    n_atoms: int
    xmin: int
    n_tail: int
    exponent: float
    low: float
    high: float
    rank_exponent: float
    distance: float
    fit_p: float
    log_normal_distance: float
    log_normal_p: float
    mu: float
    sigma: float
    ratio: float
    ratio_low: float
    ratio_high: float
    p_value: float
    atoms_needed: float
    note: str


def rank_frequency(counts: Array) -> tuple[IntArray, FloatArray]:
    """Ranks from 1 and relative frequencies, the most frequent atom first; atoms that were never seen are left out.

    Args:
        counts: How often each atom was seen, whole numbers [P].

    Returns:
        Ranks int64[Q] and frequencies float64[Q], which sum to 1.

    Raises:
        ArgumentError: The counts are empty, all zero, negative or not whole.

    Example:
        >>> rank_frequency([1, 6, 0, 3])
        (array([1, 2, 3]), array([0.6, 0.3, 0.1]))
    """
    seen = np.sort(_seen(counts))[::-1]
    return np.arange(1, len(seen) + 1), seen / seen.sum()


def fit_tail(
    counts: Array, *, xmin: int | None = None, level: float = 0.95, n_replicates: int = 200, seed: int = 0
) -> TailFit:
    """Fit the tail of counts by maximum likelihood and compare a power law with a log-normal.

    The power law is the discrete one, p(x) = x^−α / ζ(α, xmin) (Clauset, Shalizi and Newman 2009, equation 3.5);
    ``xmin`` is the count at which its Kolmogorov–Smirnov distance is least, with ten atoms or more in the tail (their
    section 3.3). The interval of α is that of the profile likelihood; it does not cover the choice of ``xmin``. The
    log-normal is rounded to whole numbers and cut at the same ``xmin``; Vuong's test (1989) compares them, which says
    nothing of whether either fits: that is ``fit_p`` and ``log_normal_p``. A log-normal can imitate a power law, so
    that "power law" is rarely decided by few atoms.

    Args:
        counts: How often each atom was seen, whole numbers [P].
        xmin: Smallest count of the tail; None finds it.
        level: Two-sided confidence level; Vuong's test is at 1 − ``level``.
        n_replicates: Samples for ``fit_p``, fewer for very long tails; 0 leaves it out.
        seed: Of these samples.

    Returns:
        Both fits; ``verdict="too few"`` and NaN for fewer than ten atoms in the tail, or fewer than three values.

    Raises:
        ArgumentError: The counts are empty, all zero, negative or not whole, or an option is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> fit = fit_tail(rng.zipf(2.0, size=2000), xmin=1)
        >>> print(f"{fit.exponent:.2f} [{fit.low:.2f}, {fit.high:.2f}]")
        1.99 [1.95, 2.04]
    """
    as_probability(level, name="level")
    seen = _seen(counts)
    smallest = _best_xmin(seen) if xmin is None else as_positive_int(xmin, name="xmin")
    tail = seen[seen >= smallest]
    if len(tail) < _LEAST_ATOMS or len(np.unique(tail)) < _LEAST_VALUES:
        return _too_few(len(seen), smallest, tail)
    alpha = _exponent(tail, smallest)
    low, high = _profile(tail, smallest, alpha, level)
    mu, sigma = _log_normal(tail, smallest)
    differences = _power_terms(tail, smallest, alpha) - _log_normal_terms(tail, smallest, mu, sigma)
    ratio, spread = float(differences.mean()), float(differences.std())
    z = float(stats.norm.isf((1 - level) / 2))
    half = z * spread / math.sqrt(len(tail))
    statistic = math.sqrt(len(tail)) * ratio / spread if spread > 0 else 0.0
    distance, other = _distance(tail, smallest, alpha), _log_normal_distance(tail, smallest, mu, sigma)
    replicates = as_positive_int(n_replicates, name="n_replicates", minimum=0)
    fit_p = _goodness_of_fit(tail, smallest, alpha, distance, replicates, as_positive_int(seed, name="seed", minimum=0))
    log_normal_p = float(stats.kstwo.sf(other, len(tail)))
    verdict: TailVerdict = "undecided"
    if abs(statistic) > z:
        verdict = "power law" if ratio > 0 else "log-normal"
    note = ""
    if alpha > _STEEPEST - 1e-3:
        verdict = "neither"
        note = f"the counts fall off as fast as the steepest power law that is tried, exponent {_STEEPEST:g}"
    elif fit_p < _REJECTED_BELOW and log_normal_p < _REJECTED_BELOW:
        verdict, note = "neither", "both laws are rejected by their distance from the counts"
    return TailFit(
        verdict=verdict,
        n_atoms=len(seen),
        xmin=smallest,
        n_tail=len(tail),
        exponent=alpha,
        low=low,
        high=high,
        rank_exponent=1 / (alpha - 1),
        distance=distance,
        fit_p=fit_p,
        log_normal_distance=other,
        log_normal_p=log_normal_p,
        mu=mu,
        sigma=sigma,
        ratio=ratio,
        ratio_low=ratio - half,
        ratio_high=ratio + half,
        p_value=float(2 * stats.norm.sf(abs(statistic))),
        atoms_needed=math.ceil((z * spread / ratio) ** 2) if ratio and verdict != "neither" else math.nan,
        note=note,
    )


def _seen(counts: Array) -> IntArray:
    numbers = as_counts(counts)
    return numbers[numbers > 0]


def _too_few(n_atoms: int, xmin: int, tail: IntArray) -> TailFit:
    note = (
        f"{len(tail)} atoms with {len(np.unique(tail))} different counts from {xmin} up: a tail is fitted to "
        f"{_LEAST_ATOMS} atoms and {_LEAST_VALUES} counts or more"
    )
    unknown = dict.fromkeys((field.name for field in fields(TailFit) if field.type == "float"), math.nan)
    return TailFit("too few", n_atoms, xmin, len(tail), **unknown, note=note)


def _best_xmin(seen: IntArray) -> int:
    """The count from which a power law is nearest to the tail."""
    candidates = [
        int(x) for x in np.unique(seen) if (seen >= x).sum() >= _LEAST_ATOMS and len(np.unique(seen[seen >= x])) > 2
    ]
    if not candidates:
        return int(seen.min())
    tails = {x: seen[seen >= x] for x in candidates}
    return min(candidates, key=lambda x: _distance(tails[x], x, _exponent(tails[x], x)))


def _exponent(tail: IntArray, xmin: int) -> float:
    found = optimize.minimize_scalar(
        lambda alpha: -_power_likelihood(tail, xmin, alpha), bounds=(1.0001, _STEEPEST), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    return float(found.x)


def _power_likelihood(tail: IntArray, xmin: int, alpha: float) -> float:
    return float(-len(tail) * np.log(special.zeta(alpha, xmin)) - alpha * np.log(tail).sum())


def _power_terms(tail: IntArray, xmin: int, alpha: float) -> FloatArray:
    return np.asarray(-np.log(special.zeta(alpha, xmin)) - alpha * np.log(tail))


def _profile(tail: IntArray, xmin: int, alpha: float, level: float) -> tuple[float, float]:
    """Where the log-likelihood falls by half a χ² quantile; the end of the range of exponents where it never does."""
    target = _power_likelihood(tail, xmin, alpha) - stats.chi2.ppf(level, 1) / 2

    def above(candidate: float) -> float:
        return _power_likelihood(tail, xmin, candidate) - float(target)

    low, high = (
        float(optimize.brentq(above, *sorted((limit, alpha)))) if above(limit) < 0 else limit
        for limit in (1.0001, _STEEPEST)
    )
    return low, high


def _distance(tail: IntArray, xmin: int, alpha: float) -> float:
    """Largest gap between the two distribution functions."""
    values, times = np.unique(tail, return_counts=True)
    expected = 1 - special.zeta(alpha, values + 1.0) / special.zeta(alpha, xmin)
    return float(np.abs(np.cumsum(times) / len(tail) - expected).max())


def _goodness_of_fit(tail: IntArray, xmin: int, alpha: float, distance: float, n_replicates: int, seed: int) -> float:
    """Share of samples of the fitted law that are at least as far from their own fit as the counts are."""
    if not n_replicates:
        return math.nan
    n_replicates = min(n_replicates, max(_MOST_DRAWN // len(tail), _LEAST_REPLICATES))
    rng, farther = np.random.default_rng(seed), 0
    survival = special.zeta(alpha, np.arange(xmin, xmin + _TABLE, dtype=np.float64)) / special.zeta(alpha, xmin)
    for _ in range(n_replicates):
        drawn = _draw(rng.random(len(tail)), survival, xmin, alpha)
        farther += _distance(drawn, xmin, _exponent(drawn, xmin)) >= distance
    return (farther + 1) / (n_replicates + 1)


def _draw(uniform: FloatArray, survival: FloatArray, xmin: int, alpha: float) -> IntArray:
    """A sample of the discrete power law by its survival function; beyond that table by its continuous form."""
    places = np.searchsorted(-survival, -uniform, side="right") - 1
    last = xmin + _TABLE - 1
    beyond = np.floor((last - 0.5) * (survival[-1] / np.maximum(uniform, 1e-12)) ** (1 / (alpha - 1)) + 0.5)
    return np.where(uniform < survival[-1], np.minimum(beyond, 2.0**62), places + xmin).astype(np.int64)


def _log_normal_distance(tail: IntArray, xmin: int, mu: float, sigma: float) -> float:
    """Largest gap between the two distribution functions, that of the law rounded and cut like the counts."""
    values, times = np.unique(tail, return_counts=True)
    beyond, whole = (special.log_ndtr((mu - np.log(x)) / sigma) for x in (values + 0.5, xmin - 0.5))
    return float(np.abs(np.cumsum(times) / len(tail) + np.expm1(beyond - whole)).max())


def _log_normal(tail: IntArray, xmin: int) -> tuple[float, float]:
    logs = np.log(tail)
    start = (float(logs.mean()), math.log(max(float(logs.std()), 0.1)))
    found = min(
        (
            optimize.minimize(
                lambda at: -_log_normal_terms(tail, xmin, at[0], math.exp(min(at[1], 5.0))).sum(),
                first,
                method="Nelder-Mead",
                options={"maxiter": 4000, "xatol": 1e-7, "fatol": 1e-9},
            )
            for first in (start, (start[0] - 3.0, start[1] + 0.7))
        ),
        key=lambda result: float(result.fun),
    )
    return float(found.x[0]), math.exp(min(float(found.x[1]), 5.0))


def _log_normal_terms(tail: IntArray, xmin: int, mu: float, sigma: float) -> FloatArray:
    """Log-probabilities of a log-normal that is rounded to whole numbers, given at least ``xmin``."""
    upper, lower = (special.log_ndtr((mu - np.log(tail + shift)) / sigma) for shift in (-0.5, 0.5))
    mass = upper + np.log(-np.expm1(np.minimum(lower - upper, -1e-300)))
    return np.asarray(mass - special.log_ndtr((mu - math.log(xmin - 0.5)) / sigma))
