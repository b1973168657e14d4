"""How scores are spread: a histogram, the share that is memorized, and how far the scores can be trusted."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.memorization import adjusted_memorization_score, models_for_in_and_out, reliability
from lightning_memaudit.sections.entries import available, unavailable

if TYPE_CHECKING:
    import numpy.typing as npt

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.functional.memorization import MemorizationScore, Prevalence
    from lightning_memaudit.record import ArmOutcomes

__all__ = ["describe_adjustment", "describe_arms", "describe_prevalence", "describe_reliability", "histogram"]

_LEAST_BLOCKS = 4
_LEAST_TO_DECONVOLVE = 20
_BINS = np.linspace(-1.0, 1.0, 41)


def histogram(score: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Counts of scores in 40 bins from −1 to 1."""
    # the small shift keeps scores such as .95 - .70 in the bin that starts at .25
    counts, edges = np.histogram(np.clip(score[~np.isnan(score)] + 1e-12, -1, 1), bins=_BINS)
    return {"edges": edges.round(6).tolist(), "counts": counts.tolist()}


def describe_prevalence(found: Prevalence, n_models: int) -> dict[str, Any]:
    """The share of memorized examples, its deconvolution left out where models are few."""
    summary = found.to_dict()
    if n_models < _LEAST_TO_DECONVOLVE:
        summary |= {name: None for name in summary if name.startswith("deconvolved")}
        summary["reason"] = f"fewer than {_LEAST_TO_DECONVOLVE} models say too little of the noise"
    return summary


def describe_reliability(outcomes: ArmOutcomes) -> dict[str, Any]:
    """Agreement of the scores of two halves of the models."""
    n_blocks = len(outcomes.model_ids if outcomes.blocks is None else np.unique(outcomes.blocks))
    if n_blocks < _LEAST_BLOCKS:
        return unavailable(f"{n_blocks} independent models cannot be split in halves with both arms")
    return available(**asdict(reliability(outcomes.correct, outcomes.mask, blocks=outcomes.blocks)))


def describe_arms(scores: MemorizationScore, plan: SubsetPlan, n_models: int) -> dict[str, Any]:
    """Examples that have a score, and those that no model or every model trained on."""
    never_in, never_out = scores.n_in == 0, scores.n_out == 0
    by_design = np.zeros(plan.n_examples, dtype=bool)
    if plan.canaries is not None:
        coin = np.zeros(plan.n_examples, dtype=bool)
        coin[plan.canaries] = True
        if plan.units is not None:
            coin = np.isin(plan.units, plan.units[plan.canaries])
        by_design = ~coin
    n_drawn = plan.n_units if plan.canaries is None else int((~by_design).sum())
    needed = models_for_in_and_out(n_drawn, plan.subset_fraction)
    return {
        "n_estimable": int((~np.isnan(scores.score)).sum()),
        "n_never_in": int((never_in & ~by_design).sum()),
        "n_never_out": int((never_out & ~by_design).sum()),
        "n_always_in_by_design": int(by_design.sum()),
        "models_for_both_arms": needed,
        "more_models": max(needed - n_models, 0) if bool(((never_in | never_out) & ~by_design).any()) else 0,
    }


def describe_adjustment(correct: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """What adjusting scores for the accuracy of each model gains."""
    adjusted = adjusted_memorization_score(correct, mask, correct.mean(axis=1, dtype=np.float64))
    return {"covariate": "accuracy of each model over all training examples", "gain": float(adjusted.gain)}
