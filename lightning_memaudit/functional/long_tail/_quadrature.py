"""Gauss rules that stand for many atoms of a discrete measure: few nodes, positive weights, the same moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray, IntArray

__all__ = ["NODES", "WIDTH", "compress", "rank_rule"]

NODES = 8
WIDTH = 1 / 64


def rank_rule(first: int, last: int) -> tuple[FloatArray, FloatArray]:
    """Gauss rule of the ranks first, first + 1, ..., last, each of weight 1.

    With ``NODES`` nodes it is exact for polynomials of degree 2 ``NODES`` − 1 in the rank. The three-term recurrence is
    that of the discrete Chebyshev (Gram) polynomials, so the work does not depend on how many ranks there are.

    Args:
        first: Lowest rank.
        last: Highest rank, at least ``first``.

    Returns:
        ``(nodes, weights)``, float64 each; the ranks themselves when there are no more than ``NODES``.

    Example:
        >>> nodes, weights = rank_rule(1, 100)
        >>> len(nodes), round(float(weights @ nodes**3))  # (100 · 101 / 2)²
        (8, 25502500)
    """
    count = last - first + 1
    if count <= NODES:
        return np.arange(first, last + 1, dtype=np.float64), np.ones(count)
    k = np.arange(1, NODES, dtype=np.float64)
    squares = k**2 * ((float(count) / 2) ** 2 - (k / 2) ** 2) / (4 * k**2 - 1)
    nodes, shares = _from_recurrence(np.zeros((1, NODES)), squares[None])
    return (first + last) / 2 + nodes[0], count * shares[0]


def compress(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Replace the atoms in each bin of relative width ``WIDTH`` by a Gauss rule of ``NODES`` nodes.

    A function whose logarithm changes by no more than D over a relative change of 1 is summed with a relative error of
    about 2 (D · WIDTH / 4)^16 / 16!: 1e-13 at D = 250. Where it has a peak of relative width 1 / √ℓ, as
    α^ℓ (1 − α)^(n − ℓ) does, the error is about (√ℓ · WIDTH / 4)^16 / √16!: 1e-13 at ℓ = 10 000. Bins of few atoms are
    kept as they are.

    Args:
        values: Numbers of at least 0 [K]; zeros become one atom.
        weights: Positive weights [K].

    Returns:
        ``(values, weights)`` of the rule, float64 each; total weight and mean are those of the atoms.

    Example:
        >>> values, weights = compress(np.linspace(1.0, 1.01, 1000), np.ones(1000))
        >>> len(values), round(float(weights.sum()), 9)
        (8, 1000.0)
    """
    if (zero := values == 0).any():
        nodes, masses = compress(values[~zero], weights[~zero])
        return np.append(nodes, 0.0), np.append(masses, weights[zero].sum())
    bins = np.floor(np.log(values) / WIDTH).astype(np.int64)
    order = np.argsort(bins, kind="stable")
    values, weights, bins = values[order], weights[order], bins[order]
    sizes = np.unique(bins, return_counts=True)[1]
    crowded = np.repeat(sizes > NODES, sizes)
    if not crowded.any():
        return values, weights
    nodes, masses = _bin_rules(values[crowded], weights[crowded], sizes[sizes > NODES])
    there = masses > 0  # a bin with fewer different values than nodes leaves some nodes without weight
    return np.concatenate([values[~crowded], nodes[there]]), np.concatenate([weights[~crowded], masses[there]])


def _bin_rules(values: FloatArray, weights: FloatArray, sizes: IntArray) -> tuple[FloatArray, FloatArray]:
    """Gauss rules of consecutive runs of atoms, by the procedure of Stieltjes on all runs at once."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    centre, half = (low + high) / 2, np.maximum((high - low) / 2, 1e-300)
    x = (values - np.repeat(centre, sizes)) / np.repeat(half, sizes)
    mass = np.add.reduceat(weights, starts)
    diagonal, squares = np.zeros((len(sizes), NODES)), np.zeros((len(sizes), NODES - 1))
    norm, before, now = mass, np.zeros_like(x), np.ones_like(x)
    for k in range(NODES):
        share = np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
        diagonal[:, k] = np.add.reduceat(weights * x * now**2, starts) * share
        if k == NODES - 1:
            break
        back = squares[:, k - 1] if k else np.zeros_like(norm)
        before, now = now, (x - np.repeat(diagonal[:, k], sizes)) * now - np.repeat(back, sizes) * before
        norm = np.add.reduceat(weights * now**2, starts)
        squares[:, k] = norm * share
    nodes, shares = _from_recurrence(diagonal, squares)
    return (centre[:, None] + half[:, None] * nodes).ravel(), (mass[:, None] * shares).ravel()


def _from_recurrence(diagonal: FloatArray, squares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights (summing to 1) of B rules from their recurrences, float64[B, q] (Golub and Welsch 1969)."""
    size = diagonal.shape[1]
    matrix = np.zeros((len(diagonal), size, size))
    index = np.arange(size)
    matrix[:, index, index] = diagonal
    matrix[:, index[1:], index[:-1]] = np.sqrt(squares)  # eigh reads the lower triangle
    nodes, vectors = np.linalg.eigh(matrix)
    return nodes, vectors[:, 0, :] ** 2
