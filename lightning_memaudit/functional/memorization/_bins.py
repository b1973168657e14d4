"""Bins of memorization."""

from __future__ import annotations

import numpy as np

from lightning_memaudit.functional.checks import Array, FloatArray, IntArray, argument_error, as_array

#: Edges of the usual bins of memorization; the last bin holds its upper edge.
MEMORIZATION_BINS: tuple[float, ...] = (-1.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def memorization_bins(memorization: Array, edges: Array = MEMORIZATION_BINS) -> tuple[IntArray, FloatArray]:
    """Sort examples into bins of memorization.

    Args:
        memorization: Scores [n] in [−1, 1]; NaN where there is none.
        edges: Ascending edges [B + 1]; the first bin holds all that is lower, the last all that is higher.

    Returns:
        The bin of each example, int64[n], −1 without a score; and the edges.

    Raises:
        ArgumentError: Fewer than two edges, or edges that do not ascend.

    Example:
        >>> memorization_bins([0.05, 0.1, 1.0, float("nan")])[0]
        array([ 0,  1,  4, -1])
    """
    scores, cuts = as_array(memorization, name="memorization", ndim=1), as_array(edges, name="edges", ndim=1)
    if len(cuts) < 2 or not (np.diff(cuts) > 0).all():
        raise argument_error("edges", cuts.tolist(), "at least 2 ascending numbers are needed")
    codes = np.searchsorted(cuts[1:-1], scores, side="right").astype(np.int64)
    return np.where(np.isnan(scores), -1, codes), cuts
