"""Expected frequencies, numbers and masses of points by how often they were seen (Feldman 2019)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.functional.checks import as_ell, as_positive_int, as_samples
from lightning_memaudit.functional.long_tail._log_space import log_binomial

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import Array, FloatArray
    from lightning_memaudit.functional.long_tail._marginals import Marginal

__all__ = ["expected_count", "expected_mass", "guess_error", "missing_mass", "optimal_error", "tau"]


def tau(marginal: Marginal, n_samples: int, ell: Array) -> FloatArray:
    """Expected frequency of a point that was seen ℓ times in n samples (Feldman 2019, definition of τ_ℓ).

    τ_ℓ = E[α^(ℓ+1) (1 − α)^(n−ℓ)] / E[α^ℓ (1 − α)^(n−ℓ)], in log-space. It never falls as ℓ grows.

    Args:
        marginal: The law of α.
        n_samples: n, up to 1e10.
        ell: ℓ, whole numbers in [0, n], any shape.

    Returns:
        τ_ℓ, float64 of the shape of ``ell``; NaN, with a warning that says why, where it is 0/0 or not resolved.

    Raises:
        ArgumentError: ``n_samples`` or ``ell`` is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal, zipf
        >>> n = 50_000
        >>> print(f"{n * tau(marginal(zipf(50_000)), n, 1):.6f}")
        0.471676
    """
    n = as_samples(n_samples)
    ells = as_ell(ell, n_samples=n)
    powers = [(k, n - k) for k in ells.ravel().tolist()]
    logs = np.array([(marginal.log_moment(a + 1, b), marginal.log_moment(a, b)) for a, b in powers], dtype=np.float64)
    logs = logs.reshape(*ells.shape, 2)
    impossible, unresolved = logs[..., 1] == -np.inf, np.isnan(logs).any(axis=-1)
    if impossible.any():
        _note(f"tau: no point can be seen ell = {ells[impossible][0]} times in {n} samples, so 0/0 gives NaN.")
    if unresolved.any():
        _note(f"tau: the marginal does not resolve ell = {ells[unresolved][0]} in {n} samples, so it is NaN.")
    means = np.array([marginal.mean_given(a, b) for a, b in powers], dtype=np.float64).reshape(ells.shape)
    return np.where(impossible | unresolved, np.nan, means)


def expected_count(marginal: Marginal, n_samples: int, ell: Array) -> FloatArray:
    """Expected number of points seen ℓ times: E|X_ℓ| = N C(n, ℓ) E[α^ℓ (1 − α)^(n−ℓ)].

    Args:
        marginal: The law of α.
        n_samples: n, up to 1e10.
        ell: ℓ, whole numbers in [0, n], any shape.

    Returns:
        Numbers of points, float64 of the shape of ``ell``; Σ ℓ E|X_ℓ| = n. Their relative error is about 1e-15 times
        log C(n, ℓ).

    Raises:
        ArgumentError: ``n_samples`` or ``ell`` is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal, zipf
        >>> print(f"{expected_count(marginal(zipf(50_000)), 50_000, 1) / 50_000:.6f}")
        0.170396
    """
    return _expectation(marginal, n_samples, ell, power=0)


def expected_mass(marginal: Marginal, n_samples: int, ell: Array) -> FloatArray:
    """Expected mass of the points seen ℓ times, τ_ℓ E|X_ℓ|: what a learner that misses them all gives up.

    Args:
        marginal: The law of α.
        n_samples: n, up to 1e10.
        ell: ℓ, whole numbers in [0, n], any shape.

    Returns:
        Masses, float64 of the shape of ``ell``; over all ℓ they sum to 1.

    Raises:
        ArgumentError: ``n_samples`` or ``ell`` is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal, uniform
        >>> print(f"{expected_mass(marginal(uniform(4)), 3, [0, 1, 2, 3]).sum():.6f}")
        1.000000
    """
    return _expectation(marginal, n_samples, ell, power=1)


def missing_mass(marginal: Marginal, n_samples: int) -> float:
    """Expected mass of the points never seen: N E[α (1 − α)^n].

    Args:
        marginal: The law of α.
        n_samples: n, up to 1e10.

    Returns:
        A mass in [0, 1].

    Raises:
        ArgumentError: ``n_samples`` is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal, uniform
        >>> print(f"{missing_mass(marginal(uniform(4)), 2):.6f}")
        0.562500
    """
    return float(expected_mass(marginal, n_samples, 0))


def optimal_error(marginal: Marginal, n_samples: int, *, n_classes: int) -> float:
    """Error that no learner can avoid: (1 − 1/m) times the missing mass (opt in Feldman 2019).

    Args:
        marginal: The law of α.
        n_samples: n, up to 1e10.
        n_classes: m, at least 2.

    Returns:
        An error in [0, 1].

    Raises:
        ArgumentError: A number is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal, zipf
        >>> print(f"{optimal_error(marginal(zipf(5_000)), 10_000, n_classes=10):.6f}")
        0.113382
    """
    return guess_error(n_classes) * missing_mass(marginal, n_samples)


def guess_error(n_classes: int) -> float:
    """How often a guess among equal classes is wrong: 1 − 1/m.

    Args:
        n_classes: m, at least 2.

    Returns:
        A probability.

    Raises:
        ArgumentError: ``n_classes`` is not a whole number of at least 2.

    Example:
        >>> guess_error(4)
        0.75
    """
    return 1 - 1 / as_positive_int(n_classes, name="n_classes", minimum=2)


def _expectation(marginal: Marginal, n_samples: int, ell: Array, *, power: int) -> FloatArray:
    """N C(n, ℓ) E[α^(ℓ + power) (1 − α)^(n−ℓ)]."""
    n = as_samples(n_samples)
    ells = as_ell(ell, n_samples=n)
    moments = np.array([marginal.log_moment(k + power, n - k) for k in ells.ravel().tolist()], dtype=np.float64)
    if (unresolved := np.isnan(moments)).any():
        _note(f"The marginal does not resolve ell = {ells.ravel()[unresolved][0]} in {n} samples, so it is NaN.", 4)
    logs = np.log(marginal.n_points) + log_binomial(n, ells) + moments.reshape(ells.shape)
    return np.asarray(np.exp(logs))


def _note(message: str, level: int = 3) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=level)
