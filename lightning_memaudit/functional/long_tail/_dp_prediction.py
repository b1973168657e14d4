"""How often a differentially private learner can be right about a label that only one example, or few, told it."""

from __future__ import annotations

import math
from typing import Literal, get_args

from lightning_memaudit.functional.checks import as_choice, as_number, as_positive_int

__all__ = ["Adjacency", "Bound", "group_privacy", "prediction_bound"]

Adjacency = Literal["add-remove", "label"]
Bound = Literal["paper", "sharp"]


def prediction_bound(
    epsilon: float,
    delta: float = 0.0,
    *,
    n_classes: int,
    bound: Bound = "paper",
    adjacency: Adjacency = "add-remove",
) -> float:
    """Largest probability that an (ε, δ)-DP learner answers the label of a point seen once.

    The label is uniform over m classes and nothing else tells of it. ``"paper"``: e^ε / m + δ, which holds under both
    adjacencies (Feldman 2019, the theorem on differential privacy). ``"sharp"`` is attained by some mechanism, and is
    the value of the linear program over all of them: when neighbours differ in the label of the example,
    (e^ε + (m − 1) δ) / (e^ε + m − 1), at δ = 0 m-ary randomised response; when they differ in its presence,
    min(e^ε / m + δ, 1 − e^−ε (1 − 1/m − δ)).

    Args:
        epsilon: ε, at least 0; infinite for no privacy.
        delta: δ, in [0, 1].
        n_classes: m, at least 2.
        bound: ``"paper"`` or ``"sharp"``.
        adjacency: ``"add-remove"`` (what Opacus accounts for) or ``"label"``; only ``"sharp"`` depends on it.

    Returns:
        A probability in [1/m, 1].

    Raises:
        ArgumentError: A number is out of range, or a name is unknown.

    Example:
        >>> [round(prediction_bound(1.0, n_classes=4, bound="sharp", adjacency=a), 3) for a in ("label", "add-remove")]
        [0.475, 0.68]
    """
    m = as_positive_int(n_classes, name="n_classes", minimum=2)
    eps, slack = as_number(epsilon, name="epsilon"), as_number(delta, name="delta", most=1.0)
    as_choice(bound, name="bound", options=get_args(Bound))
    as_choice(adjacency, name="adjacency", options=get_args(Adjacency))
    inverse = math.exp(-eps)
    if bound == "sharp" and adjacency == "label":
        return (1 + (m - 1) * slack * inverse) / (1 + (m - 1) * inverse)
    paper = 1.0 if inverse * m <= 1 else min(1 / (inverse * m) + slack, 1.0)
    return paper if bound == "paper" else min(paper, 1 - inverse * (1 - 1 / m - slack))


def group_privacy(epsilon: float, delta: float, size: int) -> tuple[float, float]:
    """The privacy of ℓ examples together: (ℓε, ℓ e^((ℓ−1)ε) δ).

    Along a chain of ℓ neighbours the δ add up to δ (1 + e^ε + ... + e^((ℓ−1)ε)), which this bounds.

    Args:
        epsilon: ε of one example, at least 0.
        delta: δ of one example, in [0, 1].
        size: ℓ, at least 1.

    Returns:
        ``(epsilon, delta)`` of the group; δ is at most 1.

    Raises:
        ArgumentError: A number is out of range.

    Example:
        >>> group_privacy(0.5, 0.0, 3)
        (1.5, 0.0)
    """
    eps, slack = as_number(epsilon, name="epsilon"), as_number(delta, name="delta", most=1.0)
    members = as_positive_int(size, name="size")
    if slack == 0:
        return members * eps, 0.0
    log_delta = math.log(members) + (members - 1) * eps + math.log(slack) if members > 1 else math.log(slack)
    return members * eps, math.exp(min(log_delta, 0.0))
