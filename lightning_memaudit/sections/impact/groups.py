"""Drops of one arm by group, with what would decide the undecided, and who pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from lightning_memaudit.functional.impact import accuracy_drop, decision_size, value_drop
from lightning_memaudit.functional.subgroups import by_group, difference, intersection, worst_group
from lightning_memaudit.functional.uncertainty import adjust_p_values, example_means
from lightning_memaudit.record.estimates import DROP, EXCESS, Needed
from lightning_memaudit.record.levels import LEVEL, POWER
from lightning_memaudit.record.partitions import LABEL, whole
from lightning_memaudit.sections.entries import available, unavailable
from lightning_memaudit.sections.numbers import ENGLISH
from lightning_memaudit.sections.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from lightning_memaudit.functional.impact import DropResult
    from lightning_memaudit.record.pairs import PairedArm
    from lightning_memaudit.record.partitions import Partition

__all__ = [
    "describe_groups",
    "describe_labels",
    "describe_overall",
    "drop_row",
    "statistics",
    "who_pays",
]

_LONGEST_NAME = 60


def describe_overall(arm: PairedArm) -> dict[str, Any]:
    """Accuracy of both arms over the whole split."""
    rows, _ = _rows(arm, {"overall": whole(arm.judged.shape[1])})
    return rows["overall"][0]


def describe_groups(arm: PairedArm, divided: Mapping[str, Partition | None]) -> dict[str, Any]:
    """Every grouping: a row for each group, the worst group and the gap before and after.

    p-values are adjusted over all groups with examples of all groupings together.
    """
    known = {name: partition for name, partition in divided.items() if partition is not None}
    rows, drops = _rows(arm, known)
    described: dict[str, Any] = {}
    for name, partition in divided.items():
        if partition is None:
            described[name] = unavailable(f"split {arm.split!r} has no grouping {name!r}; pass its values too")
            continue
        n_filled = int((drops[name].n > 0).sum())
        described[name] = available(
            n_groups=len(partition.names),
            n_groups_with_examples=n_filled,
            is_overall=n_filled == 1,
            worst={side: _worst(drops[name], side, partition.names) for side in ("base", "treated")},
            gap={side: difference(getattr(drops[name], side)) for side in ("base", "treated")},
            rows=rows[name],
        )
    return described


def describe_labels(arm: PairedArm, divided: Mapping[str, Partition | None]) -> dict[str, Any]:
    """Recall of each label within each group; cells without examples are counted, not listed."""
    described: dict[str, Any] = {}
    labels, outcomes = divided.get(LABEL), arm.outcomes()
    for name, partition in divided.items():
        if labels is None:
            described[name] = unavailable("the examples have no class labels")
        elif partition is None:
            described[name] = unavailable(f"split {arm.split!r} has no grouping {name!r}")
        elif name == LABEL:
            described[name] = unavailable("within a label accuracy is its recall: see the rows by label")
        else:
            n_labels, n_groups = len(labels.names), len(partition.names)
            codes = intersection(partition.codes, labels.codes, n_labels=n_labels)
            drop = accuracy_drop(*outcomes, codes, paired=True, level=LEVEL, n_groups=n_groups * n_labels)
            cells = np.flatnonzero(drop.n)
            described[name] = available(
                n_empty_cells=n_groups * n_labels - len(cells),
                rows=[
                    {"group": partition.names[cell // n_labels], "label": labels.names[cell % n_labels]}
                    | drop_row(drop, cell)
                    for cell in cells.tolist()
                ],
            )
    return described


def drop_row(drop: DropResult, g: int) -> dict[str, Any]:
    """Size, accuracies and drop of one group, and whether it costs or gains."""
    return {
        "n": int(drop.n[g]),
        "n_missing": int(drop.n_missing[g]),
        "base": float(drop.base[g]),
        "treated": float(drop.treated[g]),
        "drop": float(drop.drop[g]),
        "low": float(drop.low[g]),
        "high": float(drop.high[g]),
        "method": drop.method[g],
        "covers_models": bool(drop.covers_models[g]),
        "verdict": _verdict(drop, g),
    }


def statistics(drop: DropResult, g: int) -> dict[str, Any]:
    """What bounds and p-values of a group need at any level and margin; None where there is no interval."""
    return {"drop": DROP.to_row(drop.two_way, g), "excess": EXCESS.to_row(drop.against_rest, g)}


def who_pays(
    arm: PairedArm, overall: Mapping[str, Any], groups: Mapping[str, Any], divided: Mapping[str, Any]
) -> dict[str, Any]:
    """The group with the largest excess drop whose interval excludes 0, or why it cannot be said.

    Args:
        arm: The arm.
        overall: What ``describe_overall`` found.
        groups: What ``describe_groups`` found.
        divided: The groupings.
    """
    candidates = [
        (name, row)
        for name, entry in groups.items()
        if entry["status"] == "ok" and not entry["is_overall"]
        for row in entry["rows"]
        if np.isfinite(row["excess"])
    ]
    if not candidates:
        return unavailable("no grouping has two groups with examples") | {
            "sentence": f"{arm.name}: who pays cannot be said, since no grouping has two groups with examples."
        }
    clear = [pair for pair in candidates if pair[1]["excess_low"] > 0]
    name, row = max(clear or candidates, key=lambda pair: pair[1]["excess"])
    drop, whole = ([part["low"], part["high"]] for part in (row, overall))
    excess = [row["excess_low"], row["excess_high"]]
    numbers = (
        f"accuracy drop {ENGLISH.points(row['drop'], within=drop)} points against "
        f"{ENGLISH.points(overall['drop'], within=whole)} overall (excess "
        f"{ENGLISH.points(row['excess'], within=excess)}, {100 * LEVEL:.0f} % interval "
        f"{ENGLISH.span(excess)}; {row['n']} examples, {arm.n_models} "
        f"pair{'s' if arm.n_models > 1 else ''} of models{'' if arm.n_models > 1 else ', seed variance not covered'})"
    )
    who = f"{one_line(name, _LONGEST_NAME)} = {one_line(row['group'], _LONGEST_NAME)}"
    shown = ("group", "n", "drop", "excess", "excess_low", "excess_high")
    fields = {"grouping": name, **{key: row[key] for key in shown}, "n_groups_compared": len(candidates)}
    if clear:
        holds = _survives(arm, divided[name], row["group"], len(candidates))
        tail = (
            f"this stands when all {len(candidates)} groups looked at are allowed for (Bonferroni)"
            if holds
            else f"with {len(candidates)} groups looked at this may be chance (Bonferroni)"
        )
        sentence = f"{arm.name}: {who} pays most: {numbers}; {tail}."
        return available(decided=True, stands_corrected=holds, factor_needed=1.0, sentence=sentence, **fields)
    factor = _factor(row)
    more = Needed(factor=factor).words()
    if arm.n_models == 1:
        more = "train more than one pair of models, which says how models differ"
    sentence = (
        f"{arm.name}: who pays cannot be said: no group's excess drop has an interval above 0. The largest is that of "
        f"{who}: {numbers}; {more}."
    )
    return available(decided=False, stands_corrected=False, factor_needed=factor, sentence=sentence, **fields)


def _rows(
    arm: PairedArm, divided: Mapping[str, Partition]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, DropResult]]:
    outcomes = arm.outcomes()
    known = _finite_losses(arm)
    drops = {
        name: accuracy_drop(*outcomes, part.codes, paired=True, level=LEVEL, n_groups=len(part.names))
        for name, part in divided.items()
    }
    raw = {name: drop.p_value() for name, drop in drops.items()}
    tested = {name: ~np.isnan(p) for name, p in raw.items()}
    pooled = np.concatenate([np.empty(0), *(raw[name][tested[name]] for name in drops)])
    adjusted = {method: iter(adjust_p_values(pooled, method=method)) for method in ("holm", "bh")}
    rows = {}
    for name, drop in drops.items():
        sizes, losses = decision_size(drop, power=POWER), _losses(arm, *known, divided[name])
        rows[name] = [
            {
                "group": group,
                **drop_row(drop, g),
                **{
                    key: float(getattr(drop, key)[g])
                    for key in (
                        "excess",
                        "excess_low",
                        "excess_high",
                        "relative",
                        "relative_low",
                        "relative_high",
                    )
                },
                "p": float(raw[name][g]),
                **{f"p_{method}": float(next(p)) if tested[name][g] else None for method, p in adjusted.items()},
                **{
                    key: None if sizes.decided[g] else float(getattr(sizes, key)[g])
                    for key in ("n_needed", "models_needed", "factor_needed")
                },
                "loss": {key: float(values[g]) for key, values in losses.items()},
                "statistics": statistics(drop, g),
            }
            for g, group in enumerate(divided[name].names)
        ]
    return rows, drops


def _finite_losses(arm: PairedArm) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Losses of both arms, NaN in the cells that are not finite in one of them, and which cells these are not."""
    base, treated = arm.base.loss, arm.treated.loss
    finite = arm.judged & np.isfinite(base) & np.isfinite(treated)
    return np.where(finite, base, np.nan), np.where(finite, treated, np.nan), finite


def _losses(
    arm: PairedArm,
    base: npt.NDArray[np.float32],
    treated: npt.NDArray[np.float32],
    finite: npt.NDArray[np.bool_],
    partition: Partition,
) -> dict[str, Any]:
    """Mean loss of both arms and its rise; no interval with one model. Cells that are not finite in an arm are out."""
    total = len(partition.names)
    n_left_out = by_group(arm.judged.sum(axis=0) - finite.sum(axis=0), partition.codes, n_groups=total)
    n_left_out = np.nan_to_num(n_left_out) * np.bincount(partition.codes, minlength=total)
    if arm.n_models > 1:
        rise = value_drop(treated, base, partition.codes, paired=True, level=LEVEL, n_groups=total)
        return {
            "base": rise.treated,
            "treated": rise.base,
            "rise": rise.drop,
            "low": rise.low,
            "high": rise.high,
            "n_cells_not_finite": n_left_out,
        }
    means = [example_means(x) for x in (base, treated)]
    there = ~np.isnan(means[0])
    first, second = (by_group(x[there], partition.codes[there], n_groups=total) for x in means)
    none = np.full(total, np.nan)
    return {
        "base": first,
        "treated": second,
        "rise": second - first,
        "low": none,
        "high": none,
        "n_cells_not_finite": n_left_out,
    }


def _verdict(drop: DropResult, g: int) -> str:
    if not drop.n[g]:
        return "no examples"
    if drop.low[g] > 0:
        return "costs"
    return "gains" if drop.high[g] < 0 else "undecided"


def _worst(drop: DropResult, side: str, names: Sequence[str]) -> dict[str, Any]:
    values = getattr(drop, side)
    lowest = worst_group(values)
    if np.isnan(lowest):
        return {"group": None, "n": 0, "accuracy": lowest}
    g = int(np.nanargmin(values))
    return {"group": names[g], "n": int(drop.n[g]), "accuracy": lowest}


def _survives(arm: PairedArm, partition: Partition, group: str, n_compared: int) -> bool:
    level = 1 - (1 - LEVEL) / n_compared
    drop = accuracy_drop(*arm.outcomes(), partition.codes, paired=True, level=level, n_groups=len(partition.names))
    return bool(drop.excess_low[partition.names.index(group)] > 0)


def _factor(row: Mapping[str, Any]) -> float:
    """How many times as many examples and models would bring the lower end above 0, if the excess is what it seems."""
    if not row["excess"] > 0 or not np.isfinite(row["excess_low"]):
        return float("inf")
    quantile = stats.norm.ppf(0.5 + LEVEL / 2)
    reach = (row["excess"] - row["excess_low"]) * (1 + stats.norm.ppf(POWER) / quantile)
    return float(max((reach / row["excess"]) ** 2, 1.0))
