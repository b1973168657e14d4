"""What it costs not to memorize: the excess error of learners that guess on points seen rarely (Feldman 2019)."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.functional.checks import argument_error, as_number, as_positive_int, as_samples
from lightning_memaudit.functional.long_tail._dp_prediction import Adjacency, Bound, group_privacy, prediction_bound
from lightning_memaudit.functional.long_tail._expectations import (
    expected_mass,
    guess_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.functional.long_tail._marginals import Marginal

__all__ = ["cost_of_dp", "cost_of_limited_memorization", "cost_of_not_fitting"]


def cost_of_not_fitting(
    marginal: Marginal, n_samples: int, *, n_classes: int, max_count: int = 1, confidence: float = 1.0
) -> float:
    """Excess error of a learner that guesses on every point seen at most ``max_count`` times.

    For singletons (1 − 1/m) τ_1 E|X_1|.

    Args:
        marginal: The law of α.
        n_samples: n, up to 1e10.
        n_classes: m, at least 2.
        max_count: Largest ℓ that is not fitted.
        confidence: Posterior margin of a label seen once, see ``label_confidence``; below 1 for singletons only.

    Returns:
        The excess over ``optimal_error``, in [0, 1].

    Raises:
        ArgumentError: A number is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal, zipf
        >>> print(f"{cost_of_not_fitting(marginal(zipf(50_000)), 50_000, n_classes=10):.6f}")
        0.072335
    """
    misses = guess_error(n_classes)
    return _cost(marginal, n_samples, lambda _: misses, max_count=max_count, confidence=confidence)


def cost_of_limited_memorization(
    marginal: Marginal, n_samples: int, *, n_classes: int, gamma: float, max_count: int = 1, confidence: float = 1.0
) -> float:
    """Least excess error of a learner that memorizes no example by more than γ.

    For singletons max(1 − 1/m − γ, 0) τ_1 E|X_1|. Taking away the ℓ examples of a point one by one lowers its accuracy
    by at most ℓγ, so a point seen ℓ times adds max(1 − 1/m − ℓγ, 0) τ_ℓ E|X_ℓ|.

    Args:
        marginal: The law of α.
        n_samples: n, up to 1e10.
        n_classes: m, at least 2.
        gamma: γ, largest memorization of an example, in [0, 1].
        max_count: Largest ℓ that is counted.
        confidence: Posterior margin of a label seen once, see ``label_confidence``; below 1 for singletons only.

    Returns:
        The excess over ``optimal_error``, in [0, 1]; 0 when γ ≥ 1 − 1/m.

    Raises:
        ArgumentError: A number is out of range.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal, zipf
        >>> print(f"{cost_of_limited_memorization(marginal(zipf(5_000)), 10_000, n_classes=10, gamma=0.5):.6f}")
        0.035301
    """
    misses, limit = guess_error(n_classes), as_number(gamma, name="gamma", most=1.0)
    return _cost(
        marginal, n_samples, lambda ell: max(misses - ell * limit, 0.0), max_count=max_count, confidence=confidence
    )


def cost_of_dp(
    marginal: Marginal,
    n_samples: int,
    *,
    n_classes: int,
    epsilon: float,
    delta: float = 0.0,
    bound: Bound = "paper",
    adjacency: Adjacency = "add-remove",
    max_count: int = 1,
    confidence: float = 1.0,
) -> float:
    """Least excess error of an (ε, δ)-DP learner.

    For singletons (1 − ``prediction_bound``) τ_1 E|X_1|; a point seen ℓ times counts with the privacy of ℓ examples,
    see ``group_privacy``. The sharp value never allows more accuracy than the paper's bound, so it predicts at
    least its cost.

    Args:
        marginal: The law of α.
        n_samples: n, up to 1e10.
        n_classes: m, at least 2.
        epsilon: ε, at least 0.
        delta: δ, in [0, 1].
        bound: ``"paper"`` or ``"sharp"``, see ``prediction_bound``.
        adjacency: ``"add-remove"`` or ``"label"``.
        max_count: Largest ℓ that is counted.
        confidence: Posterior margin of a label seen once, see ``label_confidence``; below 1 for singletons only.

    Returns:
        The excess over ``optimal_error``, in [0, 1].

    Raises:
        ArgumentError: A number is out of range, or a name is unknown.

    Example:
        >>> from lightning_memaudit.functional.long_tail import marginal, zipf
        >>> law = marginal(zipf(5_000))
        >>> for bound in ("paper", "sharp"):
        ...     cost = cost_of_dp(law, 10_000, n_classes=10, epsilon=np.log(6), bound=bound, adjacency="label")
        ...     print(f"{bound} {cost:.6f}")
        paper 0.035301
        sharp 0.052951
    """

    def shortfall(ell: int) -> float:
        eps, slack = group_privacy(epsilon, delta, ell)
        return 1 - prediction_bound(eps, slack, n_classes=n_classes, bound=bound, adjacency=adjacency)

    return _cost(marginal, n_samples, shortfall, max_count=max_count, confidence=confidence)


def _cost(
    marginal: Marginal, n_samples: int, shortfall: Callable[[int], float], *, max_count: int, confidence: float
) -> float:
    """The masses of the points seen 1 to ``max_count`` times, each times what its accuracy lacks (falling in ℓ)."""
    most = min(as_positive_int(max_count, name="max_count"), as_samples(n_samples))
    margin = as_number(confidence, name="confidence", most=1.0)
    if margin < 1 and max_count > 1:
        raise argument_error(
            "confidence", confidence, f"1 is needed with max_count={max_count}: it is the margin of a label seen once"
        )
    lacking = list(takewhile(lambda lack: lack > 0, map(shortfall, range(1, most + 1))))
    if not lacking:
        return 0.0
    return margin * float(expected_mass(marginal, n_samples, np.arange(1, len(lacking) + 1)) @ np.array(lacking))
