"""How much of a test example's accuracy rests on memorized training examples."""

from __future__ import annotations

import numpy as np

from lightning_memaudit.functional.checks import Array, FloatArray, argument_error, as_array, as_number, as_positive_int
from lightning_memaudit.functional.influence._pairs import SLACK, InfluencePairs


def influence_mass(
    influence: Array | InfluencePairs,
    memorization: Array,
    *,
    n_test: int | None = None,
    influence_threshold: float = 0.15,
    memorization_threshold: float = 0.25,
) -> FloatArray:
    """Sum of high influence on each test example from memorized training examples.

    Test examples have no memorization score; this is what stands in for one when a drop is set against memorization
    on the test side. The thresholds are those of Feldman and Zhang (2020, section 3.1).

    Args:
        influence: Dense [n_train, n_test], or pairs. A NaN (no estimate) is never high.
        memorization: Scores of the training examples [n_train]; NaN is never high.
        n_test: Number of test examples; needed with pairs.
        influence_threshold: Smallest influence that counts.
        memorization_threshold: Smallest memorization that counts.

    Returns:
        float64[n_test].

    Raises:
        ArgumentError: Sizes do not agree, or ``n_test`` is missing.

    Example:
        >>> influence_mass([[0.5, 0.1], [0.2, 0.2], [0.4, float("nan")]], [0.9, 0.3, 0.1])
        array([0.7, 0.2])
    """
    scores = as_array(memorization, name="memorization", ndim=1)
    memorized = scores >= as_number(memorization_threshold, name="memorization_threshold", least=-1.0, most=1.0)
    least = as_number(influence_threshold, name="influence_threshold", least=-1.0, most=1.0) - SLACK
    if isinstance(influence, InfluencePairs):
        total = as_positive_int(-1 if n_test is None else n_test, name="n_test")
        rows, columns, values = influence.train_index, influence.test_index, influence.influence
        if rows.max(initial=-1) >= len(scores) or columns.max(initial=-1) >= total:
            raise argument_error(
                "influence", influence, f"pairs of the {len(scores)} training and {total} test examples are needed"
            )
        counted = memorized[rows] & (values >= least)
        return np.asarray(np.bincount(columns[counted], weights=values[counted], minlength=total), dtype=np.float64)
    dense = as_array(influence, name="influence", ndim=2, dtype=None)
    if len(dense) != len(scores) or (n_test is not None and dense.shape[1] != n_test):
        raise argument_error(
            "influence", dense, f"a row for each of the {len(scores)} scores is needed (and n_test columns)"
        )
    mass: FloatArray = np.zeros(dense.shape[1])
    for row in dense[memorized]:
        mass += np.where(row >= least, row, 0.0)
    return mass
