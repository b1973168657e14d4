"""The least expected width that an interval of a drop can have, whatever its form.

Each end is a one-sided bound that misses with probability at most ``TAIL`` under every law. By Pratt (1961) the
expected reach of an upper bound U beyond the truth θ0 is ``∫ P(U ≥ θ) dθ`` over θ > θ0, and ``P(U < θ)`` is at most
the power at the truth P of the best test at ``TAIL`` of any law Q with drop θ. So the reach is at least
``∫ (1 - min over Q of that power) dθ``: every Q gives a lower bound, and the more Q are tried the higher it is.

Three kinds of Q, each with a drop of θ:

- **unseen flips**: an example is with probability π right in the whole base arm and wrong in the whole treated arm,
  else it follows P, so that ``Q >= (1 - π)^n P`` and the power is at most ``TAIL / (1 - π)^n``. It holds for every P,
  and is all there is where the truth has no flip.
- **tilts**: the same with examples made likelier in proportion to ``1 / (1 - λ d)``, or with another accuracy. By the
  Neyman-Pearson lemma, simulated; the effects of models are taken as noise of the cells.
- **spread of models**: a larger variance of the models of an arm, which K of them may fail to show, in the normal model
  where all other variances are known. It is what makes Student's t necessary with few models, and only for the part of
  the variance that is theirs.

The bound is not reached: its tests may toss a coin, and without, where nothing flips, U must be at least
``1 - TAIL^(1/n)``, which Tango's z² / (n + z²) is within 5 % of for 20 to 200 examples. An interval that covers .95 but
whose ends promise nothing by themselves can be narrower (``TAIL`` = .05 in the formulas: .19, not .25, for 20 examples
without flips).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import sparse, special, stats

from tests.helpers.crossed import Cell, Law

TAIL = 0.025
TILTS = (0.0, 0.5, 0.8, 0.95)
SHIFTS = (0.3, 0.7, 1.5, 3.0)
POINTS = 12


@dataclass(frozen=True)
class Need:
    """Widths: ``± z SE`` with the true SE, the bound from unseen flips alone, and the largest bound at each drop."""

    normal: float
    unseen: float
    bound: float

    @property
    def width(self) -> float:
        """The larger of what a normal mean of known variance takes, and the bound."""
        return max(self.normal, self.bound)


def unseen_flips(n: int, tail: float = TAIL) -> float:
    """``∫ max(0, 1 - tail / (1 - π)^n) dπ``, the reach on one side where nothing flips."""
    most = 1 - tail ** (1 / n)
    return most - tail * ((1 - most) ** (1 - n) - 1) / (n - 1) if n > 1 else most + tail * np.log1p(-most)


def both_right(c0: float, c1: float, correlation: float) -> float:
    """P(X < c0, Y < c1) for standard normal X and Y."""
    if correlation > 1 - 1e-9:
        return float(stats.norm.cdf(min(c0, c1)))
    return float(stats.multivariate_normal.cdf([c0, c1], cov=[[1, correlation], [correlation, 1]]))


@dataclass(frozen=True)
class Variances:
    """Of a cell's mean drop: in all, and of each independent draw the part that its models show in their spread."""

    total: float
    shown: tuple[float, ...]
    df: tuple[int, ...]


def variances(cell: Cell) -> Variances:
    """From the law, without simulation."""
    law, n, p = cell.law, cell.n, (cell.accuracy, cell.accuracy - cell.drop)
    cuts = stats.norm.ppf(p)

    def covariance(a: int, b: int, correlation: float) -> float:
        return both_right(cuts[a], cuts[b], correlation) - p[a] * p[b]

    def of_drop(own: float, cross: float) -> float:
        return covariance(0, 0, own) + covariance(1, 1, own) - 2 * covariance(0, 1, cross)

    examples = of_drop(law.examples, law.examples * law.agreement)
    cell_cross = law.examples * law.agreement + 0.8 * (1 - law.examples)
    if cell.paired:
        parts = [(of_drop(law.models, 0.8 * law.models), of_drop(1.0, cell_cross) - examples)]
    else:
        own = [(covariance(a, a, law.models), covariance(a, a, law.examples)) for a in (0, 1)]
        parts = [(m, p[a] * (1 - p[a]) - e) for a, (m, e) in enumerate(own)]
    # What is left in a cell, without the models' own effect.
    shown = tuple((m + (rest - m) / n) / k for (m, rest), k in zip(parts, cell.n_models, strict=False))
    return Variances(examples / n + sum(shown), shown, tuple(k - 1 for k, _ in zip(cell.n_models, parts, strict=False)))


@cache
def spread_of_models(shares: tuple[float, ...], df: tuple[int, ...], size: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """One minus the least power, at drops in units of the standard error.

    Args:
        shares: Part of the variance of the mean that each draw of models shows.
        df: Degrees of freedom of each.
        size: Samples of each of two sets, one to choose the law and one to judge it.
    """
    rng, steps = np.random.default_rng(0), np.linspace(0.25, 11.75, 24)
    choices = [tuple([i == j for j in range(len(df))]) for i in range(len(df))]
    choices += [(True,) * len(df)] if len(df) > 1 else []
    x = rng.standard_normal((2, size))
    chi = [rng.chisquare(f, (2, size)) for f in df]
    missed = []
    for step in steps:
        powers = []
        for inflated in choices:
            for c in [1.0, *np.geomspace(1.3, 2 + 3 * step**2, 8)]:
                variance = 1 + sum(r * (c - 1) for r, use in zip(shares, inflated, strict=True) if use)

                def log_ratio(mean, squares, variance=variance, c=c, inflated=inflated, step=step):
                    value = (mean**2 - (mean - step) ** 2 / variance - np.log(variance)) / 2
                    for s, f, use in zip(squares, df, inflated, strict=True):
                        value = value + use * (s * (1 - 1 / c) - f * np.log(c)) / 2
                    return value

                scale = [np.where(use, c, 1.0) for use in inflated]
                under_q = log_ratio(step + np.sqrt(variance) * x, [s * a for s, a in zip(chi, scale, strict=True)])
                under_p = log_ratio(x, chi)
                powers.append([(p < np.quantile(q, TAIL)).mean() for p, q in zip(under_p, under_q, strict=True)])
        first, second = np.array(powers).T
        missed.append(1 - second[first.argmin()])
    return steps, np.array(missed)


@dataclass(frozen=True)
class Latents:
    """Examples of a probit law on a grid: their weights, and their scores in each arm."""

    weight: np.ndarray
    scores: tuple[np.ndarray, np.ndarray]
    noise: float

    def right(self, accuracy: float, arm: int) -> np.ndarray:
        return stats.norm.cdf((stats.norm.ppf(accuracy) - self.scores[arm]) / self.noise)


@cache
def latents(law: Law) -> Latents:
    grid = np.linspace(-5, 5, 81) if law.examples else np.zeros(1)
    other = np.linspace(-3.5, 3.5, 15) if law.agreement < 1 and law.examples else np.zeros(1)
    weight = (stats.norm.pdf(grid)[:, None] * stats.norm.pdf(other)).ravel()
    e0, z = (x.ravel() for x in np.meshgrid(grid, other, indexing="ij"))
    e1 = law.agreement * e0 + np.sqrt(1 - law.agreement**2) * z
    a = np.sqrt(law.examples)
    return Latents(weight / weight.sum(), (a * e0, a * e1), float(np.sqrt(1 - law.examples)))


def lost_and_gained(found: Latents, accuracies: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Of paired cells, whose noise has correlation .8: P(right, then wrong) and P(wrong, then right)."""
    u = (np.arange(64) + 0.5) / 64
    c0, c1 = ((stats.norm.ppf(p) - s) / found.noise for p, s in zip(accuracies, found.scores, strict=True))
    first = stats.norm.cdf(c0)
    wrong = stats.norm.ppf(first[:, None] * u)  # noise of the base where it is right
    lost = first * (1 - stats.norm.cdf((c1[:, None] - 0.8 * wrong) / 0.6)).mean(axis=1)
    return lost, np.maximum(stats.norm.cdf(c1) - first + lost, 0.0)


def count_law(cell: Cell, accuracies: tuple[float, float], weight: np.ndarray) -> np.ndarray:
    """Law of what an example shows: right answers in each arm, or of paired arms its flips each way."""
    found, (k0, k1) = latents(cell.law), cell.n_models
    if not cell.paired:
        first, second = (
            stats.binom.pmf(np.arange(k + 1)[:, None], k, found.right(p, arm))
            for arm, (k, p) in enumerate(zip((k0, k1), accuracies, strict=True))
        )
        return ((first * weight) @ second.T).ravel()
    lost, gained = (np.clip(x, 1e-300, 1.0) for x in lost_and_gained(found, accuracies))
    b, c = flip_counts(k0)
    choose = special.gammaln(k0 + 1) - special.gammaln(b + 1) - special.gammaln(c + 1) - special.gammaln(k0 - b - c + 1)
    same = np.log(np.maximum(1 - lost - gained, 1e-300))
    log_law = choose[:, None] + b[:, None] * np.log(lost) + c[:, None] * np.log(gained) + (k0 - b - c)[:, None] * same
    return np.exp(log_law) @ weight


def flip_counts(k: int) -> tuple[np.ndarray, np.ndarray]:
    b, c = np.array([(b, c) for b in range(k + 1) for c in range(k + 1 - b)]).T
    return b, c


@cache
def rivals(
    law: Law, accuracy: float, drop: float, n_models: tuple[int, int], paired: bool, sign: int, error: float
) -> tuple[np.ndarray, list[tuple[float, np.ndarray]], int]:
    """The law of an example, others with their drops in the direction of ``sign``, and the place of a whole flip."""
    cell, found = Cell(law, accuracy, drop, n_models, 1, paired), latents(law)
    p0, p1 = accuracy, accuracy - drop
    d = sign * (found.right(p0, 0) - found.right(p1, 1))
    truth = count_law(cell, (p0, p1), found.weight)
    others = [(sign * drop, truth)]
    for tilt in TILTS[1:]:
        weight = found.weight / (1 - tilt * d)
        weight = weight / weight.sum()
        others.append((float(weight @ d), count_law(cell, (p0, p1), weight)))
    for shift in SHIFTS:
        moved = (p0, p1 - shift * error) if sign > 0 else (p0 - shift * error, p1)
        if min(moved) > 0:
            others.append((sign * (moved[0] - moved[1]), count_law(cell, moved, found.weight)))
    if paired:
        b, c = flip_counts(n_models[0])
        whole = int(np.flatnonzero((b if sign > 0 else c) == n_models[0])[0])
    else:
        whole = n_models[0] * (n_models[1] + 1) if sign > 0 else n_models[1]
    return truth, others, whole


def tilts(cell: Cell, sign: int, error: float, samples: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Distances of drops from the truth in one direction, and one minus the least power there."""
    # Shifts of accuracy in steps that cells share.
    step = float(f"{error:.0e}")
    truth, others, whole = rivals(cell.law, cell.accuracy, cell.drop, cell.n_models, cell.paired, sign, step)
    rng = np.random.default_rng([cell.n, *cell.n_models])
    drawn = rng.choice(len(truth), p=truth / truth.sum(), size=(2 * samples, cell.n))
    rows = np.repeat(np.arange(2 * samples), cell.n)
    counts = sparse.csr_array((np.ones(drawn.size), (rows, drawn.ravel())), shape=(2 * samples, len(truth)))
    span = 1 - TAIL ** (1 / cell.n) + 4 * error
    distances = (np.arange(POINTS) + 0.5) / POINTS * span
    missed = []
    for distance in distances:
        target, logs = sign * cell.drop + distance, []
        for mean, law in others:
            if mean <= target < 1:
                whole_flips = (target - mean) / (1 - mean)
                mixed = (1 - whole_flips) * law
                mixed[whole] += whole_flips
                logs.append(np.log(np.maximum(mixed, 1e-300)) - np.log(np.maximum(truth, 1e-300)))
        if not logs:
            missed.append(0.0)
            continue
        powers = np.array([[power(x) for x in np.split(s, 2)] for s in (counts @ np.stack(logs, axis=1)).T])
        missed.append(1 - powers[powers[:, 0].argmin(), 1])
    return distances, np.array(missed)


def power(log_ratio: np.ndarray) -> float:
    """Power at P of the best test of Q at ``TAIL``, from samples of ``log dQ/dP`` under P."""
    spent = np.cumsum(np.exp(np.sort(log_ratio))) / len(log_ratio)
    return float(np.interp(TAIL, np.concatenate([[0.0], spent]), np.linspace(0, 1, len(spent) + 1)))


def need(cell: Cell, *, tilted: bool = True) -> Need:
    """The widths that a cell needs; without the tilts, which take seconds, the bound is lower."""
    found = variances(cell)
    error = float(np.sqrt(found.total))
    shares = tuple(int(20 * x / found.total + 1e-9) / 20 for x in found.shown)  # rounded down, for the cache
    steps, few_models = spread_of_models(shares, found.df)
    bound = 0.0
    for sign in (1, -1):
        room = 1 - sign * cell.drop  # how far the drop can go in this direction
        fine = (np.arange(400) + 0.5) / 400 * min(max(12 * error, 1 - TAIL ** (1 / cell.n)), room)
        best = np.maximum(1 - TAIL / np.maximum(1 - fine / room, 1e-9) ** cell.n, 0.0)
        best = np.maximum(best, np.interp(fine / error, steps, few_models, right=0.0))
        if tilted:
            best = np.maximum(best, np.interp(fine, *tilts(cell, sign, error), right=0.0))
        bound += float(best.mean() * (fine[-1] + fine[0]))
    return Need(2 * float(stats.norm.isf(TAIL)) * error, 2 * unseen_flips(cell.n), bound)
