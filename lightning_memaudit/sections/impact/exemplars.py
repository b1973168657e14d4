"""Which predictions a treatment changes: the test of Hooker et al., PIE and taxicab exemplars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.impact import exemplars, hooker_test, taxicab_exemplars
from lightning_memaudit.functional.subgroups import by_group
from lightning_memaudit.sections.entries import found, unavailable
from lightning_memaudit.sections.impact.groups import LABEL, LEVEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray
    from lightning_memaudit.sections.impact.arms import PairedArm
    from lightning_memaudit.sections.impact.groups import Partition

__all__ = ["Votes", "describe_exemplars", "describe_hooker", "has_predictions", "votes"]

_SHOWN = 20
_CELLS = 4_000_000  # examples × labels that are counted at once
_TIE = "largest"


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Majority predictions of both arms; one entry an example, and nothing is said where no model is judged.

    Attributes:
        exemplar: Whether the majorities differ, bool[n].
        taxicab: Distance of the two arms' predicted label frequencies, float64[n] in [0, 2].
        base_mode: Majority prediction of the base arm, −1 for "no prediction", int64[n].
        treated_mode: The same for the treated arm.
        margin: The smaller of the two arms' vote margins, float64[n].
        tied: Whether the tie rule decided, bool[n].
        judged: Examples with a judged model, bool[n].
        n_if_other_rule: Exemplars if ties went to the smallest label.
    """

    exemplar: BoolArray
    taxicab: FloatArray
    base_mode: IntArray
    treated_mode: IntArray
    margin: FloatArray
    tied: BoolArray
    judged: BoolArray
    n_if_other_rule: int


def has_predictions(arm: PairedArm) -> bool:
    """Whether examples have a single prediction each."""
    return bool((arm.base.prediction >= 0).any())


def votes(arm: PairedArm) -> Votes:
    """Count the votes of the judged models on every example; a model without a prediction votes for "none"."""
    n = arm.judged.shape[1]
    exemplar, tied = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    taxicab, margin = np.full(n, np.nan), np.full(n, np.nan)
    modes = np.full((2, n), -1, dtype=np.int64)
    n_labels = int(max(arm.base.prediction.max(), arm.treated.prediction.max())) + 2
    other = 0
    for rows, first, second in _complete_tables(arm, max(1, _CELLS // n_labels)):
        seen = exemplars(first + 1, second + 1, n_labels=n_labels, tie="largest")
        exemplar[rows], tied[rows] = seen.exemplar, seen.tied
        modes[:, rows] = seen.base_mode - 1, seen.treated_mode - 1
        margin[rows] = np.minimum(seen.base_margin, seen.treated_margin)
        taxicab[rows] = taxicab_exemplars(first + 1, second + 1, n_labels=n_labels)
        other += seen.n_if_other_rule
    return Votes(exemplar, taxicab, modes[0], modes[1], margin, tied, ~np.isnan(taxicab), other)


def describe_exemplars(arm: PairedArm, divided: Mapping[str, Partition | None]) -> dict[str, Any]:
    """Exemplars: how many, by which tie rule, in which groups, and the clearest of them."""
    if not has_predictions(arm):
        return unavailable("an example has no single prediction (sequences, or a score function that gives none)")
    seen = votes(arm)
    order = np.lexsort((np.arange(len(seen.taxicab)), -np.nan_to_num(seen.margin), -np.nan_to_num(seen.taxicab)))
    top = [int(i) for i in order if seen.exemplar[i]][:_SHOWN]
    n_judged = int(seen.judged.sum())
    distance = seen.taxicab[seen.judged]
    return found(
        n=n_judged,
        n_without_model=len(seen.judged) - n_judged,
        n_models=arm.n_models,
        tie_rule=_TIE,
        n_exemplars=int(seen.exemplar.sum()),
        share=float(seen.exemplar.sum() / n_judged),
        n_if_smallest=seen.n_if_other_rule,
        n_tied=int(seen.tied.sum()),
        n_exemplars_tied=int((seen.exemplar & seen.tied).sum()),
        mean_margin=float(seen.margin[seen.exemplar].mean()) if seen.exemplar.any() else None,
        taxicab={
            "n_changed": int((distance > 0).sum()),
            "mean": float(distance.mean()),
            "quantiles": {str(q): float(np.quantile(distance, q)) for q in (0.5, 0.9, 0.99)},
        },
        by_group={name: _by_group(seen, partition) for name, partition in divided.items() if partition is not None},
        top=[_top_row(arm, seen, i) for i in top],
    )


def describe_hooker(arm: PairedArm, divided: Mapping[str, Partition | None]) -> dict[str, Any]:
    """Welch's test of each label's change beside that of the whole model, in both forms."""
    labels = divided.get(LABEL)
    if labels is None:
        return unavailable("the examples have no class labels")
    if arm.n_models < 2:
        return unavailable("one model an arm: the test is over models and needs at least 2")
    first, second = arm.outcomes()
    if any(x.dtype.kind == "f" and np.isnan(x).any() for x in (first, second)):
        return unavailable("models are judged on different examples, and the test compares them on the same ones")
    forms = {}
    for shift in ("per_model", "population_mean"):
        test = hooker_test(first, second, labels.codes, shift=shift, level=LEVEL, n_groups=len(labels.names))
        forms[shift] = [
            {"label": label, "n": int(test.n[g])}
            | {
                key: float(getattr(test, key)[g])
                for key in ("drop", "relative_drop", "low", "high", "t", "df", "p", "p_holm", "p_bh")
            }
            for g, label in enumerate(labels.names)
        ]
    return found(n_models=arm.n_models, source="Hooker et al. 2019, arXiv 1911.05248", **forms)


def _complete_tables(
    arm: PairedArm, most: int
) -> Iterator[tuple[IntArray, npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Examples with equally many judged models, and the predictions of just those, [models, examples]."""
    n_judged = arm.judged.sum(axis=0)
    for size in np.unique(n_judged[n_judged > 0]).tolist():
        columns = np.flatnonzero(n_judged == size)
        for start in range(0, len(columns), most):
            rows = columns[start : start + most]
            chosen = np.argsort(~arm.judged[:, rows], axis=0, kind="stable")[:size]
            first, second = (
                np.take_along_axis(scores.prediction[:, rows], chosen, axis=0) for scores in (arm.base, arm.treated)
            )
            yield rows, first, second


def _by_group(seen: Votes, partition: Partition) -> list[dict[str, Any]]:
    total, codes = len(partition.names), partition.codes[seen.judged]
    n = np.bincount(codes, minlength=total)
    share = by_group(seen.exemplar[seen.judged], codes, n_groups=total)
    return [
        {
            "group": name,
            "n": int(n[g]),
            "n_exemplars": round(float(np.nan_to_num(share[g])) * int(n[g])),
            "share": float(share[g]),
        }
        for g, name in enumerate(partition.names)
    ]


def _top_row(arm: PairedArm, seen: Votes, i: int) -> dict[str, Any]:
    ballots = [scores.prediction[arm.judged[:, i], i] for scores in (arm.base, arm.treated)]
    base_votes, treated_votes = (
        {str(label): int(count) for label, count in zip(*np.unique(ballot, return_counts=True), strict=True)}
        for ballot in ballots
    )
    return {
        "index": i,
        "label": None if arm.labels is None else int(arm.labels[i]),
        "base": int(seen.base_mode[i]),
        "treated": int(seen.treated_mode[i]),
        "base_votes": base_votes,
        "treated_votes": treated_votes,
        "margin": float(seen.margin[i]),
        "taxicab": float(seen.taxicab[i]),
        "tied": bool(seen.tied[i]),
    }
