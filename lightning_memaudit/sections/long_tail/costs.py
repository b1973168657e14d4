"""The cost of a treatment that its misfits on rare subpopulations announce, beside the one that was measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from lightning_memaudit.data.groups_values import LABEL
from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.impact import accuracy_drop
from lightning_memaudit.functional.long_tail import tail_cost
from lightning_memaudit.outcomes.arms import FULL
from lightning_memaudit.record.levels import LEVEL
from lightning_memaudit.record.pairs import choose_split, paired_arm
from lightning_memaudit.sections.entries import available, unavailable
from lightning_memaudit.sections.numbers import ENGLISH

if TYPE_CHECKING:
    from lightning_memaudit.data.groups_values import Grouping
    from lightning_memaudit.functional.checks import IntArray
    from lightning_memaudit.functional.long_tail import TailCost
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.record import Record

__all__ = ["ELL_MAX", "describe_costs"]

ELL_MAX = 5
_SHIFTED_BELOW = 0.001  # p-value
_PARTS = ("head", "torso", "tail")


def describe_costs(record: Record, arm: str, grouping: str, atoms: Grouping, parts: IntArray) -> dict[str, Any]:
    """Predicted and measured cost of one arm, in total and by head, torso and tail.

    Args:
        record: The record.
        arm: The treated arm.
        grouping: Name of the grouping of subpopulations.
        atoms: The subpopulations of the training examples.
        parts: Part of each subpopulation.
    """
    if arm.startswith(FULL):
        return unavailable(
            "the arm was trained on all data: how alike seen and unseen members of a subpopulation are answered is "
            "measured on subsets"
        )
    split, kind = choose_split(record.splits)
    if split == "train":
        return unavailable("the store has no test or validation split on which a cost could be measured")
    try:
        train, test = paired_arm(record, arm, "train"), paired_arm(record, arm, split)
    except MissingDataError as missing:
        return unavailable(str(missing))
    if not train.base.is_binary:
        return unavailable("outcomes are shares of tokens, and the theory counts examples that are missed")
    n_parts = int(parts.max()) + 1
    predicted = tail_cost(
        train.base.correct,
        train.treated.correct,
        ~train.judged,
        atoms.codes,
        prediction=train.treated.prediction,
        parts=parts[: int(atoms.codes.max()) + 1],
        ell_max=ELL_MAX,
        level=LEVEL,
    )
    everything = np.zeros(test.judged.shape[1], dtype=np.int64)
    outcomes = test.outcomes()
    whole = accuracy_drop(*outcomes, everything, paired=True, level=LEVEL, n_groups=1)
    measured = (whole.drop[0], whole.low[0], whole.high[0])
    total = _row("all", (predicted.total.cost, predicted.total.low, predicted.total.high), measured)
    own = _of_test(record.examples(split), grouping, atoms, parts)
    rows = [] if own is None else _by_part(outcomes, own, predicted, n_parts)
    rare = predicted.points.sum()
    return available(
        split={"name": split, "kind": kind, "n": test.judged.shape[1]},
        n_models=train.n_models,
        ell_max=ELL_MAX,
        coupling=predicted.coupling,
        rare=asdict(predicted.rare),
        rest=predicted.rest,
        n_rare=float(rare),
        by_ell=[
            {"ell": int(ell), "tau": tau, "points": points, "misfits": misfits}
            for ell, tau, points, misfits in zip(
                predicted.ell, predicted.tau, predicted.points, predicted.misfits, strict=True
            )
        ],
        total=total,
        parts=rows,
        shift=None if own is None else _shift(parts[atoms.codes], own, split),
        sentence=f"{(short := _comparison(arm, total))}. {_share(predicted, rare)}.",
        comparison=f"{short}.",
    )


def _of_test(examples: Examples, grouping: str, atoms: Grouping, parts: IntArray) -> IntArray | None:
    """Part of each test example, by the counts of its subpopulation in training; what training lacks is in the tail."""
    if grouping in examples.groups:
        names = examples.groups[grouping].names
        codes = examples.groups[grouping].codes
    elif grouping == LABEL and examples.labels is not None:
        values, codes = np.unique(examples.labels, return_inverse=True)
        names = tuple(map(str, values))
    else:
        return None
    part_of = {name: int(part) for name, part in zip(atoms.names, parts, strict=True)}
    return np.array([part_of.get(name, 2) for name in names], dtype=np.int64)[codes]


def _shift(train: IntArray, held_out: IntArray, split: str) -> str | None:
    """What must be said where the split has another share of head, torso and tail than training has."""
    tables = [np.bincount(own, minlength=4)[:3] for own in (train, held_out)]
    there = tables[0] + tables[1] > 0
    if there.sum() < 2 or stats.chi2_contingency(np.stack(tables)[:, there]).pvalue > _SHIFTED_BELOW:
        return None
    shares = [[f"{100 * count / max(table.sum(), 1):.1f}" for count in table] for table in tables]
    return (
        f"Head, torso and tail hold {' / '.join(shares[0])} % of the training examples and {' / '.join(shares[1])} % "
        f"of split {split!r}: the theory takes both to be drawn alike, so that a difference from its prediction may "
        "come from that"
    )


def _by_part(outcomes: tuple[Any, Any], own: IntArray, predicted: TailCost, n_parts: int) -> list[dict[str, Any]]:
    """What each part adds to the cost over all examples."""
    measured = accuracy_drop(*outcomes, own, paired=True, level=LEVEL, n_groups=max(n_parts, 3))
    rows = []
    for code, name in enumerate(_PARTS):
        share = float((own == code).mean())
        if code >= n_parts or not share:
            continue
        of_part = tuple(float(getattr(predicted.by_part, key)[code]) for key in ("cost", "low", "high"))
        drop = tuple(share * float(getattr(measured, key)[code]) for key in ("drop", "low", "high"))
        rows.append(_row(name, of_part, drop) | {"share": share, "drop": float(measured.drop[code])})
    return rows


def _row(part: str, predicted: tuple[Any, ...], measured: tuple[Any, ...]) -> dict[str, Any]:
    """Both costs, and whether their difference is within its interval, the two being taken as independent."""
    ours, theirs = (tuple(float(value) for value in side) for side in (predicted, measured))
    gap = theirs[0] - ours[0]
    down = ((theirs[0] - theirs[1]) ** 2 + (ours[2] - ours[0]) ** 2) ** 0.5
    up = ((theirs[2] - theirs[0]) ** 2 + (ours[0] - ours[1]) ** 2) ** 0.5
    verdict = "unknown"
    if np.isfinite([gap, down, up]).all():
        verdict = "agree" if gap - down <= 0 <= gap + up else "measured more" if gap > 0 else "measured less"
    return {
        "part": part,
        "predicted": ours[0],
        "predicted_low": ours[1],
        "predicted_high": ours[2],
        "measured": theirs[0],
        "measured_low": theirs[1],
        "measured_high": theirs[2],
        "gap": gap,
        "gap_low": gap - down,
        "gap_high": gap + up,
        "verdict": verdict,
    }


def _comparison(arm: str, total: dict[str, Any]) -> str:
    """Whether prediction and measurement agree."""
    ends = [[total[f"{side}_low"], total[f"{side}_high"]] for side in ("predicted", "measured")]
    says = {
        "agree": "they agree within their intervals",
        "measured more": "more was lost than the misfits on the training subsets announce",
        "measured less": "less was lost than the misfits on the training subsets announce",
        "unknown": "whether they agree cannot be said with one pair of models",
    }[total["verdict"]]
    return (
        f"{arm}: predicted {ENGLISH.points(total['predicted'], within=ends[0])} points ({ENGLISH.span(ends[0])}), "
        f"measured {ENGLISH.points(total['measured'], within=ends[1])} ({ENGLISH.span(ends[1])}): {says}"
    )


def _share(predicted: TailCost, rare: float) -> str:
    """How much of the prediction is the theory's."""
    if not rare:
        return (
            f"No subpopulation is seen {ELL_MAX} times or less, so that all of it is the drop of the training "
            "accuracy, and agreement says nothing about the theory"
        )
    return (
        f"Of the prediction {ENGLISH.points(predicted.rare.cost)} come from subpopulations seen {ELL_MAX} times or "
        f"less (λ = {predicted.coupling:.2f}); the other {ENGLISH.points(predicted.rest)} are the drop of the training "
        "accuracy, where agreement says nothing about the theory"
    )
