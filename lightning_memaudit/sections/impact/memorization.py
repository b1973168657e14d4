"""Does the harm fall on the memorized? Drops and exemplars on training examples, set against their memorization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.impact import drop_by_memorization, exemplar_odds, memorization_slope
from lightning_memaudit.functional.memorization import MEMORIZATION_BINS, memorization_score
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.record.levels import LEVEL, POWER
from lightning_memaudit.sections.entries import available, unavailable
from lightning_memaudit.sections.impact.exemplars import has_predictions, votes_on
from lightning_memaudit.sections.impact.groups import drop_row, statistics

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from lightning_memaudit.functional.checks import BoolArray, IntArray
    from lightning_memaudit.functional.impact import MemorizationSlope
    from lightning_memaudit.record import ArmOutcomes, Record
    from lightning_memaudit.record.pairs import PairedArm

__all__ = ["LEAST_FREE", "describe_link", "free_models"]

LEAST_FREE = 4  # fewer models say next to nothing of memorization
_WEAK = 10.0  # the usual bar of the first stage
_LARGE = 4_000_000  # cells of the baseline beyond which fewer splits are averaged
_SPLITS = (10, 4)


def free_models(baseline: ArmOutcomes, used: Collection[int]) -> BoolArray:
    """Baseline models that are compared with no treated one, bool[M]: whole and complete blocks only."""
    taken = np.isin(baseline.model_ids, list(used))
    if baseline.blocks is None:
        return ~taken
    _, codes, sizes = np.unique(baseline.blocks, return_inverse=True, return_counts=True)
    touched = np.bincount(codes, weights=taken) > 0
    return np.asarray(~touched[codes] & (sizes[codes] == sizes.max()))


def describe_link(record: Record, arm: PairedArm | None, baseline: ArmOutcomes, free: BoolArray) -> dict[str, Any]:
    """Drop against memorization on the training split: instrumented slope, bins, and odds of exemplars.

    Args:
        record: The record.
        arm: The arm on the training split; None where its models trained on every example.
        baseline: All baseline models on the training split.
        free: Those that are compared with no treated model.
    """
    if arm is None:
        everything = unavailable(
            "the models of this arm trained on every example, and memorization is about models without it"
        )
        return {"slope": everything, "bins": everything, "exemplar_odds": everything}
    there = np.isin(arm.model_ids, baseline.model_ids)
    rows = np.searchsorted(baseline.model_ids, arm.model_ids[there])
    correct, treated = baseline.correct, arm.treated.correct[there]
    if set(arm.sources) != {BASELINE}:
        correct = correct.copy()
        correct[rows] = arm.base.correct[there]
    return {
        "slope": _slope(baseline, correct, treated, rows),
        "bins": _bins(baseline, correct, treated, rows),
        "exemplar_odds": _odds(record, arm, baseline, free),
    }


def _slope(
    baseline: ArmOutcomes, correct: npt.NDArray[Any], treated: npt.NDArray[Any], rows: IntArray
) -> dict[str, Any]:
    try:
        line = memorization_slope(
            correct,
            baseline.mask,
            treated,
            pairs=rows,
            blocks=baseline.blocks,
            n_splits=_SPLITS[correct.size > _LARGE],
            level=LEVEL,
        )
    except ArgumentError as error:
        return unavailable(f"{_too_few(baseline, treated)} ({error})")
    known: dict[str, Any] = {
        "slope": line.slope,
        "low": line.low,
        "high": line.high,
        "standard_error": line.standard_error,
        "first_stage": line.first_stage,
        "first_stage_f": line.first_stage_f,
        "n_examples": line.n_examples,
        "n_models": list(line.n_models),
        "n_treated": line.n_treated,
        "n_splits": line.n_splits,
        "condition": line.condition,
    }
    if not np.isfinite(line.slope):
        return unavailable("memorization does not vary between examples, as far as these models tell") | known
    needed = _factor(line)
    known |= {
        "weak_first_stage": not line.first_stage_f >= _WEAK,
        "decided": bool(line.low > 0 or line.high < 0),
        "factor_needed": needed,
        "models_needed": [np.ceil(needed * size) for size in (len(correct), len(treated))],
    }
    if not np.isfinite(line.low + line.high):
        many = "no number of" if not np.isfinite(needed) else f"{known['models_needed'][0]:.0f} baseline"
        return (
            unavailable(
                f"memorization is known too poorly (first stage F = {line.first_stage_f:.2g}); about {many} models "
                "would do"
            )
            | known
        )
    return available(**known)


def _too_few(baseline: ArmOutcomes, treated: npt.NDArray[Any]) -> str:
    units = "baseline models" if baseline.blocks is None else "pairs of baseline models"
    n_units = len(baseline.mask) if baseline.blocks is None else len(np.unique(baseline.blocks))
    return (
        f"memorization and drops must come from different models, and there are {n_units} {units} and {len(treated)} "
        f"treated models; at least 6 {units} would do, with 2 of them treated and 4 not, or with 6 treated"
    )


def _factor(line: MemorizationSlope) -> float:
    """How many times as many models would bring the first stage over its bar and the interval off 0."""
    strength = _WEAK / line.first_stage_f if line.first_stage_f > 0 else float("inf")
    quantiles = stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(POWER)
    distance = (quantiles * line.standard_error / line.slope) ** 2 if line.slope else float("inf")
    return float(max(strength, 1.0 if line.low > 0 or line.high < 0 else distance, 1.0))


def _bins(
    baseline: ArmOutcomes, correct: npt.NDArray[Any], treated: npt.NDArray[Any], rows: IntArray
) -> dict[str, Any]:
    try:
        table = drop_by_memorization(correct, baseline.mask, treated, pairs=rows, blocks=baseline.blocks, level=LEVEL)
    except ArgumentError as error:
        return unavailable(f"{_too_few(baseline, treated)} ({error})")
    return available(
        condition=table.condition,
        n_unscored=table.n_unscored,
        n_models=table.drop.n_models[1],
        rows=[
            {
                "from": float(table.edges[b]),
                "to": float(table.edges[b + 1]),
                "memorization": float(table.memorization[b]),
                **drop_row(table.drop, b),
                "statistics": statistics(table.drop, b),
            }
            for b in range(len(table.memorization))
        ],
    )


def _odds(record: Record, arm: PairedArm, baseline: ArmOutcomes, free: BoolArray) -> dict[str, Any]:
    if not has_predictions(arm):
        return unavailable("an example has no single prediction (sequences, or a score function that gives none)")
    if free.sum() < LEAST_FREE:
        return unavailable(
            f"memorization must come from other models than the votes, and {free.sum()} of the {len(free)} baseline "
            f"models are compared with no treated one; train at least {LEAST_FREE - free.sum()} more baseline models"
        )
    score = memorization_score(baseline.correct[free], baseline.mask[free]).score
    seen = votes_on(record, arm)
    odds = exemplar_odds(seen.exemplar[seen.judged], score[seen.judged], edges=MEMORIZATION_BINS, level=LEVEL)
    columns = ("odds", "low", "high", "ratio", "ratio_low", "ratio_high")
    return available(
        condition="out",
        n_models=arm.n_models,
        n_models_for_memorization=int(free.sum()),
        n_unscored=odds.n_unscored + int((~seen.judged).sum()),
        rows=[
            {
                "from": float(odds.edges[b]),
                "to": float(odds.edges[b + 1]),
                "n": int(odds.n[b]),
                "n_exemplars": int(odds.n_exemplars[b]),
                **{key: float(getattr(odds, key)[b]) for key in columns},
            }
            for b in range(len(odds.n))
        ],
    )
