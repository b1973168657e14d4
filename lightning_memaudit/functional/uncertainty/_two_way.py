"""Interval of a mean difference between arms when models and examples are both random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import as_array, as_probability, divide
from lightning_memaudit.functional.intervals import Interval, tango_upper, tango_within
from lightning_memaudit.functional.uncertainty._crossed import Crossed, crossed
from lightning_memaudit.functional.uncertainty._flips import Flips, flips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray

Form = Literal["auto", "normal"]
Alternative = Literal["two-sided", "greater", "less"]

#: The normal form is used when at least this many examples differ between the arms ...
FEW_FLIPS = 100.0
#: ... or at least this share of them, since the mean is skewed only where few differ ...
SPARSE_FLIPS = 0.4
#: ... and each arm has at least this many outcomes unlike most of its own.
FEW_EVENTS = 10.0
#: Skewness of the mean beyond which it is allowed for ...
SKEWED = 0.03
#: ... and made larger by this over n (or over 20 below it), since few examples show too little of it.
UNDERSTATED = 8.0
# Part of a whole flip that is added to what was seen, so that flips that were not seen count in the size of a flip.
_UNSEEN = 0.25
_NO_SPREAD = 1e-15
_TINY = 1e-300
_FAR = 1e60


@dataclass(frozen=True, slots=True)
class TwoWay:
    """A mean difference by group and its two sources of variance; one entry a group, NaN for a group without examples.

    **Normal form**: the half-width h has ``h² = t² example_variance + max(M − t² Σ within, 0)`` with Student's t on
    n − 1 degrees of freedom; ``example_variance`` holds ``within`` already. M is ``t_K² between`` with t_K on the arm's
    K − 1, so that few models widen their own part and not that of the examples. Adding the squares of independent t
    intervals never covers too little (Banerjee 1960) but too much for two arms of few models: for those M is the
    geometric mean of their sum and of Satterthwaite's square (``joint_factor``), which covers at least .9495 for 2 to
    100 models and all shares of the variance.
    Where the skewness κ of the mean exceeds .03 in size, the half-width on its side gains ``|κ| (2 z² + 1) / 6 SE``
    (Johnson 1978): without, at 20 examples and 100 models, an upper bound at .05 misses up to .074. κ is made larger by
    8 / n, which in simulation is about what samples of 20 understate it by.

    **Score form**, where few examples differ (``score``): the mean of few flips is skewed, and without any the
    normal form has no width. Flips are taken as ±φ with ``φ = (Σd² + 1/4) / (Σ|d| + 1/4)``, and their Tango interval
    ``φ · tango(Σd⁺/φ, Σd⁻/φ, n)`` has the mean and (but for the 1/4) the variance that were seen. Its two half-widths
    take the place of ``t √example_variance``, and z that of t (square-and-add, Zou and Donner 2008); κ is then the
    skewness that flips of one size lack. With one model an arm, and without any flip, it is Tango's interval itself.

    Attributes:
        n: Number of examples, float64[G].
        estimate: Mean difference, float64[G].
        example_variance: Variance from the choice of examples (and what is left in a cell), float64[G].
        between: ``MS_models / (n K)`` of each independent draw of models, float64[A, G]; 0 for a single model.
        within: ``MS_residual / (n K)`` likewise.
        models_df: ``K − 1`` of each, float64[A, G]; infinite for a single model.
        score: Whether the score form is used, bool[G].
        skewness: κ where it is allowed for, else 0, float64[G].
        covers_models: Whether every arm has two or more models, bool[G].
        flips: The sums that the score form needs.
        scale: Largest difference that an example can have.
    """

    n: FloatArray
    estimate: FloatArray
    example_variance: FloatArray
    between: FloatArray
    within: FloatArray
    models_df: FloatArray
    score: BoolArray
    skewness: FloatArray
    covers_models: BoolArray
    flips: Flips
    scale: float

    @property
    def n_models(self) -> FloatArray:
        """Models of the smallest draw, float64[G]."""
        known = np.where(np.isfinite(self.models_df), self.models_df + 1, 1.0)
        return np.asarray(known.min(axis=0))

    @property
    def model_variance(self) -> FloatArray:
        """Variance from the choice of models, at least 0, float64[G]; a single model's is taken as 0."""
        return np.asarray(np.where(self.n > 0, np.maximum(self.between - self.within, 0.0).sum(axis=0), np.nan))

    @property
    def example_df(self) -> FloatArray:
        """Degrees of freedom of the examples: n − 1, and infinite in the score form, float64[G]."""
        return np.where(self.score, np.inf, np.maximum(self.n - 1, 1.0))

    def example_squares(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Squared half-widths, down and up, from the examples alone.

        Args:
            tail: One-sided error of each, float64[G] or a scalar array.

        Returns:
            Down and up, float64[G].
        """
        normal = _squared_t(tail, self.example_df) * self.example_variance
        if not self.score.any():
            return normal, normal
        b, c, n, size = self._counts()
        z2 = stats.norm.isf(tail) ** 2
        up = size * tango_upper(b, c, n, z2) - self.estimate
        down = size * tango_upper(c, b, n, z2) + self.estimate
        return np.where(self.score, down**2, normal), np.where(self.score, up**2, normal)

    def model_squares(
        self, tail: FloatArray, example_df: FloatArray | None = None, joint: FloatArray | None = None
    ) -> FloatArray:
        """What the models add to the squared half-widths.

        Args:
            tail: One-sided error, float64[G] or a scalar array.
            example_df: Degrees of freedom at which the examples were counted; ``None``: its own.
            joint: Factor of the draws' added squares, float64[G]; ``None``: ``joint_factor``.

        Returns:
            float64[G].
        """
        factor = self.joint_factor(tail) if joint is None else joint
        counted = _squared_t(tail, self.example_df if example_df is None else example_df) * self.within.sum(axis=0)
        return np.asarray(np.maximum(factor * self._squares(tail).sum(axis=0) - counted, 0.0))

    def lasting_squares(self, tail: FloatArray) -> FloatArray:
        """What the models would add to the squared half-widths however many examples there are.

        Args:
            tail: One-sided error, float64[G] or a scalar array.

        Returns:
            float64[G].
        """
        lasting = _squared_t(tail, self.models_df) * np.maximum(self.between - self.within, 0.0)
        return np.asarray(self.joint_factor(tail) * lasting.sum(axis=0))

    def joint_factor(self, tail: FloatArray) -> FloatArray:
        """By how much independent draws of models need less than the sum B of their squares ``t_K² between``.

        ``sqrt(S / B)`` where that is below 1, with ``S = t_ν² Σ between`` and Satterthwaite's
        ``ν = B² / Σ (t_K² between)² / (K - 1)``, weighted by the squares that are added, so that few models keep it
        small.

        Args:
            tail: One-sided error, float64[G] or a scalar array.

        Returns:
            In (0, 1], float64[G]; 1 for a single draw.
        """
        squares = self._squares(tail)
        added = squares.sum(axis=0)
        several = (squares > 0).sum(axis=0) > 1
        df = divide(added**2, (squares**2 / self.models_df).sum(axis=0))
        together = _squared_t(tail, np.where(several, df, 1.0)) * self.between.sum(axis=0)
        return np.where(several, np.minimum(np.sqrt(np.nan_to_num(divide(together, added))), 1.0), 1.0)

    def _squares(self, tail: FloatArray) -> FloatArray:
        """Squared half-width from each draw of models, ``t_K² between``."""
        return _squared_t(tail, self.models_df) * self.between

    def _counts(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Flips lost and gained, examples (NaN where there are none), and the size of a flip."""
        lost, gained = self.flips.lost / self.scale, self.flips.gained / self.scale
        size = flip_size(self.flips, self.scale)
        # Rounding may lift the number of flips above the number of examples.
        over = np.maximum(np.nan_to_num(divide((lost + gained) / size, self.n)), 1.0)
        n = np.where(self.score & (self.n > 0), self.n, np.nan)
        return lost / size / over, gained / size / over, n, size * self.scale

    def half_widths(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Half-widths down and up.

        Args:
            tail: One-sided error, a scalar array or one for each group.

        Returns:
            Both, float64[G].
        """
        down, up = self.example_squares(tail)
        models = self.model_squares(tail)
        more_down, more_up = self.skew_widths(tail)
        return np.sqrt(down + models) + more_down, np.sqrt(up + models) + more_up

    def skew_widths(self, tail: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What skewness adds to the half-widths, down and up.

        Args:
            tail: One-sided error, a scalar array or one for each group.

        Returns:
            Both, float64[G]; one of them is 0.
        """
        return self._skew(stats.norm.isf(tail) ** 2)

    def _skew(self, z2: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The same from the square of the normal quantile."""
        shift = self.skewness * (2 * z2 + 1) / 6 * np.sqrt(self.example_variance + self.model_variance)
        return np.maximum(-shift, 0.0), np.maximum(shift, 0.0)

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided interval; each end is a one-sided bound at ``(1 + level) / 2``.

        Args:
            level: Confidence level.

        Returns:
            ``(low, high)``, float64[G], within plus and minus ``scale``.

        Raises:
            ArgumentError: ``level`` is not in (0, 1).
        """
        down, up = self.half_widths(np.asarray((1 - as_probability(level, name="level")) / 2))
        low, high = self.estimate - down, self.estimate + up
        return np.clip(low, -self.scale, self.scale), np.clip(high, -self.scale, self.scale)

    def p_value(self, margin: float = 0.0, *, alternative: Alternative = "two-sided") -> FloatArray:
        """p-value by inverting the interval: below α exactly where the bound at α excludes the margin.

        Args:
            margin: Value under the hypothesis.
            alternative: ``"greater"`` tests H0: difference ≤ margin, ``"less"`` H0: difference ≥ margin.

        Returns:
            float64[G]; NaN for a group without examples.

        Example:
            >>> found = two_way([np.ones((1, 50)), np.zeros((1, 50))], (1, -1), np.zeros(50, dtype=int), n_groups=1)
            >>> bool(found.p_value()[0] < 1e-9)
            True
        """
        bound = float(as_array(margin, name="margin", ndim=0))
        above = self.estimate >= bound
        b, c, n, size = self._counts()
        lost, gained = np.where(above, c, b), np.where(above, b, c)
        center, distance = np.where(above, -1, 1) * self.estimate, np.abs(self.estimate - bound)
        low, high = np.full_like(self.estimate, np.log(_TINY)), np.full_like(self.estimate, np.log(0.5))
        for _ in range(60):
            middle = (low + high) / 2
            tail = np.exp(middle)
            t2, z2 = _squared_t(tail, self.example_df), stats.norm.isf(tail) ** 2
            models = self.model_squares(tail)
            # What is left of the distance must exceed the half-width that the flips alone give.
            skew = np.where(above, *self._skew(z2))
            score = np.maximum(distance - skew, 0.0) ** 2 - models
            delta = np.minimum((center + np.sqrt(np.maximum(score, 0.0))) / size, 1.0)
            outside = (score > 0) & ~tango_within(lost, gained, n, delta, z2)
            half = np.sqrt(t2 * self.example_variance + models) + skew
            excluded = np.where(self.score, outside, distance > half)
            low, high = np.where(excluded, low, middle), np.where(excluded, middle, high)
        one_sided = np.where(np.isnan(self.estimate), np.nan, np.exp(high))
        if alternative == "two-sided":
            return 2 * one_sided
        return np.where(above == (alternative == "greater"), one_sided, 1 - one_sided)


def flip_size(seen: Flips, scale: float) -> FloatArray:
    """Size φ that flips are taken to have in the score form, relative to ``scale``.

    Args:
        seen: Sums of differences by group.
        scale: Largest difference that an example can have.

    Returns:
        At most 1, float64[G].

    Example:
        >>> from lightning_memaudit.functional.uncertainty._flips import flips
        >>> flip_size(flips(np.array([0.5, 0.5, 0.0]), np.zeros(3, dtype=int), n_groups=1), 1.0)
        array([0.6])
    """
    squares, sizes = seen.squares / scale**2, (seen.lost + seen.gained) / scale
    return np.asarray(np.minimum((squares + _UNSEEN) / (sizes + _UNSEEN), 1.0))


def _squared_t(tail: FloatArray, df: FloatArray) -> FloatArray:
    """Square of Student's quantile, kept finite, since a variance of 0 may be multiplied by it."""
    return np.asarray(np.minimum(stats.t.isf(tail, df), _FAR) ** 2)


def two_way(
    tables: Sequence[NDArray[Any]],
    weights: Sequence[float],
    groups: IntArray,
    *,
    n_groups: int,
    paired: bool = False,
    form: Form = "auto",
) -> TwoWay:
    """Estimate ``sum_a weights[a] · mean(tables[a])`` by group, for random models and random examples.

    With ``d_i`` the weighted sum of the arms' means on example i and MS from the crossed models × examples table, the
    variance is ``s²(d) / n + sum_a weights[a]² (MS_models - MS_residual) / (n K_a)``, and each part has its own
    quantile. Paired arms make one table of differences. Satterthwaite's degrees of freedom cover too little at three
    to ten models against many.

    Args:
        tables: Checked outcomes [K_a, n] of each arm, with NaN where a model has none.
        weights: Weight of each arm, such as (1, −1).
        groups: Group of each example, int64[n]; every example has an outcome in every arm.
        n_groups: G.
        paired: Row k of every table belongs to one draw of the models.
        form: ``"auto"``: the score form where few examples differ, and skewness allowed for; ``"normal"``: neither.

    Returns:
        The estimate by group.

    Example:
        >>> found = two_way([np.ones((3, 50)), np.ones((4, 50))], (1, -1), np.zeros(50, dtype=int), n_groups=1)
        >>> low, high = found.interval()
        >>> print(f"{low[0]:.4f} {high[0]:.4f}")
        -0.0713 0.0713
    """
    return assemble(
        *summarise(tables, weights, groups, n_groups=n_groups, paired=paired), scale=reach(weights), form=form
    )


def reach(weights: Sequence[float]) -> float:
    """Largest absolute difference that outcomes in [0, 1] can have under weights that sum to 0.

    Args:
        weights: One an arm.

    Returns:
        Half the sum of their absolute values.

    Example:
        >>> reach((1, -2, 1))
        2.0
    """
    return sum(abs(weight) for weight in weights) / 2


def summarise(
    tables: Sequence[NDArray[Any]], weights: Sequence[float], groups: IntArray, *, n_groups: int, paired: bool
) -> tuple[Flips, list[tuple[float, Crossed]]]:
    """Sum tables by group: differences of examples, and a crossed table for each independent draw of models.

    Args:
        tables: As for ``two_way``.
        weights: One an arm.
        groups: Group of each example.
        n_groups: G.
        paired: One table of differences instead of one an arm.

    Returns:
        The flips, and weights with crossed sums.

    Example:
        >>> arms = [np.ones((2, 3)), np.zeros((2, 3))]
        >>> found, parts = summarise(arms, (1, -1), np.zeros(3, int), n_groups=1, paired=True)
        >>> found.mean, len(parts)
        (array([1.]), 1)
    """
    if paired:
        total = sum(weight * table.astype(np.float64) for weight, table in zip(weights, tables, strict=True))
        tables, weights = [np.asarray(total)], [1.0]
    means = [example_means(table) for table in tables]
    differences = np.sum([weight * mean for weight, mean in zip(weights, means, strict=True)], axis=0)
    parts = [
        (weight, crossed(table, mean, groups, n_groups=n_groups))
        for weight, table, mean in zip(weights, tables, means, strict=True)
    ]
    return flips(np.asarray(differences), groups, n_groups=n_groups), parts


def example_means(table: NDArray[Any]) -> FloatArray:
    """Mean of each example over the models that have it.

    Args:
        table: Outcomes [K, n]; NaN where a model has none.

    Returns:
        float64[n]; NaN where no model has it.

    Example:
        >>> example_means(np.array([[1.0, np.nan], [0.0, np.nan]]))
        array([0.5, nan])
    """
    if table.dtype.kind != "f":
        return np.asarray(table.mean(axis=0, dtype=np.float64))
    there = ~np.isnan(table)
    return divide(np.where(there, table, 0.0).sum(axis=0, dtype=np.float64), there.sum(axis=0, dtype=np.float64))


def assemble(
    seen: Flips,
    parts: Sequence[tuple[float, Crossed]],
    *,
    scale: float,
    form: Form = "auto",
    other: Sequence[tuple[float, Crossed]] | None = None,
) -> TwoWay:
    """Put the sums of differences and of models together.

    Args:
        seen: Differences by group.
        parts: Weights and crossed sums of each independent draw of models.
        scale: Largest difference that an example can have.
        form: As for ``two_way``.
        other: Crossed sums of a disjoint set of examples; then the spread of models is that of the difference of means.

    Returns:
        The estimate by group.

    Example:
        >>> found, parts = summarise([np.eye(2), np.eye(2)], (1, -1), np.array([0, 1]), n_groups=2, paired=False)
        >>> assemble(found, parts, scale=1.0).estimate
        array([0., 0.])
    """
    n = seen.n
    few, covers = n < 2, n > 0
    spreads, freedom = [], []
    for index, (weight, table) in enumerate(parts):
        unlike = table.minority if len(parts) > 1 else (seen.lost + seen.gained) * table.n_models / scale
        few = few | (unlike < FEW_EVENTS)
        spread = table.spread(None if other is None else other[index][1])
        spreads.append([weight**2 * np.nan_to_num(part) for part in spread])
        several = table.n_models > 1
        covers = covers & several
        freedom.append(np.where(several, table.n_models - 1, np.inf))
    between, within = np.stack(spreads, axis=1)
    models = np.maximum(between - within, 0.0).sum(axis=0)
    # Kish's effective number of flips: that of equally large ones with this mean and variance.
    flipped = np.nan_to_num(divide((seen.lost + seen.gained) ** 2, seen.squares))
    few = few | (flipped < np.minimum(SPARSE_FLIPS * n, FEW_FLIPS)) | ~(seen.variance + models > _NO_SPREAD)
    few = few | ~covers
    score = few if form == "auto" else np.zeros_like(few)
    third = seen.third_moment
    if score.any():
        # The score form has the skewness of flips of one size.
        lacking = np.maximum(np.abs(third) - np.abs(seen.third_moment_of(scale * flip_size(seen, scale))), 0.0)
        third = np.where(score, np.sign(third) * lacking, third)
    kappa = np.nan_to_num(divide(third, (seen.variance + models) ** 1.5)) * (1 + UNDERSTATED / np.maximum(n, 20.0))
    corrected = (np.abs(kappa) > SKEWED) & (form == "auto")
    return TwoWay(
        n=n,
        estimate=seen.mean,
        # One example says nothing of its own variance; the score form does without.
        example_variance=np.where((n > 1) | score, seen.variance, np.nan),
        between=between,
        within=within,
        models_df=np.stack(freedom),
        score=score,
        skewness=np.where(corrected, kappa, 0.0),
        covers_models=covers,
        flips=seen,
        scale=scale,
    )
