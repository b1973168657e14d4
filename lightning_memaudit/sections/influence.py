"""Who influences whom: high-influence pairs on a test split, and near-duplicates in the training set."""

from __future__ import annotations

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

    from lightning_memaudit.record import ArmOutcomes, Record

__all__ = ["describe_duplicates", "describe_influence"]

_SHOWN = 20
_PERMUTATIONS = 20
_COLUMNS = 1000  # false-discovery rates are estimated on this many columns at most
_DUPLICATE_LEVEL = 0.05
_LEAST_MODELS = 8  # fewer have no pair of examples with five models in each cell


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
    correct = record.arm(BASELINE).correct(split)
    pairs = high_influence_pairs(
        correct,
        outcomes.mask,
        memorization=score,
        labels_train=labels,
        labels_test=tested_labels,
        memorization_threshold=MEMORIZED,
        influence_threshold=INFLUENTIAL,
    )
    candidates = np.flatnonzero(score >= MEMORIZED)
    n_tests = int(sum((tested_labels == label).sum() for label in labels[candidates]))
    rate: dict[str, Any] = {"false_discovery_rate": None, "n_columns_permuted": 0}
    if len(candidates):
        kept = _whole_blocks(outcomes)
        found = false_discovery_rate(
            correct[kept],
            outcomes.mask[kept],
            thresholds=np.array([INFLUENTIAL]),
            labels_train=labels,
            labels_test=tested_labels,
            rows=candidates,
            n_permutations=_PERMUTATIONS,
            max_columns=_COLUMNS,
            blocks=None if outcomes.blocks is None else outcomes.blocks[kept],
        )
        rate = {"false_discovery_rate": float(found.rate[0]), "n_columns_permuted": found.n_columns}
    n_in = outcomes.mask.sum(axis=0)
    return available(
        split=split,
        memorization_threshold=MEMORIZED,
        influence_threshold=INFLUENTIAL,
        n_pairs=len(pairs.influence),
        n_candidates=len(candidates),
        n_tests=n_tests,
        n_permutations=_PERMUTATIONS,
        **rate,
        minimum_detectable=_detectable(float(np.median(n_in)), len(outcomes.mask), n_tests),
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
