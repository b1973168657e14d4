"""How many examples are memorized: the naive count, the settled ones, and a count freed from sampling noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special, stats

from lightning_memaudit.functional.checks import (
    Array,
    BoolArray,
    FloatArray,
    as_blocks,
    as_outcomes,
    as_positive_int,
    as_probability,
    as_threshold,
    is_fractional,
)
from lightning_memaudit.functional.memorization._in_out import InOut, in_out_sums
from lightning_memaudit.functional.memorization._score import IntervalMethod, interval_method, interval_of_in_out

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ShareOfExamples:
    """A share of the estimable examples; NaN when there is none.

    Attributes:
        share: In [0, 1].
        count: Number of examples behind it; not a whole number where the share was deconvolved.
    """

    share: float
    count: float


@dataclass(frozen=True, slots=True)
class EstimatedShare:
    """A share of the estimable examples with an interval from resampling models and examples.

    Attributes:
        share: In [0, 1]; NaN when it is not available.
        count: ``share`` times the number of estimable examples.
        standard_error: NaN without replicates.
        low: Lower end of ``share`` ± a normal quantile times its standard error; does not allow for bias.
        high: Upper end.
    """

    share: float
    count: float
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Prevalence:
    """Share of examples with memorization of at least a threshold, estimated in three ways; show all three.

    Attributes:
        threshold: τ.
        n_examples: n.
        n_estimable: Examples with models in and out and no missing outcome.
        naive: Examples with an estimated score ≥ τ; biased in either direction by the noise of the scores.
        above: Examples whose interval lies entirely at or above τ.
        below: Examples whose interval lies entirely below τ.
        undecided: Examples whose interval holds τ.
        deconvolved: By the NPMLE; NaN for fractional outcomes, whose noise is not binomial.
        interval_method: Name of the interval behind above, below and undecided.
        reason: Why ``deconvolved`` is NaN, or an empty text.
    """

    threshold: float
    n_examples: int
    n_estimable: int
    naive: EstimatedShare
    above: ShareOfExamples
    below: ShareOfExamples
    undecided: ShareOfExamples
    deconvolved: EstimatedShare
    interval_method: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The keys under which ``report.json`` has it."""
        shares = ("naive", "above", "below", "undecided", "deconvolved")
        ends = ("standard_error", "low", "high")
        return {
            "threshold": self.threshold,
            "n_examples": self.n_examples,
            "n_estimable": self.n_estimable,
            **{name: getattr(self, name).share for name in shares},
            **{f"{name}_count": getattr(self, name).count for name in shares},
            **{f"{name}_{end}": getattr(getattr(self, name), end) for name in ("naive", "deconvolved") for end in ends},
            "interval_method": self.interval_method,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Mixture:
    """Fitted distribution of the two accuracies.

    Attributes:
        grid: Accuracies, float64[G].
        weights: Share of examples at (in, out) = (grid[a], grid[b]), float64[G, G].
    """

    grid: FloatArray
    weights: FloatArray

    def share(self, threshold: float) -> float:
        """Share of examples whose in minus out is at least a threshold; a cell exactly at it counts half."""
        gap = self.grid[:, None] - self.grid[None, :] - threshold
        at = np.abs(gap) < 1e-9
        return float(self.weights[(gap > 0) & ~at].sum() + self.weights[at].sum() / 2)


def prevalence(
    correct: Array,
    mask: Array,
    *,
    threshold: float = 0.25,
    level: float = 0.95,
    n_bootstrap: int = 50,
    blocks: Array | None = None,
    seed: int = 0,
    method: IntervalMethod = "agresti-caffo",
) -> Prevalence:
    """Estimate how many examples have ``mem >= threshold``.

    The deconvolved figure is right where scores fall into separated groups, and no better than the naive one where
    they are spread smoothly. Standard errors come from resampling models (whole blocks) and examples together; each
    replicate starts at the full fit and takes few EM steps.

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].
        threshold: τ in (−1, 1).
        level: Two-sided level, of each example's interval and of the intervals of the shares.
        n_bootstrap: Replicates; 0 for none.
        blocks: Models that are resampled together [M]; ``None``: each alone.
        seed: Seed of the resampling.
        method: Interval for above, below and undecided; fractional outcomes take ``welch_floor`` whatever it says.

    Returns:
        Shares, counts, standard errors and intervals.

    Raises:
        ArgumentError: Malformed arrays or an option out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((200, 100)) < 0.7
        >>> correct = np.where(np.arange(100) < 30, mask, True)
        >>> found = prevalence(correct, mask, n_bootstrap=0)
        >>> found.naive.count, found.above.count, round(found.deconvolved.share, 2)
        (30, 30, 0.3)
    """
    outcomes, inside = as_outcomes(correct, mask)
    as_threshold(threshold)
    z = float(stats.norm.ppf(0.5 + as_probability(level, name="level") / 2))
    n_bootstrap = as_positive_int(n_bootstrap, name="n_bootstrap", minimum=0)
    codes = as_blocks(blocks, len(outcomes))
    name, fractional = interval_method(outcomes, method), is_fractional(outcomes)

    in_out = in_out_sums(outcomes, inside)
    kept = in_out.estimable
    n_estimable = int(kept.sum())
    low, high = interval_of_in_out(in_out, outcomes, inside, level=level, name=name)
    above, below = int((low[kept] >= threshold).sum()), int((high[kept] < threshold).sum())
    naive = _naive(in_out, threshold, np.ones(len(kept)))
    mixture, deconvolved, reason = None, float("nan"), ""
    if n_estimable == 0:
        reason = "no example has models both in and out"
    elif fractional:
        reason = "outcomes are fractions, so their noise is not binomial"
    else:
        mixture = fit_mixture(
            in_out.sum_in[kept], in_out.n_in[kept], in_out.sum_out[kept], in_out.n_out[kept], threshold=threshold
        )
        deconvolved = mixture.share(threshold)

    replicates = np.full((n_bootstrap, 2), np.nan)
    rng = np.random.default_rng(seed)
    for replicate in replicates if n_estimable else ():
        replicate[:] = _resampled(outcomes, inside, codes, rng, threshold, mixture)
    errors = replicates.std(axis=0, ddof=1) if n_bootstrap > 1 else np.full(2, np.nan)

    def share(count: int) -> ShareOfExamples:
        return ShareOfExamples(count / n_estimable if n_estimable else float("nan"), count)

    def estimated(value: float, count: float, error: float) -> EstimatedShare:
        return EstimatedShare(value, count, error, _clipped(value - z * error), _clipped(value + z * error))

    return Prevalence(
        threshold=float(threshold),
        n_examples=outcomes.shape[1],
        n_estimable=n_estimable,
        naive=estimated(naive, round(naive * n_estimable) if n_estimable else 0, float(errors[0])),
        above=share(above),
        below=share(below),
        undecided=share(n_estimable - above - below),
        deconvolved=estimated(deconvolved, deconvolved * n_estimable, float(errors[1])),
        interval_method=name,
        reason=reason,
    )


def fit_mixture(
    k_in: FloatArray,
    n_in: FloatArray,
    k_out: FloatArray,
    n_out: FloatArray,
    *,
    threshold: float,
    counts: FloatArray | None = None,
    start: Mixture | None = None,
    max_iterations: int = 500,
    tolerance: float = 1e-7,
) -> Mixture:
    """Nonparametric maximum likelihood of the two accuracies on a grid of cells, by EM (Laird 1978).

    Each example is a pair of independent binomials; equal count tuples are fitted once. The likelihood is separable, so
    one EM step is four thin matrix products.

    Args:
        k_in: Right answers IN, float64[n].
        n_in: Models IN.
        k_out: Right answers OUT.
        n_out: Models OUT.
        threshold: τ; the step of the grid is chosen so that differences fall on both sides of it and none on it.
        counts: How often each example counts; ``None``: once.
        start: Fit to begin at; ``None``: the uniform distribution.
        max_iterations: EM steps at most.
        tolerance: Stop when the mean log-likelihood gains less in one step.

    Returns:
        The fitted mixture.

    Example:
        >>> full, none = np.full(50, 20.0), np.zeros(50)
        >>> print(f"{fit_mixture(full, full, none, full, threshold=0.25).share(0.25):.3f}")
        1.000
    """
    grid = np.linspace(0.0, 1.0, grid_steps(threshold) + 1)
    times = np.ones(len(k_in)) if counts is None else counts
    tuples, which = np.unique(np.stack([k_in, n_in, k_out, n_out]), axis=1, return_inverse=True)
    times = np.asarray(np.bincount(which.ravel(), weights=times, minlength=tuples.shape[1]), dtype=np.float64)
    tuples, times = tuples[:, times > 0], times[times > 0] / times.sum()
    like_in, like_out = (_likelihood(tuples[i], tuples[i + 1], grid) for i in (0, 2))
    size = len(grid)
    weights = np.full((size, size), 1.0 / size**2)
    if start is not None:
        # A little of the uniform law, because EM never revives a cell at 0.
        weights = 0.99 * start.weights + 0.01 * weights
    before = -np.inf
    for _ in range(max_iterations):
        density = np.maximum(((like_in @ weights) * like_out).sum(axis=1), 1e-300)
        weights = weights * (like_in.T @ (like_out * (times / density)[:, None]))
        now = float(times @ np.log(density))
        if now - before < tolerance:
            break
        before = now
    return Mixture(grid, weights / weights.sum())


def grid_steps(threshold: float, *, minimum: int = 25, maximum: int = 45) -> int:
    """Number of steps on [0, 1] whose multiples stay as far from a threshold as they can.

    Args:
        threshold: τ.
        minimum: Fewest steps.
        maximum: Most steps.

    Returns:
        The fewest steps G for which τ·G is farthest from a whole number; τ = 0 has none, and its cells count half.

    Example:
        >>> grid_steps(0.25)
        26
    """
    steps = np.arange(minimum, maximum + 1)
    distance = np.abs(threshold * steps - np.round(threshold * steps))
    return int(steps[np.argmax(distance > distance.max() - 1e-9)])


def _likelihood(k: FloatArray, n: FloatArray, grid: FloatArray) -> FloatArray:
    """Binomial likelihood of each count at each grid point, scaled to a largest value of 1, float64[U, G]."""
    log = special.xlogy(k[:, None], grid) + special.xlog1py((n - k)[:, None], -grid)
    return np.asarray(np.exp(log - log.max(axis=1, keepdims=True)), dtype=np.float64)


def _naive(in_out: InOut, threshold: float, counts: FloatArray) -> float:
    """Share of estimable examples with a score of at least the threshold."""
    mean_in, mean_out = in_out.means()
    kept = in_out.estimable
    total = float(counts[kept].sum())
    # The tolerance keeps scores such as .95 - .70 on the right side of .25.
    reached = mean_in[kept] - mean_out[kept] >= threshold - 1e-12
    return float(counts[kept][reached].sum()) / total if total else float("nan")


def _resampled(
    correct: NDArray[Any],
    mask: BoolArray,
    blocks: NDArray[np.int64],
    rng: np.random.Generator,
    threshold: float,
    mixture: Mixture | None,
) -> tuple[float, float]:
    """Naive and deconvolved shares of one replicate over models and examples."""
    n_blocks, n = int(blocks.max()) + 1, correct.shape[1]
    weights = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks))[blocks].astype(np.float64)
    counts = rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64)
    in_out = in_out_sums(correct, mask, weights)
    naive = _naive(in_out, threshold, counts)
    kept = in_out.estimable & (counts > 0)
    if mixture is None or not kept.any():
        return naive, float("nan")
    fit = fit_mixture(
        in_out.sum_in[kept],
        in_out.n_in[kept],
        in_out.sum_out[kept],
        in_out.n_out[kept],
        threshold=threshold,
        counts=counts[kept],
        start=mixture,
        max_iterations=30,
    )
    return naive, fit.share(threshold)


def _clipped(value: float) -> float:
    return float(np.clip(value, 0.0, 1.0))
