"""Which predictions a treatment changes: the test of Hooker et al., PIE and taxicab exemplars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.impact import exemplars, hooker_test, taxicab_exemplars
from lightning_memaudit.functional.subgroups import by_group
from lightning_memaudit.record import Wanted
from lightning_memaudit.record.levels import LEVEL
from lightning_memaudit.record.pairs import paired_arm
from lightning_memaudit.record.partitions import LABEL
from lightning_memaudit.sections.entries import available, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray
    from lightning_memaudit.record import Block, Record
    from lightning_memaudit.record.pairs import PairedArm
    from lightning_memaudit.record.partitions import Partition

__all__ = ["VoteCount", "Votes", "describe_exemplars", "describe_hooker", "has_predictions", "votes_on"]

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
    return arm.base.largest_prediction >= 0


def votes_on(record: Record, arm: PairedArm) -> Votes:
    """The votes of the judged models of an arm and its base on every example."""
    votes: Votes = record.result(VoteCount(arm.name, arm.split))
    return votes


@dataclass(frozen=True, slots=True)
class VoteCount:
    """Counts the votes on every example block by block; a model without a prediction votes for "none".

    Attributes:
        arm: The treated arm.
        split: The split.
    """

    arm: str
    split: str

    @property
    def wants(self) -> tuple[Wanted, ...]:
        """Predictions of both arms."""
        return (Wanted(self.arm, self.split, ("prediction",), with_base=True),)

    def start(self, record: Record) -> _Counting:
        """Begin with the first example.

        Raises:
            MissingDataError: The arm has nothing to be compared with.
        """
        return _Counting(paired_arm(record, self.arm, self.split))


class _Counting:
    def __init__(self, arm: PairedArm) -> None:
        self.arm = arm
        n = arm.judged.shape[1]
        self.exemplar, self.tied = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self.taxicab, self.margin = np.full(n, np.nan), np.full(n, np.nan)
        self.modes = np.full((2, n), -1, dtype=np.int64)
        self.n_if_other_rule = 0
        self.n_labels = max(arm.base.largest_prediction, arm.treated.largest_prediction) + 2

    def consume(self, block: Block) -> None:
        """Count the votes on the examples of a block."""
        base, treated = (side.of_block(block, "prediction") for side in (self.arm.base, self.arm.treated))
        judged = self.arm.judged[:, block.columns]
        for rows, first, second in _complete_tables(judged, base, treated, max(1, _CELLS // self.n_labels)):
            seen = exemplars(first + 1, second + 1, n_labels=self.n_labels, tie="largest")
            there = rows + block.columns.start
            self.exemplar[there], self.tied[there] = seen.exemplar, seen.tied
            self.modes[:, there] = seen.base_mode - 1, seen.treated_mode - 1
            self.margin[there] = np.minimum(seen.base_margin, seen.treated_margin)
            self.taxicab[there] = taxicab_exemplars(first + 1, second + 1, n_labels=self.n_labels)
            self.n_if_other_rule += seen.n_if_other_rule

    def finish(self) -> Votes:
        """The votes on all examples."""
        judged = ~np.isnan(self.taxicab)
        return Votes(
            self.exemplar, self.taxicab, self.modes[0], self.modes[1], self.margin, self.tied, judged,
            self.n_if_other_rule,
        )  # fmt: skip


def describe_exemplars(record: Record, arm: PairedArm, divided: Mapping[str, Partition | None]) -> dict[str, Any]:
    """Exemplars: how many, by which tie rule, in which groups, and the clearest of them."""
    if not has_predictions(arm):
        return unavailable("an example has no single prediction (sequences, or a score function that gives none)")
    seen = votes_on(record, arm)
    order = np.lexsort((np.arange(len(seen.taxicab)), -np.nan_to_num(seen.margin), -np.nan_to_num(seen.taxicab)))
    top = [int(i) for i in order if seen.exemplar[i]][:_SHOWN]
    n_judged = int(seen.judged.sum())
    distance = seen.taxicab[seen.judged]
    return available(
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
        top=_top_rows(arm, seen, top),
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
    return available(n_models=arm.n_models, source="Hooker et al. 2019, arXiv 1911.05248", **forms)


def _complete_tables(
    judged: BoolArray, base: npt.NDArray[np.int32], treated: npt.NDArray[np.int32], most: int
) -> Iterator[tuple[IntArray, npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Examples with equally many judged models, and the predictions of just those, [models, examples]."""
    n_judged = judged.sum(axis=0)
    for size in np.unique(n_judged[n_judged > 0]).tolist():
        columns = np.flatnonzero(n_judged == size)
        for start in range(0, len(columns), most):
            rows = columns[start : start + most]
            chosen = np.argsort(~judged[:, rows], axis=0, kind="stable")[:size]
            first, second = (np.take_along_axis(side[:, rows], chosen, axis=0) for side in (base, treated))
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


def _top_rows(arm: PairedArm, seen: Votes, top: list[int]) -> list[dict[str, Any]]:
    columns = np.array(top, dtype=np.int64)
    sides = [scores.values("prediction", columns) for scores in (arm.base, arm.treated)]
    return [_top_row(arm, seen, i, [side[arm.judged[:, i], place] for side in sides]) for place, i in enumerate(top)]


def _top_row(arm: PairedArm, seen: Votes, i: int, ballots: list[npt.NDArray[np.int32]]) -> dict[str, Any]:
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
