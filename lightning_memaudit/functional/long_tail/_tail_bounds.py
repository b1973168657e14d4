"""Bounds, limits and identities of the long-tail theory that need no sum over points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import special

from lightning_memaudit.functional.checks import as_number, as_positive_int, as_samples

if TYPE_CHECKING:
    from lightning_memaudit.functional.long_tail._marginals import Marginal

__all__ = ["ZipfLimit", "mean_memorization", "singleton_lower_bound", "tau_1_lower_bound", "zipf_limit"]


@dataclass(frozen=True, slots=True)
class ZipfLimit:
    """What Zipf's law with exponent 1 tends to for large N.

    Attributes:
        n_tau_1: n τ_1.
        singleton_fraction: E|X_1| / n, and to the same order the missing mass.
    """

    n_tau_1: float
    singleton_fraction: float


def tau_1_lower_bound(marginal: Marginal, n_samples: int) -> float:
    """τ_1 ≥ weight([1/(3n), 2/n]) / (5n): singletons matter when frequencies about 1/n have mass (Feldman 2019).

    Args:
        marginal: The law of α.
        n_samples: n, at least 3.

    Returns:
        The bound, in [0, 1].

    Raises:
        ArgumentError: ``n_samples`` is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal
        >>> from lightning_memaudit.functional.long_tail import uniform
        >>> tau_1_lower_bound(marginal(uniform(100)), 100)
        0.002
    """
    n = as_samples(n_samples, minimum=3)
    return marginal.weight(1 / (3 * n), 2 / n) / (5 * n)


def singleton_lower_bound(marginal: Marginal, n_samples: int) -> float:
    """E|X_1| ≥ (n / 3) weight([0, 1/n]) (Feldman 2019).

    Args:
        marginal: The law of α.
        n_samples: n.

    Returns:
        The bound, a number of points.

    Raises:
        ArgumentError: ``n_samples`` is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal
        >>> from lightning_memaudit.functional.long_tail import uniform
        >>> round(singleton_lower_bound(marginal(uniform(200)), 100), 6)
        33.333333
    """
    n = as_samples(n_samples)
    return n * marginal.weight(0.0, 1 / n) / 3


def zipf_limit(n_points: int, n_samples: int) -> ZipfLimit:
    """Closed form of τ_1 and the singletons under Zipf's law with exponent 1.

    With x = n / (N H_N): n τ_1 ≈ e^−x / E1(x) and singleton fraction ≈ missing mass ≈ E1(x) / H_N. At n = N the cost of
    not fitting singletons, their product, falls like 1 / ln N: the "Ω(1)" of the paper holds for no fixed constant.

    Args:
        n_points: N.
        n_samples: n.

    Returns:
        Both figures.

    Raises:
        ArgumentError: A number is out of range.

    Example:
        >>> limit = zipf_limit(50_000, 50_000)
        >>> print(f"{limit.n_tau_1:.4f} {limit.singleton_fraction:.4f}")
        0.4717 0.1704
    """
    points, n = as_positive_int(n_points, name="n_points"), as_samples(n_samples)
    harmonic = float(special.digamma(points + 1) - special.digamma(1))
    x = n / (points * harmonic)
    # hyperu(1, 1, x) is e^x E1(x), which does not underflow.
    return ZipfLimit(float(1 / special.hyperu(1, 1, x)), float(special.exp1(x)) / harmonic)


def mean_memorization(test_error: float, train_error: float) -> float:
    """Mean memorization of the examples of a training set, from two errors.

    Leaving out one of n examples at random makes it a test example of a model trained on n − 1. So the mean of
    mem(A, S, i) over i is, in expectation, the test error trained on n − 1 less the training error trained on n.

    Args:
        test_error: Test error of models trained on n − 1 examples, in [0, 1].
        train_error: Training error of models trained on n, in [0, 1].

    Returns:
        Mean memorization, in [−1, 1].

    Raises:
        ArgumentError: An error is out of range.

    Example:
        >>> mean_memorization(0.25, 0.0)
        0.25
    """
    return as_number(test_error, name="test_error", most=1.0) - as_number(train_error, name="train_error", most=1.0)
