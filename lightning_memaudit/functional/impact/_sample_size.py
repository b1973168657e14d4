"""How many examples or models would decide what is undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from lightning_memaudit.functional.checks import argument_error, as_positive_int, as_probability, divide

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import BoolArray, FloatArray
    from lightning_memaudit.functional.impact._drops import DropResult
    from lightning_memaudit.functional.uncertainty import OneSided, TwoWay


@dataclass(frozen=True, slots=True)
class DecisionSize:
    """What would settle whether each group's drop is above or below a margin; one entry a group.

    Attributes:
        decided: Whether the interval excludes the margin already, bool[G].
        n_needed: Examples that would do with the models there are, float64[G] (whole numbers); NaN where no number of
            them would, or the group has none.
        models_needed: Models in the smaller arm that would do with the examples there are; NaN likewise.
        factor_needed: How many times as many of both would do, float64[G]; infinite for a drop at the margin.
    """

    decided: BoolArray
    n_needed: FloatArray
    models_needed: FloatArray
    factor_needed: FloatArray


def decision_size(found: DropResult, *, margin: float = 0.0, power: float = 0.8) -> DecisionSize:
    """Predict the examples, or the models, at which the interval would exclude a margin.

    The drop is taken to be what was estimated, the examples' share of the variance to fall as 1 / n and the models'
    as 1 / K. More models also lower what is left in a cell, which is counted with the examples, so that
    ``models_needed`` is on the high side; so is ``n_needed`` where few examples differ yet.

    Args:
        found: What ``accuracy_drop`` returned.
        margin: Drop that is to be told from the group's.
        power: Probability with which the interval shall exclude it.

    Returns:
        One entry a group; where it is decided, what there is.

    Raises:
        ArgumentError: ``power`` is not in (0, 1).

    Example:
        >>> from lightning_memaudit.functional.impact import accuracy_drop
        >>> treated = np.tile(np.arange(60) > 1, (5, 1))
        >>> size = decision_size(accuracy_drop(np.ones((5, 60)), treated, np.zeros(60, dtype=int)))
        >>> size.decided, size.n_needed
        (array([False]), array([427.]))
    """
    if not math.isfinite(margin):
        raise argument_error("margin", margin, "a finite number is needed")
    size = size_law(found.two_way, (1 - found.level) / 2).needed(margin, power=power)
    n, smallest = found.n.astype(np.float64), float(min(found.n_models))
    decided = (found.low > margin) | (found.high < margin)
    return DecisionSize(
        decided=decided,
        n_needed=np.where(decided, n, size.n_needed),
        models_needed=np.where(decided, smallest, size.models_needed),
        factor_needed=np.where(decided, 1.0, size.factor_needed),
    )


@dataclass(frozen=True, slots=True)
class SizesNeeded:
    """What would bring a bound to a margin, as in ``DecisionSize``, always more than there is; one entry a group."""

    n_needed: FloatArray
    models_needed: FloatArray
    factor_needed: FloatArray


@dataclass(frozen=True, slots=True)
class SizeLaw:
    """How the half-widths of bounds fall with the examples and the models, one entry a group.

    Attributes:
        estimate: The estimate, float64[G].
        n: Examples.
        n_models: Models of the smallest arm.
        covers_models: Whether every arm has two or more, bool[G].
        down: What falls with the examples: squared half-width down over z².
        up: The same up.
        models: What falls with the models.
        z: Normal quantile of the bounds.
    """

    estimate: FloatArray
    n: FloatArray
    n_models: FloatArray
    covers_models: BoolArray
    down: FloatArray
    up: FloatArray
    models: FloatArray
    z: float

    def needed(self, margin: float, *, power: float = 0.8) -> SizesNeeded:
        """Predict the examples, or the models, at which a bound would exclude a margin on the estimate's other side.

        Args:
            margin: Value that is to be told from the estimate.
            power: Probability with which the bound shall exclude it.

        Returns:
            One entry a group.

        Raises:
            ArgumentError: ``power`` is not in (0, 1).
        """
        needed = (self.z + float(stats.norm.ppf(as_probability(power, name="power")))) ** 2
        distance = self.estimate - margin
        examples = np.where(distance > 0, self.down, self.up)
        n_needed = np.ceil(self.n * divide(needed * examples, distance**2 - needed * self.models) - 1e-9)
        models_needed = divide(needed * self.models, distance**2 - needed * examples)
        models_needed = np.ceil(self.n_models * models_needed - 1e-9)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = needed * (examples + self.models) / distance**2
        # An arm of one model says nothing of the models' share, and one of none cannot be had.
        models_needed = np.where(self.covers_models, np.maximum(models_needed, self.n_models), np.nan)
        return SizesNeeded(np.maximum(n_needed, self.n + 1), models_needed, np.maximum(factor, 1.0))


def size_law(found: TwoWay | OneSided, tail: float) -> SizeLaw:
    """Split the half-widths of bounds.

    Args:
        found: The estimate.
        tail: One-sided error of the bounds.

    Returns:
        One entry a group.

    Example:
        >>> from lightning_memaudit.functional.uncertainty import two_way
        >>> arms = np.ones((5, 60)), np.tile(np.arange(60.0) > 1, (5, 1))
        >>> size_law(two_way(arms, (1, -1), np.zeros(60, dtype=int), n_groups=1), 0.05).needed(0.1).n_needed
        array([121.])
    """
    errors = np.asarray(tail)
    z = float(stats.norm.isf(tail))
    models, all_models = found.lasting_squares(errors) / z**2, found.model_squares(errors) / z**2
    down, up = (squares / z**2 + all_models - models for squares in found.example_squares(errors))
    return SizeLaw(found.estimate, found.n, found.n_models, found.covers_models, down, up, models, z)


def group_size(
    margin: float,
    discordance: float,
    *,
    n_groups: int = 1,
    drop: float = 0.0,
    level: float = 0.95,
    power: float = 0.8,
) -> int:
    """Examples that each group needs so that all groups pass "drop ≤ margin" together.

    ``n = (z_level + z_(1 - (1 - power) / G))² (discordance - drop²) / (margin - drop)²``: each group is tested
    one-sided at ``level``, uncorrected, and the groups share the risk of missing.

    Args:
        margin: Largest drop allowed.
        discordance: Share of examples on which the arms differ.
        n_groups: G.
        drop: True drop of every group, below the margin.
        level: One-sided confidence level.
        power: Probability that all groups pass.

    Returns:
        Examples for each group.

    Raises:
        ArgumentError: The margin is not above the drop, or a share is out of range.

    Example:
        >>> group_size(0.05, 0.10), group_size(0.02, 0.10, n_groups=10)
        (248, 3420)
    """
    groups = as_positive_int(n_groups, name="n_groups")
    as_probability(discordance, name="discordance")
    if not math.isfinite(drop) or abs(drop) > discordance:
        raise argument_error("drop", drop, f"at most discordance={discordance!r} in size is needed")
    if not margin > drop:
        raise argument_error(
            "margin", margin, f"a number above drop={drop!r} is needed; a drop at the margin is never cleared"
        )
    z = stats.norm.ppf(as_probability(level, name="level"))
    z += stats.norm.isf((1 - as_probability(power, name="power")) / groups)
    return int(np.ceil(z**2 * (discordance - drop**2) / (margin - drop) ** 2))
