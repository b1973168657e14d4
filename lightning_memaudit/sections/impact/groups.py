"""Drops of one arm by group, with what would decide the undecided, and who pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from lightning_memaudit.functional.impact import accuracy_drop, decision_size, value_drop
from lightning_memaudit.functional.subgroups import by_group, difference, intersection, worst_group
from lightning_memaudit.functional.uncertainty import adjust_p_values, example_means, excess_record, two_way_record
from lightning_memaudit.sections.entries import found, unavailable
from lightning_memaudit.sections.numbers import ENGLISH
from lightning_memaudit.sections.text import one_line, times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_memaudit.functional.checks import IntArray
    from lightning_memaudit.functional.impact import DropResult
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.sections.impact.arms import PairedArm

__all__ = [
    "LEVEL",
    "Partition",
    "describe_groups",
    "describe_labels",
    "describe_overall",
    "drop_row",
    "partitions",
    "statistics",
    "who_pays",
]

LEVEL = 0.95
LABEL = "label"
_POWER = 0.8
_LONGEST_NAME = 60
_PRACTICAL = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class Partition:
    """A division of a split into groups, those without examples included.

    Attributes:
        codes: Group of each example, int64[n].
        names: Name of each group, by code.
    """

    codes: IntArray
    names: tuple[str, ...]


def partitions(examples: Examples, others: Sequence[Examples]) -> dict[str, Partition | None]:
    """The labels, under the name ``label``, and every grouping, each with the groups that only other splits have.

    Args:
        examples: Those of the split.
        others: Those of the other splits.

    Returns:
        By name; None for a grouping that the split lacks.

    Example:
        >>> from lightning_memaudit.outcomes.examples import Examples
        >>> known = partitions(Examples(2, np.array([0, 2])), [Examples(1, np.array([1]))])
        >>> known["label"].names, known["label"].codes
        (('0', '2', '1'), array([0, 1]))
    """
    divided: dict[str, Partition | None] = {}
    labelled = [part for part in (examples, *others) if part.labels is not None and not (part.labels < 0).all()]
    if labelled and labelled[0] is examples:
        assert examples.labels is not None  # noqa: S101
        values, codes = np.unique(examples.labels, return_inverse=True)
        names = map(str, values)
        rest = np.unique(np.concatenate([part.labels for part in labelled if part.labels is not None]))
        divided[LABEL] = Partition(codes, tuple(dict.fromkeys([*names, *map(str, rest)])))
    for part in (examples, *others):
        for name in part.groups:
            own = examples.groups.get(name)
            if own is None:
                divided.setdefault(name, None)
                continue
            known = [part.groups[name].names for part in (examples, *others) if name in part.groups]
            groups = Partition(own.codes, tuple(dict.fromkeys(group for names in known for group in names)))
            labels = divided.get(LABEL)
            if name != LABEL or labels is None:
                divided[name] = groups
            elif not np.array_equal(labels.codes, groups.codes):
                divided[f"group_{LABEL}"] = groups
    return divided


def describe_overall(arm: PairedArm) -> dict[str, Any]:
    """Accuracy of both arms over the whole split."""
    whole = Partition(np.zeros(arm.judged.shape[1], dtype=np.int64), ("all",))
    rows, _ = _rows(arm, {"overall": whole})
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
        described[name] = found(
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
    labels = divided.get(LABEL)
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
            drop = accuracy_drop(*arm.outcomes(), codes, paired=True, level=LEVEL, n_groups=n_groups * n_labels)
            cells = np.flatnonzero(drop.n)
            described[name] = found(
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
    return {"drop": two_way_record(drop.two_way, g), "excess": excess_record(drop.against_rest, g)}


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
        return found(decided=True, stands_corrected=holds, factor_needed=1.0, sentence=sentence, **fields)
    factor = _factor(row)
    more = "no practical number of examples and models would"
    if arm.n_models == 1:
        more = "train more than one pair of models, which"
    elif factor <= _PRACTICAL:
        more = f"about {times(factor)} as many examples and models would"
    sentence = (
        f"{arm.name}: who pays cannot be said: no group's excess drop has an interval above 0. The largest is that of "
        f"{who}: {numbers}; {more} {'says how models differ' if arm.n_models == 1 else 'decide it'}."
    )
    return found(decided=False, stands_corrected=False, factor_needed=factor, sentence=sentence, **fields)


def _rows(
    arm: PairedArm, divided: Mapping[str, Partition]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, DropResult]]:
    drops = {
        name: accuracy_drop(*arm.outcomes(), part.codes, paired=True, level=LEVEL, n_groups=len(part.names))
        for name, part in divided.items()
    }
    raw = {name: drop.p_value() for name, drop in drops.items()}
    tested = {name: ~np.isnan(p) for name, p in raw.items()}
    pooled = np.concatenate([np.empty(0), *(raw[name][tested[name]] for name in drops)])
    adjusted = {method: iter(adjust_p_values(pooled, method=method)) for method in ("holm", "bh")}
    rows = {}
    for name, drop in drops.items():
        sizes, losses = decision_size(drop, power=_POWER), _losses(arm, divided[name])
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


def _losses(arm: PairedArm, partition: Partition) -> dict[str, Any]:
    """Mean loss of both arms and its rise; no interval with one model. Cells that are not finite in an arm are out."""
    total = len(partition.names)
    finite = arm.judged & np.isfinite(arm.base.loss) & np.isfinite(arm.treated.loss)
    base, treated = (np.where(finite, scores.loss, np.nan) for scores in (arm.base, arm.treated))
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
    reach = (row["excess"] - row["excess_low"]) * (1 + stats.norm.ppf(_POWER) / quantile)
    return float(max((reach / row["excess"]) ** 2, 1.0))
