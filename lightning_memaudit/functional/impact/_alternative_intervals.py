"""Other intervals of a group's accuracy drop: majority votes as pairs, and the two-way bootstrap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lightning_memaudit.functional.checks import FloatArray, IntArray, argument_error, as_positive_int, as_probability
from lightning_memaudit.functional.intervals import Interval, paired_newcombe, tango
from lightning_memaudit.functional.uncertainty import example_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 4_000_000


def vote_counts(base: FloatArray, treated: FloatArray, groups: IntArray, *, n_groups: int) -> FloatArray:
    """Count pairs of majority votes by group: right in both, only in the base, only in the treated arm, in neither.

    Args:
        base: Share of base models right on each example, float64[n]; a tie counts as wrong.
        treated: The same for the treated arm.
        groups: Group of each example, int64[n].
        n_groups: G.

    Returns:
        float64[4, G].

    Example:
        >>> vote_counts(np.array([1.0, 0.6]), np.array([0.5, 1.0]), np.array([0, 0]), n_groups=1).ravel()
        array([1., 1., 0., 0.])
    """
    first, second = base > 0.5, treated > 0.5
    cells = (first & second, first & ~second, ~first & second, ~first & ~second)
    return np.stack([np.bincount(groups, weights=cell, minlength=n_groups) for cell in cells])


def vote_interval(
    base: FloatArray,
    treated: FloatArray,
    groups: IntArray,
    *,
    n_groups: int,
    method: Literal["tango", "newcombe"],
    level: float,
) -> Interval:
    """Interval of the drop of the majority vote, for these models and random examples.

    Args:
        base: Share of base models right on each example, float64[n].
        treated: The same for the treated arm.
        groups: Group of each example.
        n_groups: G.
        method: ``"tango"``, or ``"newcombe"`` (method 10 with the corrected φ; Tango where no vote flips).
        level: Two-sided confidence level.

    Returns:
        ``(low, high)``, float64[G].

    Example:
        >>> right, groups = np.ones(50), np.zeros(50, int)
        >>> low, high = vote_interval(right, right, groups, n_groups=1, method="newcombe", level=0.95)
        >>> print(f"{low[0]:.4f} {high[0]:.4f}")
        -0.0713 0.0713
    """
    a, b, c, d = vote_counts(base, treated, groups, n_groups=n_groups)
    score = tango(b, c, a + b + c + d, level=level)
    if method == "tango":
        return score
    hybrid = paired_newcombe(a, b, c, d, level=level)
    low, high = (np.where(b + c == 0, x, y) for x, y in zip(score, hybrid, strict=True))
    return low, high


def bootstrap_interval(
    base: NDArray[Any],
    treated: NDArray[Any],
    groups: IntArray,
    *,
    n_groups: int,
    paired: bool,
    level: float,
    n_resamples: int,
    seed: int,
) -> Interval:
    """Percentile interval of the drop from resampling models and examples, each by itself.

    Too wide, since what is left in a cell is counted with the models and again with the examples (Owen 2007), and
    without width where nothing differs: for comparison only.

    Args:
        base: Outcomes [M0, n] without NaN.
        treated: Outcomes [M1, n] without NaN.
        groups: Group of each example.
        n_groups: G.
        paired: Draw the same rows from both arms.
        level: Two-sided confidence level.
        n_resamples: Resamples.
        seed: Seed of the resamples.

    Returns:
        ``(low, high)``, float64[G]; NaN for a group without examples.

    Raises:
        ArgumentError: An outcome is missing, or an option is out of range.

    Example:
        >>> x = np.tile([1.0, 0.0], (4, 20))
        >>> low, high = bootstrap_interval(
        ...     x, 1 - x, np.zeros(40, int), n_groups=1, paired=True, level=0.95, n_resamples=200, seed=0
        ... )
        >>> bool(low[0] < 0 < high[0])
        True
    """
    if np.isnan(example_means(base) + example_means(treated)).any() or any(
        table.dtype.kind == "f" and np.isnan(table).any() for table in (base, treated)
    ):
        raise argument_error("interval", "bootstrap", "an outcome in every cell is needed, or interval='two-way'")
    tail = (1 - as_probability(level, name="level")) / 2
    total = as_positive_int(n_resamples, name="n_resamples", minimum=100)
    rng = np.random.default_rng(seed)
    low, high = np.full(n_groups, np.nan), np.full(n_groups, np.nan)
    for group in range(n_groups):
        columns = np.flatnonzero(groups == group)
        if not len(columns):
            continue
        first, second = base[:, columns].astype(np.float64), treated[:, columns].astype(np.float64)
        size = max(1, _CHUNK // len(columns))
        drops = [
            _resample(first, second, min(size, total - start), paired=paired, rng=rng)
            for start in range(0, total, size)
        ]
        low[group], high[group] = np.quantile(np.concatenate(drops), [tail, 1 - tail])
    return low, high


def _resample(
    first: FloatArray, second: FloatArray, size: int, *, paired: bool, rng: np.random.Generator
) -> FloatArray:
    """Drops of one group under ``size`` resamples."""
    examples = _shares(size, first.shape[1], rng)
    models = _shares(size, len(first), rng)
    others = models if paired else _shares(size, len(second), rng)
    return np.asarray(np.einsum("bn,bn->b", models @ first - others @ second, examples))


def _shares(size: int, n: int, rng: np.random.Generator) -> FloatArray:
    """How often each of n is drawn in each resample, divided by n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=size) / n
