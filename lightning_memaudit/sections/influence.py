"""Who influences whom: high-influence pairs on a test split, and near-duplicates in the training set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from lightning_memaudit.functional.influence import (
    false_discovery_rate,
    high_influence_pairs,
    minimum_detectable_influence,
    near_duplicates,
)
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.record.levels import INFLUENTIAL, MEMORIZED
from lightning_memaudit.sections.entries import available, unavailable

if TYPE_CHECKING:
    import numpy.typing as npt

    from lightning_memaudit.functional.influence import InfluencePairs
    from lightning_memaudit.record import ArmOutcomes, Record

__all__ = ["InfluentialPairs", "describe_duplicates", "describe_influence", "has_classes"]

_SHOWN = 20
_PERMUTATIONS = 20
_COLUMNS = 1000  # false-discovery rates are estimated on this many columns at most
_DUPLICATE_LEVEL = 0.05
_LEAST_MODELS = 8  # fewer have no pair of examples with five models in each cell


@dataclass(frozen=True, slots=True, eq=False)
class InfluentialPairs:
    """Pairs of high influence between training and held-out examples of one class.

    Attributes:
        pairs: The pairs.
        candidates: Training examples that are memorized, which are looked at.
        n_tests: Pairs that were looked at.
        correct: Outcomes on the held-out examples [M, n].
        mask: Membership [M, n_train].
        labels: Labels of the training and of the held-out examples.
    """

    pairs: InfluencePairs
    candidates: npt.NDArray[np.int64]
    n_tests: int
    correct: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_]
    labels: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

    @classmethod
    def find(
        cls,
        correct: npt.NDArray[Any],
        mask: npt.NDArray[np.bool_],
        score: npt.NDArray[np.float64],
        *,
        labels_train: npt.NDArray[np.int64],
        labels_test: npt.NDArray[np.int64],
    ) -> InfluentialPairs:
        """Look for them.

        Args:
            correct: Outcomes on the held-out examples [M, n].
            mask: Membership [M, n_train].
            score: Memorization scores.
            labels_train: Labels of the training examples.
            labels_test: Labels of the held-out ones.
        """
        pairs = high_influence_pairs(
            correct,
            mask,
            memorization=score,
            memorization_threshold=MEMORIZED,
            influence_threshold=INFLUENTIAL,
            labels_train=labels_train,
            labels_test=labels_test,
        )
        candidates = np.flatnonzero(score >= MEMORIZED)
        n_tests = int(sum((labels_test == label).sum() for label in labels_train[candidates]))
        return cls(pairs, candidates, n_tests, correct, mask, (labels_train, labels_test))

    def by_chance(self, models: npt.NDArray[np.bool_], blocks: npt.NDArray[np.int64] | None) -> tuple[float, int]:
        """Share of the pairs that would be there with no influence at all, and the columns that were permuted.

        Args:
            models: Models that are permuted, bool[M]: whole blocks.
            blocks: Block of each model.
        """
        found = false_discovery_rate(
            self.correct[models],
            self.mask[models],
            thresholds=np.array([INFLUENTIAL]),
            rows=self.candidates,
            n_permutations=_PERMUTATIONS,
            max_columns=_COLUMNS,
            blocks=None if blocks is None else blocks[models],
            labels_train=self.labels[0],
            labels_test=self.labels[1],
        )
        return float(found.rate[0]), found.n_columns


def describe_influence(
    record: Record, outcomes: ArmOutcomes, score: npt.NDArray[np.float64], split: str | None
) -> dict[str, Any]:
    """High-influence pairs between training examples and those of ``split``, with their false-discovery rate.

    Args:
        record: Where the outcomes on ``split`` are.
        outcomes: Outcomes on the training examples.
        score: Memorization scores.
        split: The test or validation split, if there is one.
    """
    if split is None:
        return unavailable("there is no test or validation split")
    labels, tested_labels = outcomes.labels, record.examples(split).labels
    if not has_classes(labels) or not has_classes(tested_labels):
        return unavailable("the examples have no class labels, and pairs are looked for within a class")
    known = InfluentialPairs.find(
        record.arm(BASELINE).correct(split), outcomes.mask, score, labels_train=labels, labels_test=tested_labels
    )
    pairs = known.pairs
    rate: dict[str, Any] = {"false_discovery_rate": None, "n_columns_permuted": 0}
    if len(known.candidates):
        share, n_columns = known.by_chance(_whole_blocks(outcomes), outcomes.blocks)
        rate = {"false_discovery_rate": share, "n_columns_permuted": n_columns}
    n_in = outcomes.mask.sum(axis=0)
    return available(
        split=split,
        memorization_threshold=MEMORIZED,
        influence_threshold=INFLUENTIAL,
        n_pairs=len(pairs.influence),
        n_candidates=len(known.candidates),
        n_tests=known.n_tests,
        n_permutations=_PERMUTATIONS,
        **rate,
        minimum_detectable=_detectable(float(np.median(n_in)), len(outcomes.mask), known.n_tests),
        pairs=[
            {
                "train_index": int(i),
                "test_index": int(j),
                "influence": float(value),
                "score": float(score[i]),
                "label": int(labels[i]),
            }
            for i, j, value in zip(
                pairs.train_index[:_SHOWN], pairs.test_index[:_SHOWN], pairs.influence[:_SHOWN], strict=True
            )
        ],
    )


def describe_duplicates(outcomes: ArmOutcomes) -> dict[str, Any]:
    """Near-duplicates in the training set, through train-on-train influence given that the other one is out."""
    if len(outcomes.model_ids) < _LEAST_MODELS:
        return unavailable(f"{len(outcomes.model_ids)} models are too few to see two examples stand in for each other")
    kept = _whole_blocks(outcomes)
    found = near_duplicates(
        outcomes.correct[kept],
        outcomes.mask[kept],
        labels=outcomes.labels if has_classes(outcomes.labels) else None,
        level=_DUPLICATE_LEVEL,
        max_columns=_COLUMNS,
        blocks=None if outcomes.blocks is None else outcomes.blocks[kept],
    )
    return available(
        level=_DUPLICATE_LEVEL,
        threshold=found.threshold,
        false_discovery_rate=found.false_discovery_rate,
        n_pairs=len(found.score),
        pairs=[
            {"first": int(i), "second": int(j), "influence": float(value)}
            for i, j, value in zip(found.first[:_SHOWN], found.second[:_SHOWN], found.score[:_SHOWN], strict=True)
        ],
    )


def _detectable(n_in: float, n_models: int, n_tests: int) -> float | None:
    if not n_tests or not 0 < n_in < n_models:
        return None
    value = minimum_detectable_influence(n_in, n_models - n_in, n_tests)
    return value if value <= 1 else None


def _whole_blocks(outcomes: ArmOutcomes) -> npt.NDArray[np.bool_]:
    """Models whose partner is there too; a permutation deals whole pairs."""
    if outcomes.blocks is None:
        return np.ones(len(outcomes.model_ids), dtype=bool)
    _, codes, sizes = np.unique(outcomes.blocks, return_inverse=True, return_counts=True)
    return np.asarray(sizes[codes] == sizes.max())


def has_classes(labels: npt.NDArray[np.int64] | None) -> TypeGuard[npt.NDArray[np.int64]]:
    """Whether every example has a class number."""
    return labels is not None and bool((labels >= 0).all())
