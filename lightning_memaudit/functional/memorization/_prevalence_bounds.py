"""Bounds of the share of examples that are memorized, which hold however the errors of the scores hang together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.checks import (
    argument_error,
    as_indices,
    as_outcomes,
    as_positive_int,
    as_threshold,
    divide,
)
from lightning_memaudit.functional.memorization._in_out import in_out_sums
from lightning_memaudit.functional.memorization._score import interval_method, interval_of_in_out

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import Array, FloatArray

#: One-sided errors of each example's interval: upper ends for the upper bound, lower ends for the lower.
UPPER_TAIL, LOWER_TAIL = 0.0025, 0.0001
#: Upper ends are taken at this fraction of their error: that far out those of Agresti–Caffo miss up to five times as
#: often as they say (exactly, for an example at τ = .25 in 20 to 1000 models; lower ends do not).
STRICTER = 5.0


@dataclass(frozen=True, slots=True)
class PrevalenceBounds:
    """Counts behind the bounds; one entry a group.

    An example with ``mem >= τ`` has an upper end below τ with probability t at most. So of N such examples an expected
    t N are lost from those whose upper end is not below τ, and by Markov's inequality t N / α are with probability α
    at most: ``N <= possible / (1 - t / α)``. Likewise a lower end above τ is wrong with probability t at most, and
    if a share m is memorized, the share ``certain`` exceeds L with probability ``t (1 - m) / (L - m)`` at most.
    Errors of different examples may depend on each other in any way, as they do through the models. No example that is
    possible counts as one, and all of them certain as half an example less, so that no interval is without width.

    Attributes:
        n: Estimable examples, float64[G]; the shares are of these.
        naive: Examples with a score ≥ τ, float64[G].
        possible: Examples whose upper end at ``upper_tail`` is at or above τ, float64[G].
        certain: Examples whose lower end at ``lower_tail`` is above τ, float64[G].
        threshold: τ.
        upper_tail: One-sided error of the upper ends.
        lower_tail: One-sided error of the lower ends.
    """

    n: FloatArray
    naive: FloatArray
    possible: FloatArray
    certain: FloatArray
    threshold: float
    upper_tail: float = UPPER_TAIL
    lower_tail: float = LOWER_TAIL

    @property
    def estimate(self) -> FloatArray:
        """Share with a score ≥ τ, float64[G]; biased in either direction by the noise of the scores."""
        return divide(self.naive, self.n)

    @property
    def _certain_share(self) -> FloatArray:
        return divide(np.minimum(self.certain, self.n - 0.5), self.n)

    def upper(self, alpha: float) -> FloatArray:
        """Bound that the share exceeds with probability ``alpha`` at most, float64[G].

        Example:
            >>> counts = [np.array([x]) for x in (100.0, 10.0, 19.0, 5.0)]
            >>> PrevalenceBounds(*counts, threshold=0.25).upper(0.05).round(3)
            array([0.2])
        """
        kept = 1 - self.upper_tail / alpha
        share = divide(np.maximum(self.possible, 1.0), self.n)
        return np.minimum(share / kept, 1.0) if kept > 0 else np.where(self.n > 0, 1.0, np.nan)

    def lower(self, alpha: float) -> FloatArray:
        """Bound that the share falls below with probability ``alpha`` at most, float64[G]."""
        share = self._certain_share
        if alpha <= self.lower_tail:
            return np.where(self.n > 0, 0.0, np.nan)
        return np.maximum((alpha * share - self.lower_tail) / (alpha - self.lower_tail), 0.0)

    def p_value(self, margin: float | FloatArray) -> FloatArray:
        """p-value of H0: share ≤ margin, float64[G].

        Example:
            >>> counts = [np.array([x]) for x in (100.0, 10.0, 19.0, 5.0)]
            >>> PrevalenceBounds(*counts, threshold=0.25).p_value(0.04).round(4)
            array([0.0096])
        """
        share, least = self._certain_share, np.maximum(margin, 0.0)  # no share is below 0
        p = np.minimum(divide(self.lower_tail * (1 - least) + 0 * share, share - least), 1.0)
        p = np.where(np.asarray(margin) < 0, 0.0, np.where(share > least, p, 1.0))
        return np.where(self.n > 0, p, np.nan)


def prevalence_bounds(
    correct: Array,
    mask: Array,
    groups: Array,
    *,
    n_groups: int,
    threshold: float = 0.25,
    spent: float = 1.0,
) -> PrevalenceBounds:
    """Count the examples that can be memorized and those that are, by group.

    Args:
        correct: Outcomes [M, n] in [0, 1].
        mask: Membership [M, n].
        groups: Group of each example [n], in [0, n_groups).
        n_groups: G.
        threshold: τ in (−1, 1).
        spent: Share of the one-sided errors that this look may spend, where training stopped by a rule.

    Returns:
        One entry a group.

    Raises:
        ArgumentError: Malformed arrays or an option out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = rng.random((400, 100)) < 0.7
        >>> correct = np.where(np.arange(100) < 30, mask, True)
        >>> found = prevalence_bounds(correct, mask, np.zeros(100, dtype=int), n_groups=1)
        >>> found.lower(0.05).round(2), found.upper(0.05).round(2)
        (array([0.3]), array([0.32]))
    """
    outcomes, inside = as_outcomes(correct, mask)
    as_threshold(threshold)
    if not 0 < spent <= 1:
        raise argument_error("spent", spent, "a number in (0, 1] is needed, 1 where nothing stopped the training")
    total = as_positive_int(n_groups, name="n_groups")
    codes = as_indices(groups, name="groups", size=outcomes.shape[1], upper=total)
    in_out, name = in_out_sums(outcomes, inside), interval_method(outcomes, "agresti-caffo-level")
    mean_in, mean_out = in_out.means()
    kept = in_out.estimable

    def count(which: Any) -> FloatArray:
        return np.bincount(codes[kept & which], minlength=total).astype(np.float64)

    tails = UPPER_TAIL / STRICTER * spent, LOWER_TAIL * spent
    ends = [interval_of_in_out(in_out, outcomes, inside, level=1 - 2 * tail, name=name) for tail in tails]
    return PrevalenceBounds(
        n=count(True),
        naive=count(mean_in - mean_out >= threshold - 1e-12),
        possible=count(ends[0][1] >= threshold),
        certain=count(ends[1][0] > threshold),
        threshold=threshold,
    )
