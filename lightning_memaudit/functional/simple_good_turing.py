"""Simple Good–Turing: expected frequencies from counts of counts, smoothed by a line (Gale and Sampson 1995)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray, IntArray

__all__ = ["simple_good_turing"]

_FEWEST_LEVELS = 5
_DIFFERS = 1.65


def simple_good_turing(levels: IntArray, points: IntArray, ells: IntArray) -> FloatArray:
    """Expected frequency of a point seen ℓ times.

    From ℓ = 1 on the estimate is the ratio (ℓ + 1) Φ_{ℓ+1} / Φ_ℓ as long as it differs from the line by more than 1.65
    standard deviations, and the line from there on; then all are scaled so that the points seen have the mass
    1 − Φ_1/n. Published code takes the row number for ℓ in that comparison, which is the same only while no count is
    skipped.

    Args:
        levels: Counts that occur, int64[K], from 1, ascending.
        points: How many points have each, int64[K].
        ells: ℓ, at least 1, int64[L]; they need not occur.

    Returns:
        τ_ℓ, float64[L]; NaN with fewer than 5 different counts, or a slope above −1, where the method does not apply.

    Example:
        >>> found = simple_good_turing(np.arange(1, 7), np.array([120, 40, 24, 13, 15, 5]), np.array([1, 2]))
        >>> print(*(f"{value:.6f}" for value in found))
        0.001394 0.003299
    """
    if len(levels) < _FEWEST_LEVELS:
        return np.full(ells.shape, np.nan)
    r, phi = levels.astype(np.float64), points.astype(np.float64)
    n = float(r @ phi)
    below = np.concatenate([[0.0], r[:-1]])
    above = np.append(r[1:], 2 * r[-1] - below[-1])
    slope = float(np.polyfit(np.log(r), np.log(2 * phi / (above - below)), 1)[0])
    if slope > -1:
        return np.full(ells.shape, np.nan)

    def line(counts: FloatArray) -> FloatArray:
        return np.asarray(counts * (1 + 1 / counts) ** (slope + 1))

    following = np.append(np.where(np.diff(levels) == 1, phi[1:], 0.0), 0.0)
    ratio = (r + 1) * following / phi
    spread = (r + 1) / phi * np.sqrt(following * (1 + following / phi))
    differs = (following > 0) & (np.abs(ratio - line(r)) > _DIFFERS * spread)
    n_ratios = len(r) if differs.all() else int(np.argmin(differs))
    adjusted = np.where(np.arange(len(r)) < n_ratios, ratio, line(r))
    scale = (1 - (phi[0] if levels[0] == 1 else 0.0) / n) / float(phi @ adjusted)
    index = np.minimum(np.searchsorted(levels, ells), len(levels) - 1)
    return np.asarray(np.where(levels[index] == ells, adjusted[index], line(ells.astype(np.float64))) * scale)
