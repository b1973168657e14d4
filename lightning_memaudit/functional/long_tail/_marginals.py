"""The law of one point's frequency: what the long-tail theory needs to know of a prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
from scipy import special

from lightning_memaudit.functional.checks import argument_error, as_choice
from lightning_memaudit.functional.long_tail._log_space import log_beta, log_binomial, log_sum_exp
from lightning_memaudit.functional.long_tail._priors import DirichletPrior, Prior
from lightning_memaudit.functional.long_tail._quadrature import compress
from lightning_memaudit.functional.long_tail._sum_law import SumLaw, sum_law

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray

__all__ = ["BetaMarginal", "DiscreteMarginal", "Marginal", "MarginalMode", "marginal"]

MarginalMode = Literal["list", "iid"]
_MOST_VALUES = 4096
_MOST_ATOMS = 2**18
_LARGEST_POWER = 20_000
_TOLERANCE = 1e-6


class Marginal(Protocol):
    """The law of α = D(x), the frequency of one point of N; E α = 1/N."""

    @property
    def n_points(self) -> int:
        """N."""

    def log_moment(self, a: int, b: int, *, thinning: float = 1.0) -> float:
        """Log E[α^a (1 − qα)^b] with q = ``thinning`` in (0, 1]; −∞ where it is 0, NaN where it is not resolved."""

    def mean_given(self, a: int, b: int) -> float:
        """E[α^(a+1) (1 − α)^b] / E[α^a (1 − α)^b]; NaN where it is 0/0. Moments of 1e-10000000 lose it no digit."""

    def weight(self, low: float, high: float) -> float:
        """The expected mass of the points whose frequency lies in [low, high]: N E[α 1(α in [low, high])].

        Where atoms stand for many points, as in a compressed list, an end of the interval is accurate to one atom.
        """


@dataclass(frozen=True, eq=False)
class DiscreteMarginal:
    """A law with finitely many atoms.

    Attributes:
        values: Frequencies, float64[K], in [0, 1].
        probabilities: Their probabilities, float64[K].
        n_points: N.
        unresolved: Bound on the probability that the atoms leave out; a moment that it could change by a relative 1e-6
            is NaN.
        largest_power: Largest power of α that the atoms resolve; above it a moment is NaN.

    Example:
        >>> law = DiscreteMarginal(np.array([0.25, 0.5]), np.array([2 / 3, 1 / 3]), 3)
        >>> print(f"{np.exp(law.log_moment(1, 0)):.6f} {law.weight(0, 0.3):.2f}")
        0.333333 0.50
    """

    values: FloatArray
    probabilities: FloatArray
    n_points: int
    unresolved: float = 0.0
    largest_power: float = math.inf

    @cached_property
    def _log_values(self) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.log(self.values)

    @cached_property
    def _log_complements(self) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.log1p(-self.values)

    @cached_property
    def _log_probabilities(self) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.log(self.probabilities)

    def log_moment(self, a: int, b: int, *, thinning: float = 1.0) -> float:
        """Log E[α^a (1 − qα)^b]; see ``Marginal``."""
        moment = log_sum_exp(self._log_terms(a, b, thinning))
        return moment if self._resolves(moment, a, b, thinning) else math.nan

    def mean_given(self, a: int, b: int) -> float:
        """The mean of α when atoms weigh α^a (1 − α)^b; see ``Marginal``."""
        weights = self._log_terms(a, b)
        peak = weights.max()
        if peak == -math.inf:
            return math.nan
        np.exp(np.subtract(weights, peak, out=weights), out=weights)
        return float(weights @ self.values / weights.sum())

    def weight(self, low: float, high: float) -> float:
        """Expected mass of the points whose frequency lies in [low, high]."""
        inside = (self.values >= low) & (self.values <= high)
        return float(self.n_points * (self.probabilities[inside] @ self.values[inside]))

    def _log_terms(self, a: int, b: int, thinning: float = 1.0) -> FloatArray:
        terms: FloatArray = self._log_probabilities.copy()
        if a:
            terms += a * self._log_values
        if b:
            terms += b * (self._log_complements if thinning == 1 else np.log1p(-thinning * self.values))
        return terms

    def _resolves(self, moment: float, a: int, b: int, thinning: float) -> bool:
        """Whether neither the atoms' spacing nor the probability they leave out can change the moment much."""
        if self.unresolved == 0 or moment == -math.inf:
            return True
        peak = min(a / ((a + b) * thinning), float(self.values.max())) if a else 0.0
        highest = float(special.xlogy(a, peak) + special.xlog1py(b, -thinning * peak))
        return a <= self.largest_power and math.log(self.unresolved) + highest < math.log(_TOLERANCE) + moment


@dataclass(frozen=True)
class BetaMarginal:
    """Beta(a, (N − 1) a), the marginal of a symmetric Dirichlet law.

    Attributes:
        concentration: a.
        n_points: N, at least 2.

    Example:
        >>> print(f"{np.exp(BetaMarginal(0.3, 50).log_moment(1, 0)):.4f}")
        0.0200
    """

    concentration: float
    n_points: int

    def log_moment(self, a: int, b: int, *, thinning: float = 1.0) -> float:
        """Log E[α^a (1 − qα)^b]; see ``Marginal``."""
        if thinning < 1:
            return self._thinned(a, b, thinning)
        return float(self._log_moments(a, np.array(float(b))))

    def mean_given(self, a: int, b: int) -> float:
        """(a₀ + a) / (N a₀ + a + b); see ``Marginal``."""
        return (self.concentration + a) / (self.n_points * self.concentration + a + b)

    def weight(self, low: float, high: float) -> float:
        """Expected mass of the points whose frequency lies in [low, high]."""
        first, second = self.concentration + 1, (self.n_points - 1) * self.concentration
        low, high = (min(max(limit, 0.0), 1.0) for limit in (low, high))
        return float(special.betainc(first, second, high) - special.betainc(first, second, low)) if high > low else 0.0

    def _log_moments(self, a: int, b: FloatArray) -> FloatArray:
        first, second = self.concentration, (self.n_points - 1) * self.concentration
        return np.asarray(log_beta(first + a, second + b) - log_beta(first, second))

    def _thinned(self, a: int, b: int, thinning: float) -> float:
        """(1 − qα)^b is the mean of (1 − α)^k over k ~ Binomial(b, q); far tails are cut as in ``sum_law``."""
        reach = 11 * math.sqrt(b * thinning * (1 - thinning)) + 40
        k = np.arange(max(0, math.floor(b * thinning - reach)), min(b, math.ceil(b * thinning + reach)) + 1.0)
        log_chances = log_binomial(b, k) + k * math.log(thinning) + (b - k) * math.log1p(-thinning)
        return log_sum_exp(log_chances + self._log_moments(a, k))


def marginal(prior: Prior | DirichletPrior, *, mode: MarginalMode = "list") -> Marginal:
    """The law of one point's frequency under a prior (π̄^N of Feldman 2019, section 2).

    Two readings of a list of frequencies: ``"list"``: the N points have the N frequencies in random order, so α is
    uniform over the list. ``"iid"``: each point draws p_x from the list independently and D(x) = p_x / Σ p; draws that
    are all 0 leave no D and are conditioned away. Every number printed in the paper is that of ``"list"``.

    ``"iid"`` is exact where the multisets of draws can be listed (up to 200 000 states). Otherwise the law of the sum
    of the other N − 1 draws comes from its characteristic function by FFT, on the lattice of the sums for a list of
    counts, else on a smooth grid: expectations have a relative error of about 1e-11, up to powers α^20000; what could
    be off by more than 1e-6, because it hangs on sums of probability below 1e-13, is NaN.

    Args:
        prior: A list, or a Dirichlet law (``"iid"`` only).
        mode: ``"list"`` or ``"iid"``.

    Returns:
        The law of α, with E α = 1/N.

    Raises:
        ArgumentError: The mode is unknown or does not fit the prior, or the law of the sum can neither be listed nor
            resolved.

    Example:
        >>> from lightning_memaudit.functional.long_tail import zipf
        >>> laws = [marginal(zipf(3), mode=mode) for mode in ("list", "iid")]
        >>> [round(float(np.exp(law.log_moment(2, 0))), 4) for law in laws]  # E α²
        [0.135, 0.1258]
    """
    as_choice(mode, name="mode", options=get_args(MarginalMode))
    if isinstance(prior, DirichletPrior):
        if mode == "list":
            raise argument_error("mode", mode, "'iid' is needed with a Dirichlet prior, which is no list")
        if prior.n_points > 1:
            return BetaMarginal(prior.concentration, prior.n_points)
        return DiscreteMarginal(np.ones(1), np.ones(1), 1)
    if not isinstance(prior, Prior):
        raise argument_error(
            "prior", prior, "one of zipf, uniform, two_level, dirichlet and from_frequencies is needed"
        )
    if mode == "list":
        return DiscreteMarginal(prior.frequencies, prior.multiplicity / prior.n_points, prior.n_points)
    return _iid(prior)


def _iid(prior: Prior) -> DiscreteMarginal:
    """α = p / (p + R) with p from the list and R the sum of N − 1 others."""
    values, weights = prior.frequencies, prior.multiplicity / prior.n_points
    if len(values) > _MOST_VALUES:
        values, weights = compress(values, weights)
    law = sum_law(values, weights, prior.n_points - 1)
    rows = max(1, _MOST_ATOMS // len(law.sums))
    parts = [
        _ratios(values[start : start + rows], weights[start : start + rows], law)
        for start in range(0, len(values), rows)
    ]
    if len(parts) == 1:
        alphas, chances = parts[0]
        return DiscreteMarginal(alphas, chances / chances.sum(), prior.n_points, law.unresolved)
    reduced = [compress(alphas, chances) for alphas, chances in parts]
    alphas, chances = compress(*(np.concatenate(column) for column in zip(*reduced, strict=True)))
    return DiscreteMarginal(alphas, chances / chances.sum(), prior.n_points, law.unresolved, _LARGEST_POWER)


def _ratios(values: FloatArray, weights: FloatArray, law: SumLaw) -> tuple[FloatArray, FloatArray]:
    """Atoms p / (p + R) of some of the list, and their probabilities."""
    total = (values[:, None] + law.sums).ravel()
    chances = np.outer(weights, law.probabilities).ravel()
    kept = (total > 0) & (chances > 0)
    return np.repeat(values, len(law.sums))[kept] / total[kept], chances[kept]
