"""The law of the sum of independent draws from a list of frequencies: listed, on a lattice, or on a smooth grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.functional.long_tail._log_space import log_binomial

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray

ComplexArray: TypeAlias = NDArray[np.complex128]

__all__ = ["SumLaw", "enumerated_sum", "fourier_sum", "lattice_sum", "sum_law"]

_MOST_STATES = 200_000
_MOST_ATOMS = 8_000_000
_MOST_TERMS = 60_000_000
_MOST_PARTS = 64
_FEWEST_CELLS, _MOST_CELLS = 1024, 2**15
_CELL = 0.002  # of the mean of the sum
_RARE = 46.0  # −log of the probability of the sums left out on each side, 1e-20
_FLOOR = 1e-15  # of the largest cell; what is below is rounding of the transform


@dataclass(frozen=True, slots=True, eq=False)
class SumLaw:
    """A discrete law of the sum.

    Attributes:
        sums: Values of the sum, float64[J].
        probabilities: Their probabilities, float64[J].
        unresolved: Bound on the probability that is left out or not resolved.
    """

    sums: FloatArray
    probabilities: FloatArray
    unresolved: float


def sum_law(values: FloatArray, weights: FloatArray, count: int) -> SumLaw:
    """Law of the sum of ``count`` draws, exact where the multisets of draws can be listed.

    Args:
        values: Frequencies in the list, float64[K], distinct.
        weights: Probability of each, float64[K].
        count: Number of draws, at least 0.

    Returns:
        The law.

    Raises:
        ArgumentError: There are too many multisets and the sum has no smooth law.

    Example:
        >>> law = sum_law(np.array([1.0, 2.0]), np.array([0.5, 0.5]), 2)
        >>> law.sums, law.probabilities.round(4)
        (array([4., 3., 2.]), array([0.25, 0.5 , 0.25]))
    """
    law = enumerated_sum(values, weights, count) or lattice_sum(values, weights, count)
    return law or fourier_sum(values, weights, count)


def enumerated_sum(values: FloatArray, weights: FloatArray, count: int) -> SumLaw | None:
    """List how often each frequency is drawn, the rarest first, as a chain of binomials.

    Counts farther from their mean than 11 standard deviations and 40 are left out; by Bernstein's inequality each has
    a probability below 1e-25. With few draws nothing is left out.

    Args:
        values: Frequencies in the list, float64[K].
        weights: Probability of each, float64[K].
        count: Number of draws.

    Returns:
        The law, or ``None`` where it would take more than 200 000 states.

    Example:
        >>> enumerated_sum(np.array([1.0]), np.array([1.0]), 3).sums
        array([3.])
    """
    order = np.argsort(weights, kind="stable")
    values, weights = values[order], weights[order]
    remaining = np.cumsum(weights[::-1])[::-1]
    left, sums, logs = np.array([count], dtype=np.int64), np.zeros(1), np.zeros(1)
    for value, share in zip(values[:-1], (weights / remaining)[:-1], strict=True):
        mean, reach = left * share, 11 * np.sqrt(left * share * (1 - share)) + 40
        low = np.maximum(np.floor(mean - reach), 0).astype(np.int64)
        sizes = np.minimum(np.ceil(mean + reach), left).astype(np.int64) - low + 1
        total = int(sizes.sum())
        if total > _MOST_STATES or total * len(values) > _MOST_ATOMS:
            return None
        drawn = np.repeat(low, sizes) + np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        before = np.repeat(left, sizes)
        left = before - drawn
        logs = np.repeat(logs, sizes) + log_binomial(before, drawn) + drawn * np.log(share) + left * np.log1p(-share)
        sums = np.repeat(sums, sizes) + drawn * value
    return SumLaw(sums + left * values[-1], np.exp(logs), 0.0 if count <= 40 else 1e-24 * len(values))


def lattice_sum(values: FloatArray, weights: FloatArray, count: int) -> SumLaw | None:
    """Invert the characteristic function on the lattice of the sums, where all frequencies are multiples of one step.

    This is the case of a list of counts. Sums of probability 1e-20 on either side are left out (Chernoff's bound), and
    those below 1e-13 are lost in rounding.

    Args:
        values: Frequencies in the list, float64[K].
        weights: Probability of each, float64[K].
        count: Number of draws.

    Returns:
        The law, or ``None`` where there is no such step or it takes more than 2^15 cells.

    Example:
        >>> law = lattice_sum(np.array([0.2, 0.5]), np.array([0.5, 0.5]), 2)
        >>> law.sums.round(6), law.probabilities.round(6)
        (array([0.4, 0.7, 1. ]), array([0.25, 0.5 , 0.25]))
    """
    low, high = _range(values, weights, count)
    for parts in range(1, _MOST_PARTS + 1):
        step = float(values[values > 0].min()) / parts
        if np.abs(values / step - np.round(values / step)).max() < 1e-9:
            break
    else:
        return None
    first = max(0, math.floor(low / step) - 1)
    cells = 2 * math.ceil((high / step - first + 2) / 2)
    if cells > _MOST_CELLS or cells * len(values) > _MOST_TERMS:
        return None
    return _invert(
        _characteristic(values, weights, count, cells, cells * step, first * step), cells * step, first * step
    )


def fourier_sum(values: FloatArray, weights: FloatArray, count: int) -> SumLaw:
    """Invert the characteristic function, which is known exactly, on a grid.

    The grid spans all sums but those of probability 1e-20 on either side (Chernoff's bound) with at least 1024 cells,
    none wider than 1/500 of the mean. It is refined until the characteristic function has died out below 1e-15 at its
    end. So the sum over cells equals the integral for every function that is smooth on that scale, as
    (p / (p + R))^ℓ (R / (p + R))^(n − ℓ) is in R. What is not resolved are sums whose probability is below 1e-13.

    Args:
        values: Frequencies in the list, float64[K].
        weights: Probability of each, float64[K].
        count: Number of draws.

    Returns:
        The law on the cells that hold more than rounding errors.

    Raises:
        ArgumentError: The law is not smooth at 2^15 cells.

    Example:
        >>> law = fourier_sum(np.arange(1.0, 101.0), np.full(100, 0.01), 1000)
        >>> print(f"{law.probabilities.sum():.9f} {law.probabilities @ law.sums:.6f}")
        1.000000000 50500.000000
    """
    low, high = _range(values, weights, count)
    cells = _FEWEST_CELLS
    while (high - low) / cells > _CELL * count * float(weights @ values):
        cells *= 2
    while cells <= _MOST_CELLS:
        transform = _characteristic(values, weights, count, cells, high - low, low)
        if np.abs(transform[-cells // 8 :]).max() < _FLOOR:
            return _invert(transform, high - low, low)
        cells *= 2
    raise argument_error(
        "prior",
        values,
        f"frequencies whose sum over {count} draws has a smooth law, or few values, are needed; use mode='list', or "
        "group similar frequencies",
    )


def _invert(transform: ComplexArray, span: float, low: float) -> SumLaw:
    """The law on cells from ``low`` to ``low + span``, without those that hold no more than rounding errors."""
    cells = 2 * (len(transform) - 1)
    probabilities = np.fft.irfft(transform, cells)
    kept = probabilities > _FLOOR * probabilities.max()
    unresolved = max(1e-13, float(np.abs(probabilities[~kept]).sum()))
    sums = np.asarray(low + span / cells * np.flatnonzero(kept), dtype=np.float64)
    return SumLaw(sums, probabilities[kept], unresolved)


def _range(values: FloatArray, weights: FloatArray, count: int) -> tuple[float, float]:
    """Sums between which all but 2e-20 of the probability lies, by Chernoff's bound."""
    speeds = np.geomspace(1e-7, 600.0, 400) / float(values.max())
    below = np.array([weights @ np.expm1(-speed * values) for speed in speeds])
    below = count * np.log1p(np.maximum(below, 1e-12 - 1))  # the rest is rounding; a larger value is a safe bound
    above = count * np.log1p(np.array([weights @ np.expm1(speed * values) for speed in speeds]))
    return max(float(np.max((-below - _RARE) / speeds)), 0.0), float(np.min((above + _RARE) / speeds))


def _characteristic(
    values: FloatArray, weights: FloatArray, count: int, cells: int, span: float, low: float
) -> ComplexArray:
    """E exp(iω(low − R)) at ω = 2πk / span, k = 0..cells/2; as a deviation from 1, for it is raised to a high power."""
    speeds = 2 * np.pi / span * np.arange(cells // 2 + 1, dtype=np.float64)
    real, imaginary = np.empty_like(speeds), np.empty_like(speeds)
    rows = max(1, _MOST_TERMS // 30 // len(values))
    for start in range(0, len(speeds), rows):
        part = slice(start, start + rows)
        angles = np.outer(speeds[part], values)
        imaginary[part] = np.sin(angles) @ weights
        real[part] = -2 * np.sin(angles / 2) ** 2 @ weights
    with np.errstate(divide="ignore"):
        size = count / 2 * np.log1p(np.maximum(2 * real + real**2 + imaginary**2, -1.0))
    phase = count * np.arctan2(imaginary, 1 + real) - speeds * low
    return np.asarray(np.exp(size) * np.exp(-1j * phase))
