"""Calibration of both arms by group, as far as what is stored tells the confidence of a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from lightning_memaudit.functional.impact import calibration_by_group, value_drop
from lightning_memaudit.record.levels import LEVEL
from lightning_memaudit.sections.entries import available, unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from lightning_memaudit.functional.checks import FloatArray
    from lightning_memaudit.record.pairs import PairedArm, Scores
    from lightning_memaudit.record.partitions import Partition

__all__ = ["describe_calibration"]

_ROUNDING = 1e-5


def describe_calibration(arm: PairedArm, divided: Mapping[str, Partition | None]) -> dict[str, Any]:
    """Confidence minus accuracy by group in both arms, its change, and the expected calibration error.

    The confidence is that of the prediction (top-label calibration). Shards of earlier versions have only the margin,
    which gives it where there are two classes.
    """
    if not arm.base.is_binary or not arm.treated.is_binary:
        return unavailable("outcomes are shares of tokens, and calibration needs one prediction an example")
    confidence = [scores.confidence.astype(np.float64) for scores in (arm.base, arm.treated)]
    if any(np.isnan(values).all() for values in confidence):
        if not _two_classes(arm):
            return unavailable(
                "the confidence of predictions is not on record: models were scored by an earlier version, or by a "
                "score function that gives no confidence"
            )
        confidence = [_confidence(scores) for scores in (arm.base, arm.treated)]
    known = arm.judged & np.isfinite(confidence[0]) & np.isfinite(confidence[1])
    right = [scores.correct for scores in (arm.base, arm.treated)]
    if not known.any():
        return unavailable("no judged model has a finite output in both arms")
    return available(
        n_cells_not_finite=int(arm.judged.sum() - known.sum()),
        by_group={
            name: _rows(arm, confidence, right, known, partition)
            for name, partition in divided.items()
            if partition is not None
        },
    )


def _two_classes(arm: PairedArm) -> bool:
    """Whether every label and prediction is 0 or 1, and every right answer has a probability of at least one half."""
    if arm.labels is None or not np.isin(arm.labels, (0, 1)).all():
        return False
    for scores in (arm.base, arm.treated):
        if not np.isin(scores.prediction, (-1, 0, 1)).all():
            return False
        correct, margin = scores.correct, scores.margin
        if (correct & (margin < -_ROUNDING)).any() or (~correct & (margin > _ROUNDING)).any():
            return False
    return True


def _confidence(scores: Scores) -> FloatArray:
    """Probability that each model gives its own prediction, with two classes."""
    return np.asarray(expit(np.abs(scores.margin.astype(np.float64))))


def _rows(
    arm: PairedArm,
    confidence: list[FloatArray],
    right: list[npt.NDArray[np.bool_]],
    known: npt.NDArray[np.bool_],
    partition: Partition,
) -> list[dict[str, Any]]:
    codes, total = partition.codes, len(partition.names)
    sides: list[dict[str, FloatArray]] = []
    off = []
    for values, correct in zip(confidence, right, strict=True):
        off.append(np.where(known, values - correct, np.nan))
        each = [
            calibration_by_group(row[cells], its[cells], codes[cells], n_groups=total, level=LEVEL)
            for row, its, cells in zip(values, correct, known, strict=True)
        ]
        means = {
            key: _mean([getattr(one, key) for one in each])
            for key in ("confidence", "accuracy", "gap", "ece", "ece_if_calibrated")
        }
        if arm.n_models > 1:
            wide = value_drop(off[-1], np.zeros_like(off[-1]), codes, paired=True, level=LEVEL, n_groups=total)
            means |= {"gap": wide.drop, "gap_low": wide.low, "gap_high": wide.high}
        else:
            means |= {"gap_low": each[0].gap_low, "gap_high": each[0].gap_high}
        sides.append(means)
    change = {"change": sides[1]["gap"] - sides[0]["gap"]} | dict.fromkeys(("low", "high"), np.full(total, np.nan))
    if arm.n_models > 1:
        moved = value_drop(off[1], off[0], codes, paired=True, level=LEVEL, n_groups=total)
        change = {"change": moved.drop, "low": moved.low, "high": moved.high}
    n = np.bincount(codes[known.any(axis=0)], minlength=total)
    return [
        {
            "group": name,
            "n": int(n[g]),
            **{
                side: {key: float(values[g]) for key, values in means.items()}
                for side, means in zip(("base", "treated"), sides, strict=True)
            },
            "gap_change": {key: float(values[g]) for key, values in change.items()},
        }
        for g, name in enumerate(partition.names)
    ]


def _mean(values: list[FloatArray]) -> FloatArray:
    """Mean over models by group; NaN for a group that a model lacks altogether only if all do."""
    table = np.stack(values)
    there = ~np.isnan(table)
    total = np.where(there, table, 0.0).sum(axis=0)
    return np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan)
