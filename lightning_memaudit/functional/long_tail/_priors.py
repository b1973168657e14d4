"""Priors of the frequencies of points: Zipf, uniform, two levels, Dirichlet, or any list."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_memaudit.functional.checks import (
    Array,
    FloatArray,
    argument_error,
    as_array,
    as_number,
    as_positive_int,
    element_error,
)
from lightning_memaudit.functional.long_tail._quadrature import WIDTH, rank_rule

__all__ = ["DirichletPrior", "Prior", "dirichlet", "from_frequencies", "two_level", "uniform", "zipf"]

_MOST_POINTS = 10**18
_EXACT_POINTS = 2**18
_HEAD = 2**17


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """A list of N frequencies that sum to 1, equal ones grouped (π of Feldman 2019, section 2).

    Attributes:
        frequencies: Frequencies, float64[K], at least 0.
        multiplicity: How many points have each, float64[K]; they sum to N. Whole numbers, but for a Zipf list of more
            than 2^18 points, whose tail is a quadrature rule.
        n_points: N.
    """

    frequencies: FloatArray
    multiplicity: FloatArray
    n_points: int


@dataclass(frozen=True, slots=True)
class DirichletPrior:
    """Frequencies drawn from a symmetric Dirichlet law: independent Gamma(a) variables divided by their sum.

    Attributes:
        n_points: N.
        concentration: a; the smaller, the longer the tail.
    """

    n_points: int
    concentration: float


def zipf(n_points: int, exponent: float = 1.0) -> Prior:
    """Frequencies in proportion to k^−exponent, k = 1, ..., N.

    Up to 2^18 points the list is exact. Beyond that the 2^17 most frequent points are, and the ranks after them are cut
    into blocks of relative width 1/64 and each block is replaced by a Gauss rule of 8 nodes that has its first 16
    moments in the rank. Relative to the full sum, every E[α^a (1 − α)^b] with b up to 1e10 is off by less than 1e-12.

    Args:
        n_points: N, up to 1e9 and more.
        exponent: At least 0; 0 is uniform.

    Returns:
        The prior.

    Raises:
        ArgumentError: ``n_points`` is not a positive whole number, or ``exponent`` is negative or not finite.

    Example:
        >>> zipf(3).frequencies
        array([0.54545455, 0.27272727, 0.18181818])
    """
    points = _points(n_points)
    power = as_number(exponent, name="exponent")
    if math.isinf(power):
        raise argument_error("exponent", exponent, "a finite number is needed, such as 1.0")
    if power == 0:
        return uniform(points)
    if points <= _EXACT_POINTS:
        ranks, multiplicity = np.arange(1, points + 1, dtype=np.float64), np.ones(points)
    else:
        ranks, multiplicity = _blocks(points)
    weights = np.exp(-power * np.log(ranks))
    return Prior(weights / (multiplicity @ weights), multiplicity, points)


def uniform(n_points: int) -> Prior:
    """All frequencies equal to 1/N.

    Args:
        n_points: N.

    Returns:
        The prior.

    Raises:
        ArgumentError: ``n_points`` is not a positive whole number.

    Example:
        >>> uniform(4).frequencies
        array([0.25])
    """
    points = _points(n_points)
    return Prior(np.array([1 / points]), np.array([float(points)]), points)


def two_level(n_points: int, n_heavy: int, heavy_mass: float) -> Prior:
    """A few frequent points that share one part of the mass equally, and all others that share the rest.

    Args:
        n_points: N.
        n_heavy: Number of frequent points, in [1, N).
        heavy_mass: Their mass together, in [0, 1].

    Returns:
        The prior.

    Raises:
        ArgumentError: A number is out of range.

    Example:
        >>> prior = two_level(12, 2, 0.5)
        >>> prior.frequencies, prior.multiplicity
        (array([0.25, 0.05]), array([ 2., 10.]))
    """
    points = as_positive_int(n_points, name="n_points", minimum=2)
    heavy = as_positive_int(n_heavy, name="n_heavy")
    if heavy >= points:
        raise argument_error("n_heavy", n_heavy, f"a number below n_points={points} is needed")
    mass = as_number(heavy_mass, name="heavy_mass", most=1.0)
    light = points - heavy
    return Prior(np.array([mass / heavy, (1 - mass) / light]), np.array([float(heavy), float(light)]), points)


def from_frequencies(frequencies: Array) -> Prior:
    """Any list, such as the counts of a user's own subpopulations; it is divided by its sum.

    Args:
        frequencies: Numbers of at least 0 [N], not all 0; a 0 is a point that is never seen.

    Returns:
        The prior.

    Raises:
        ArgumentError: The list is empty, has a negative or missing number, or only zeros.

    Example:
        >>> prior = from_frequencies([2, 1, 1])
        >>> prior.frequencies, prior.multiplicity
        (array([0.25, 0.5 ]), array([2., 1.]))
    """
    values = as_array(frequencies, name="frequencies", ndim=1)
    if not values.size:
        raise argument_error("frequencies", values, "at least one number is needed")
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise element_error("frequencies", values, wrong, "finite numbers of at least 0 are needed")
    if not values.any():
        raise argument_error("frequencies", values, "at least one number above 0 is needed")
    levels, counts = np.unique(values / values.max(), return_counts=True)
    return Prior(levels / (counts @ levels), counts.astype(np.float64), values.size)


def dirichlet(n_points: int, concentration: float) -> DirichletPrior:
    """Frequencies from the symmetric Dirichlet law; its marginal is Beta(a, (N − 1) a).

    Args:
        n_points: N.
        concentration: a, above 0.

    Returns:
        The prior, for ``marginal(..., mode="iid")``: there is no list.

    Raises:
        ArgumentError: ``n_points`` is not a positive whole number, or ``concentration`` is not above 0.

    Example:
        >>> dirichlet(50, 0.3)
        DirichletPrior(n_points=50, concentration=0.3)
    """
    points = _points(n_points)
    level = as_number(concentration, name="concentration")
    if level == 0 or math.isinf(level):
        raise argument_error("concentration", concentration, "a finite number above 0 is needed, such as 0.3")
    return DirichletPrior(points, level)


def _points(n_points: int) -> int:
    points = as_positive_int(n_points, name="n_points")
    if points > _MOST_POINTS:
        raise argument_error("n_points", n_points, f"at most {_MOST_POINTS:.0e} is needed")
    return points


def _blocks(points: int) -> tuple[FloatArray, FloatArray]:
    """The head as it is, and a Gauss rule for each block of ranks after it."""
    rules = [(np.arange(1, _HEAD + 1, dtype=np.float64), np.ones(_HEAD))]
    first = _HEAD + 1
    while first <= points:
        last = min(points, first + int(first * WIDTH))
        rules.append(rank_rule(first, last))
        first = last + 1
    return np.concatenate([nodes for nodes, _ in rules]), np.concatenate([weights for _, weights in rules])
