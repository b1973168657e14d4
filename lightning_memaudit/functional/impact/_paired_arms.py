"""A base and a treated arm on the training examples, and which models of the two belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from lightning_memaudit.functional.checks import (
    Array,
    BoolArray,
    IntArray,
    argument_error,
    as_blocks,
    as_choice,
    as_correct,
    as_indices,
    as_mask,
    as_outcomes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Condition = Literal["out", "in"]


@dataclass(frozen=True, slots=True)
class PairedArms:
    """Both arms on the training examples, with who trained on what.

    Attributes:
        base: Outcomes of the base arm [M0, n].
        mask: Membership of its models, bool[M0, n].
        treated: Outcomes of the treated arm [M1, n].
        treated_mask: Membership of its models, bool[M1, n].
        pairs: Row of ``base`` that each treated model shares subset and seed with, int64[M1]; ``None``: none.
        blocks: Numbers of base models that stay together, int64[M0].
        condition: Whether models without the example enter its drop, or those with it.
    """

    base: NDArray[Any]
    mask: BoolArray
    treated: NDArray[Any]
    treated_mask: BoolArray
    pairs: IntArray | None
    blocks: IntArray
    condition: Condition

    @property
    def n_blocks(self) -> int:
        """Number of blocks of base models."""
        return int(self.blocks.max()) + 1

    def judged(self) -> tuple[BoolArray, BoolArray]:
        """Cells of both arms that may enter the drop."""
        inside = self.mask, self.treated_mask
        return inside if self.condition == "in" else (~inside[0], ~inside[1])

    def paired_blocks(self) -> IntArray:
        """Blocks with a treated counterpart; all of them when the arms share no model."""
        return np.arange(self.n_blocks) if self.pairs is None else np.unique(self.blocks[self.pairs])

    @property
    def few_judge(self) -> bool:
        """Whether all blocks with a counterpart judge, since they are few; else three sets take turns."""
        counterparts = len(self.paired_blocks())
        return 3 * counterparts <= self.n_blocks or counterparts < 6


def paired_arms(
    base: Array,
    mask: Array,
    treated: Array,
    pairs: Array | None,
    treated_mask: Array | None,
    condition: Condition,
    blocks: Array | None,
) -> PairedArms:
    """Check both arms.

    Args:
        base: Outcomes of the base arm [M0, n].
        mask: Membership of its models [M0, n].
        treated: Outcomes of the treated arm [M1, n].
        pairs: As for ``slope.memorization_slope``.
        treated_mask: As for ``slope.memorization_slope``.
        condition: ``"out"`` or ``"in"``.
        blocks: Base models that stay together [M0], or ``None``.

    Returns:
        The arms.

    Raises:
        ArgumentError: Anything malformed, or too few models.

    Example:
        >>> arms = paired_arms(np.ones((6, 2)), np.eye(6, 2), np.ones((6, 2)), np.arange(6), None, "out", None)
        >>> arms.n_blocks, arms.few_judge
        (6, False)
    """
    as_choice(condition, name="condition", options=get_args(Condition))
    if pairs is not None and treated_mask is not None:
        raise argument_error("treated_mask", treated_mask, "None is needed with pairs, which say both")
    if pairs is None and treated_mask is None:
        raise argument_error(
            "pairs", pairs, "rows of base are needed where models share subset and seed, else treated_mask"
        )
    outcomes, inside = as_outcomes(base, mask, name="base")
    second = as_correct(treated, name="treated")
    if second.shape[1] != outcomes.shape[1]:
        raise argument_error("treated", second, f"{outcomes.shape[1]} examples (columns) are needed, as in base")
    rows: IntArray | None = None
    if pairs is not None:
        rows = as_indices(pairs, name="pairs", size=len(second), upper=len(outcomes))
        if len(np.unique(rows)) < len(rows):
            raise argument_error("pairs", rows, "each row of base at most once is needed")
        members = inside[rows]
    elif treated_mask is not None:
        members = as_mask(treated_mask, n_models=len(second), n_examples=second.shape[1], name="treated_mask")
    models = PairedArms(outcomes, inside, second, members, rows, as_blocks(blocks, len(outcomes)), condition)
    counterparts = len(models.paired_blocks())
    if models.n_blocks < 6 or counterparts < 2 or (models.few_judge and models.n_blocks - counterparts < 4):
        raise argument_error(
            "base",
            outcomes,
            f"at least 6 models (or blocks) are needed, 2 with a treated one and 4 without (or 6 with);"
            f" there are {models.n_blocks} and {counterparts}",
        )
    return models
