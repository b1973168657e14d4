"""How bounds come closer with more examples or models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import divide
from lightning_memaudit.functional.impact import SizesNeeded, size_law
from lightning_memaudit.record.estimates.needed import Needed
from lightning_memaudit.record.levels import POWER

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import IntArray

__all__ = ["Sizes", "by_factor", "by_models", "by_sizes", "needed_of"]


class Sizes(Protocol):
    """What would decide, one entry a group."""

    def __call__(self, margin: float, *, power: float) -> SizesNeeded:
        """Examples, models and times as many of both."""


def by_sizes(found: Any, alpha: float) -> Sizes:
    """Examples, models or both: for a drop or an error rate."""
    return size_law(found, alpha).needed


def by_models(found: Any, alpha: float) -> Sizes:
    """Models: for a figure of fixed examples."""
    factor = by_factor(found, alpha)

    def sizes(margin: float, *, power: float) -> SizesNeeded:
        needed = factor(margin, power=power)
        return SizesNeeded(needed.n_needed, needed.factor_needed * (found.df + 1), needed.factor_needed)

    return sizes


def by_factor(found: Any, alpha: float) -> Sizes:
    """How many times as much of everything, half-widths falling as its root: for a contrast."""
    down, up = found.half_widths(np.asarray(alpha))
    z = float(stats.norm.isf(alpha))

    def sizes(margin: float, *, power: float) -> SizesNeeded:
        distance = found.estimate - margin
        reach = np.where(distance > 0, down, up) * (z + float(stats.norm.ppf(power))) / z
        factor = np.maximum(divide(reach**2, distance**2), 1.0)
        unknown = np.full_like(factor, np.nan)
        return SizesNeeded(unknown, unknown, factor)

    return sizes


def needed_of(sizes: Sizes, margin: float, rows: IntArray) -> list[Needed]:
    """What would decide each of some rows."""
    found = sizes(margin, power=POWER)
    columns = (getattr(found, f"{what}_needed")[rows].tolist() for what in ("n", "models", "factor"))
    return [
        Needed(_whole(n), _whole(models), None if math.isnan(factor) else factor)
        for n, models, factor in zip(*columns, strict=True)
    ]


def _whole(number: float) -> int | None:
    return math.ceil(number) if math.isfinite(number) else None
