"""Rows of memorization by group: mean scores and counts, written, restored and checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.memorization import GroupFloor, GroupMean, PrevalenceBounds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["mean_from_rows", "mean_to_row", "prevalence_from_rows", "prevalence_to_row"]

_NUMBERS, _PAIRS = ("n", "estimate", "df"), ("mean", "spread", "size")
_COUNTS, _SINGLE = ("n", "naive", "possible", "certain"), ("threshold", "upper_tail", "lower_tail")


def mean_to_row(found: GroupMean, g: int) -> dict[str, Any] | None:
    """The row of one group, JSON-ready.

    Args:
        found: The means.
        g: Number of the group.

    Returns:
        A mapping that ``mean_from_rows`` reads, or None for a group without estimable examples.
    """
    if not found.n[g] > 0:
        return None
    variance = float(found.variance[g])
    return {
        **{key: float(getattr(found, key)[g]) for key in _NUMBERS},
        "variance": variance if math.isfinite(variance) else None,
        **{key: getattr(found.floor, key)[:, g].tolist() for key in _PAIRS},
    }


def mean_from_rows(records: Sequence[Mapping[str, Any]]) -> GroupMean:
    """The means again, one entry a row.

    Args:
        records: What ``mean_to_row`` returned.

    Returns:
        The means.

    Raises:
        ArgumentError: A record lacks a figure, or holds one that is not finite.

    Example:
        >>> floor = GroupFloor(*(np.array([[x], [y]]) for x, y in ((1.0, 0.0), (0.0, 0.0), (25.0, 25.0))))
        >>> found = GroupMean(*(np.array([x]) for x in (1.0, 1.0, 0.0, 49.0)), floor)
        >>> again = mean_from_rows([mean_to_row(found, 0)])
        >>> bool(again.interval()[0][0] == found.interval()[0][0])
        True
    """
    for record in records:
        _check(record)
    unknown = float("nan")
    variances = [unknown if record["variance"] is None else record["variance"] for record in records]
    pairs = {key: np.array([record[key] for record in records], dtype=np.float64).reshape(-1, 2).T for key in _PAIRS}
    numbers = {key: np.array([record[key] for record in records], dtype=np.float64) for key in _NUMBERS}
    return GroupMean(
        n=numbers["n"],
        estimate=numbers["estimate"],
        variance=np.array(variances, dtype=np.float64),
        df=numbers["df"],
        floor=GroupFloor(pairs["mean"], pairs["spread"], pairs["size"]),
    )


def _check(record: Any) -> None:
    given = record if isinstance(record, dict) else {}
    for key in (*_NUMBERS, "variance", *_PAIRS):
        value = given.get(key)
        values = value if key in _PAIRS and isinstance(value, list) and len(value) == 2 else [value]
        if key == "variance" and value is None and key in given:
            continue
        if (key in _PAIRS) != (len(values) == 2) or not all(
            isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in values
        ):
            raise ArgumentError(f"record[{key!r}] must be finite, got {value!r}; write the report again.")
    mean = given["mean"][0] - given["mean"][1]
    if not math.isclose(given["estimate"], mean, rel_tol=1e-6, abs_tol=1e-6):
        raise ArgumentError(
            f"record['estimate'] is {given['estimate']:.6g}, and its arms come to {mean:.6g}; write the report again."
        )


def prevalence_to_row(found: PrevalenceBounds, g: int) -> dict[str, float] | None:
    """The row of one group, JSON-ready.

    Args:
        found: The counts.
        g: Number of the group.

    Returns:
        A mapping that ``prevalence_from_rows`` reads, or None for a group without estimable examples.
    """
    if not found.n[g] > 0:
        return None
    single = {key: getattr(found, key) for key in _SINGLE}
    return {key: float(single[key] if key in single else getattr(found, key)[g]) for key in (*_COUNTS, *_SINGLE)}


def prevalence_from_rows(records: Sequence[Mapping[str, Any]]) -> PrevalenceBounds:
    """The counts again, one entry a row.

    Args:
        records: What ``prevalence_to_row`` returned, of one threshold.

    Returns:
        The counts.

    Raises:
        ArgumentError: A record lacks a figure, or holds one that is not finite, or the records do not go together.

    Example:
        >>> record = dict.fromkeys(("n", "naive", "possible", "certain"), 5.0)
        >>> record |= {"threshold": 0.25, "upper_tail": 0.0025, "lower_tail": 0.0001}
        >>> prevalence_from_rows([record]).upper(0.05)
        array([1.])
    """
    for record in records:
        for key in (*_COUNTS, *_SINGLE):
            value = record.get(key) if isinstance(record, dict) else None
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise ArgumentError(f"record[{key!r}] must be finite, got {value!r}; write the report again.")
        if not 0 <= record["certain"] <= record["possible"] <= record["n"] or not 0 <= record["naive"] <= record["n"]:
            raise ArgumentError(f"record={record!r:.120} has counts that do not go together; write the report again.")
    columns = {key: np.array([record[key] for record in records], dtype=np.float64) for key in (*_COUNTS, *_SINGLE)}
    single = {key: set(columns[key].tolist()) for key in _SINGLE}
    if any(len(values) > 1 for values in single.values()):
        raise ArgumentError(
            f"records must have one threshold and one set of errors, got {single}; read them one by one."
        )
    threshold, upper_tail, lower_tail = (values.pop() if values else math.nan for values in single.values())
    return PrevalenceBounds(
        n=columns["n"],
        naive=columns["naive"],
        possible=columns["possible"],
        certain=columns["certain"],
        threshold=threshold,
        upper_tail=upper_tail,
        lower_tail=lower_tail,
    )
