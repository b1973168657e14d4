"""Sums of a crossed models × examples table by group, and how much the choice of models moves a group's mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.checks import divide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightning_memaudit.functional.checks import FloatArray, IntArray

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Crossed:
    """Sums over the examples of each group; those of all other groups are the total minus the group's.

    Attributes:
        deviation: ``sum_i (x[k, i] - mean_i)``, with mean_i over the models that have example i, float64[K, G].
        share: Weight of model k in the sum of the example means, ``sum_i 1 / K_i``, float64[K, G].
        cells: Number of outcomes that model k has, float64[K, G].
        squares: ``sum_ki (x[k, i] - mean_i)²``, float64[G].
        total: Sum of all outcomes, float64[G].
        n: Number of examples, float64[G].
        overlap: With missing cells, ``sum_i (1[k = l] - 1 / K_i)`` over examples that models k and l both have,
            float64[G, K, K]; ``None`` without, as it is then ``n`` times the centring matrix.
    """

    deviation: FloatArray
    share: FloatArray
    cells: FloatArray
    squares: FloatArray
    total: FloatArray
    n: FloatArray
    overlap: FloatArray | None

    def rest(self) -> Crossed:
        """The sums over the examples of all other groups."""

        def others(values: FloatArray) -> FloatArray:
            return np.asarray(values.sum(axis=-1, keepdims=True) - values)

        overlap = None
        if self.overlap is not None:
            left = self.overlap.sum(axis=0) - self.overlap
            # What rounding leaves of nothing must not be inverted.
            overlap = np.where(np.abs(left) > _ROUNDING, left, 0.0)
        return Crossed(
            deviation=others(self.deviation),
            share=others(self.share),
            cells=others(self.cells),
            squares=np.maximum(others(self.squares), 0.0),
            total=others(self.total),
            n=others(self.n),
            overlap=overlap,
        )

    @property
    def n_models(self) -> FloatArray:
        """Number of models with an outcome in each group, float64[G]."""
        return np.asarray((self.cells > 0.5).sum(axis=0), dtype=np.float64)

    @property
    def minority(self) -> FloatArray:
        """Number of outcomes that differ from most of them, for outcomes in [0, 1]; float64[G]."""
        return np.asarray(np.minimum(self.total, self.cells.sum(axis=0) - self.total))

    def _effects(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Least-squares effects of models [K, G], the trace of their covariance over σ², and their rank."""
        if self.overlap is None:
            free = np.maximum(self.n_models - 1, 0.0)
            return np.nan_to_num(divide(self.deviation, self.n)), np.nan_to_num(divide(free, self.n)), free
        inverse = np.linalg.pinv(self.overlap, rcond=_ROUNDING, hermitian=True)
        rank = np.linalg.matrix_rank(self.overlap, tol=_ROUNDING, hermitian=True)
        trace = np.trace(inverse, axis1=1, axis2=2)
        return np.einsum("gkl,lg->kg", inverse, self.deviation), trace, rank.astype(np.float64)

    def variance(self, other: Crossed | None = None) -> FloatArray:
        """Variance of each group's mean from the choice of models: ``(MS_models - MS_residual) / (n K)``.

        Args:
            other: As for ``spread``.

        Returns:
            Unbiased, so it may be negative, float64[G]; NaN with fewer than two models.
        """
        between, within = self.spread(other)
        return between - within

    def spread(self, other: Crossed | None = None) -> tuple[FloatArray, FloatArray]:
        """``MS_models / (n K)``, how far a group's mean differs between models, and ``MS_residual / (n K)``.

        With missing cells, their counterparts from the least-squares fit of models and examples (Henderson 1953, method
        3).

        Args:
            other: Sums over a disjoint set of examples; then of the group's mean minus that of ``other``.

        Returns:
            Both as variances of the mean over all models, float64[G]; NaN with fewer than two models.
        """
        effects, noise, rank = self._effects_and_noise()
        weight = self._weight()
        if other is not None:
            other_effects, other_noise, other_rank = other._effects_and_noise()
            effects, noise = effects - other_effects, noise + other_noise
            rank, weight = np.minimum(rank, other_rank), (weight + other._weight()) / 2
        return divide(np.square(effects).sum(axis=0), rank) * weight, divide(noise, rank) * weight

    def _weight(self) -> FloatArray:
        """Variance of the group's mean in units of the variance of a model's effect; 1 / K without missing cells."""
        return np.asarray(np.square(divide(self.share, self.n)).sum(axis=0))

    def _effects_and_noise(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Effects of models, what the residual adds to their sum of squares, and their rank."""
        effects, trace, rank = self._effects()
        left = self.squares - (self.deviation * effects).sum(axis=0)
        residual = np.nan_to_num(divide(np.maximum(left, 0.0), self.cells.sum(axis=0) - self.n - rank))
        return effects, residual * trace, rank


def crossed(table: NDArray[Any], means: FloatArray, groups: IntArray, *, n_groups: int) -> Crossed:
    """Sum a table of outcomes by group.

    Args:
        table: Outcomes [K, n]; NaN where a model has none.
        means: Mean of each example over the models that have it, float64[n].
        groups: Group of each example, int64[n].
        n_groups: G.

    Returns:
        The sums.

    Example:
        >>> x = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        >>> sums = crossed(x, x.mean(axis=0), np.array([0, 0, 1]), n_groups=2)
        >>> sums.deviation
        array([[ 0.5,  0. ],
               [-0.5,  0. ]])
        >>> sums.variance()
        array([0., 0.])
    """

    def by_group(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(groups, weights=values, minlength=n_groups), dtype=np.float64)

    n_models, n = table.shape
    missing = np.isnan(table) if table.dtype.kind == "f" else None
    complete = missing is None or not missing.any()
    size = by_group(np.ones(n))
    count = np.full(n, float(n_models)) if missing is None else (~missing).sum(axis=0).astype(np.float64)
    deviation, squares = np.empty((n_models, n_groups)), np.zeros(n_groups)
    cells = np.broadcast_to(size, (n_models, n_groups)).copy()
    share = cells / n_models
    for k, row in enumerate(table):
        off = row - means
        if missing is not None and not complete:
            off = np.where(missing[k], 0.0, off)
            cells[k] = by_group(1.0 - missing[k])
            share[k] = by_group((1.0 - missing[k]) / count)
        deviation[k] = by_group(off)
        squares += by_group(off**2)
    return Crossed(
        deviation=deviation,
        share=share,
        cells=cells,
        squares=squares,
        total=by_group(means * count),
        n=size,
        overlap=None if missing is None or complete else _overlap(~missing, count, groups, cells),
    )


def _overlap(there: NDArray[np.bool_], count: FloatArray, groups: IntArray, cells: FloatArray) -> FloatArray:
    """Cells of each model on the diagonal, minus what each two models share."""
    n_models, n_groups = cells.shape
    overlap = np.zeros((n_groups, n_models, n_models))
    for group in range(n_groups):
        columns = groups == group
        inside = there[:, columns].astype(np.float64)
        overlap[group] = np.diag(cells[:, group]) - (inside / count[columns]) @ inside.T
    return overlap
