"""The cost of DP-SGD, split into what clipping costs and what the noise adds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lightning_memaudit.functional.checks import Array, as_correct
from lightning_memaudit.functional.impact._drops import DropResult, accuracy_drop, aligned
from lightning_memaudit.functional.uncertainty import two_way

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import FloatArray


@dataclass(frozen=True, slots=True)
class ClippingDecomposition:
    """Drop under DP-SGD as ``(base - clip-only) + (clip-only - private)``; arrays have one entry a group.

    Attributes:
        total: Drop from the base to the private arm.
        clipping: Drop from the base to the clip-only arm.
        noise: Drop from the clip-only to the private arm.
        difference: ``clipping.drop - noise.drop``, float64[G]; positive where clipping costs more than the noise.
        difference_low: Lower end of its two-way interval.
        difference_high: Upper end.
    """

    total: DropResult
    clipping: DropResult
    noise: DropResult
    difference: FloatArray
    difference_low: FloatArray
    difference_high: FloatArray


def decompose_drop(
    base: Array,
    clip_only: Array,
    private: Array,
    groups: Array,
    *,
    paired: bool = False,
    level: float = 0.95,
    n_groups: int | None = None,
) -> ClippingDecomposition:
    """Split the drop under DP-SGD into clipping and noise, each with its interval.

    Without the clip-only arm, a learning rate that does not suit clipping passes for the price of privacy. The
    clip-only arm must share clipping, sampling and learning rate with the private one. The difference is one contrast,
    ``base - 2 clip_only + private``, since the clip-only models are in both parts.

    Args:
        base: Outcomes without DP-SGD [M0, n] in [0, 1].
        clip_only: Outcomes with clipping and no noise [M1, n].
        private: Outcomes with both [M2, n].
        groups: Group of each example [n], codes of at least 0.
        paired: Row k of all arms belongs together (one subset and seed).
        level: Two-sided confidence level.
        n_groups: G; ``None``: the largest code plus one.

    Returns:
        Both parts, their sum and their difference. An example that any arm lacks is in none of them.

    Raises:
        ArgumentError: As ``accuracy_drop``.

    Example:
        >>> import numpy as np
        >>> found = decompose_drop(*(np.tile(row, (3, 20)) for row in ([1, 1], [1, 0], [0, 0])), np.tile([0, 1], 20))
        >>> found.clipping.drop, found.noise.drop, found.difference
        (array([0., 1.]), array([1., 0.]), array([-1.,  1.]))
    """
    names = ("base", "clip_only", "private")
    checked = [
        as_correct(arm, name=name, min_models=1) for arm, name in zip((base, clip_only, private), names, strict=True)
    ]
    arms, codes, missing = aligned(checked, names, groups, paired=paired, n_groups=n_groups)
    total = len(missing)
    weights = (1.0, -2.0, 1.0)
    contrast = two_way(arms, weights, codes, n_groups=total, paired=paired)
    low, high = contrast.interval(level)
    both, clipping, noise = (
        replace(accuracy_drop(arms[i], arms[j], codes, paired=paired, level=level, n_groups=total), n_missing=missing)
        for i, j in ((0, 2), (0, 1), (1, 2))
    )
    return ClippingDecomposition(both, clipping, noise, contrast.estimate, low, high)
