"""Rows of two-way estimates: what any bound and any p-value needs later, written, restored and checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.uncertainty import Excess, Flips, TwoWay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning_memaudit.functional.checks import FloatArray

__all__ = ["contrast_from_rows", "contrast_to_row", "two_way_from_rows", "two_way_to_row"]

_NUMBERS = ("n", "estimate", "example_variance", "skewness", "lost", "gained", "squares", "scale")
_DRAWS = ("between", "within", "models_df")
_FLAGS = ("score", "covers_models")


def two_way_to_row(found: TwoWay, g: int) -> dict[str, Any] | None:
    """The row of one group, JSON-ready; infinite degrees of freedom (a single model) are ``None``.

    Args:
        found: The estimate.
        g: Number of the group.

    Returns:
        A mapping that ``two_way_from_rows`` reads, or None for a group without examples.

    Example:
        >>> from lightning_memaudit.functional.uncertainty import two_way
        >>> found = two_way([np.ones((3, 50)), np.ones((4, 50))], (1, -1), np.zeros(50, dtype=int), n_groups=1)
        >>> record = two_way_to_row(found, 0)
        >>> again = two_way_from_rows([record])
        >>> bool(again.interval()[1][0] == found.interval()[1][0])
        True
    """
    if not found.n[g] > 0:
        return None
    of_flips = {key: float(getattr(found.flips, key)[g]) for key in ("lost", "gained", "squares")}
    record: dict[str, Any] = {
        "n": float(found.n[g]),
        "estimate": float(found.estimate[g]),
        "example_variance": float(found.example_variance[g]),
        "between": found.between[:, g].tolist(),
        "within": found.within[:, g].tolist(),
        "models_df": [df if math.isfinite(df) else None for df in found.models_df[:, g].tolist()],
        "score": bool(found.score[g]),
        "skewness": float(found.skewness[g]),
        "covers_models": bool(found.covers_models[g]),
        "scale": found.scale,
    }
    return record | of_flips


def two_way_from_rows(records: Sequence[Mapping[str, Any]]) -> TwoWay:
    """The estimate again, one entry a row.

    Args:
        records: What ``two_way_to_row`` returned, of estimates with one ``scale``.

    Returns:
        The estimate.

    Raises:
        ArgumentError: A record lacks a figure, or holds one that is not finite or of the wrong type.
    """
    for record in records:
        _check(record)
    n_draws = max((len(record["between"]) for record in records), default=1)
    # A draw that a group lacks is like one of a single model: no spread, and no limit to its degrees of freedom.
    shape = (n_draws, len(records))
    draws: dict[str, FloatArray] = {
        key: np.full(shape, fill) for key, fill in zip(_DRAWS, (0.0, 0.0, np.inf), strict=True)
    }
    for g, record in enumerate(records):
        for key, values in draws.items():
            given = [np.inf if value is None else value for value in record[key]]
            values[: len(given), g] = given
    numbers = {key: np.array([record[key] for record in records], dtype=np.float64) for key in _NUMBERS}
    scales = set(numbers["scale"].tolist())
    if len(scales) > 1:
        raise ArgumentError(f"records must have one scale, got {sorted(scales)}; read them one by one.")
    unknown: FloatArray = np.full(len(records), np.nan)
    return TwoWay(
        n=numbers["n"],
        estimate=numbers["estimate"],
        example_variance=numbers["example_variance"],
        between=draws["between"],
        within=draws["within"],
        models_df=draws["models_df"],
        score=np.array([record["score"] for record in records], dtype=np.bool_),
        covers_models=np.array([record["covers_models"] for record in records], dtype=np.bool_),
        skewness=numbers["skewness"],
        flips=Flips(
            n=numbers["n"],
            shifted=unknown,
            spread=unknown,
            third=unknown,
            lost=numbers["lost"],
            gained=numbers["gained"],
            squares=numbers["squares"],
        ),
        scale=scales.pop() if scales else 1.0,
    )


def contrast_to_row(found: Excess[TwoWay], g: int) -> dict[str, Any] | None:
    """The row of one group's contrast with the whole, JSON-ready.

    Args:
        found: The estimate.
        g: Number of the group.

    Returns:
        A mapping that ``contrast_from_rows`` reads, or None where there is no interval: no examples, or every example.
    """
    group, rest = two_way_to_row(found.group, g), two_way_to_row(found.rest, g)
    if group is None or rest is None:
        return None
    return {"share": float(found.share[g]), "group": group, "rest": rest}


def contrast_from_rows(records: Sequence[Mapping[str, Any]]) -> Excess[TwoWay]:
    """The estimate again, one entry a row.

    Args:
        records: What ``contrast_to_row`` returned.

    Returns:
        The estimate.

    Raises:
        ArgumentError: As ``two_way_from_rows``.

    Example:
        >>> from lightning_memaudit.functional.uncertainty import against_rest, summarise
        >>> arms = [np.ones((3, 9)), np.eye(3, 9)]
        >>> found = against_rest(*summarise(arms, (1, -1), np.arange(9) % 2, n_groups=2, paired=True), scale=1.0)
        >>> again = contrast_from_rows([contrast_to_row(found, g) for g in range(2)])
        >>> bool((again.interval()[1] == found.interval()[1]).all())
        True
    """
    for record in records:
        if not isinstance(record, dict) or not _is_number(record.get("share")):
            raise ArgumentError(f"record['share'] must be a number, got {record!r:.80}; write the report again.")
    return Excess(
        share=np.array([record["share"] for record in records], dtype=np.float64),
        group=two_way_from_rows([record.get("group", {}) for record in records]),
        rest=two_way_from_rows([record.get("rest", {}) for record in records]),
    )


def _check(record: Any) -> None:
    if not isinstance(record, dict):
        raise ArgumentError(f"a record must be a mapping, got {record!r:.80}; write the report again.")
    n_draws = len(record["between"]) if isinstance(record.get("between"), list) else 0
    for key in (*_NUMBERS, *_DRAWS, *_FLAGS):
        if not _is_right(key, record.get(key), n_draws):
            raise ArgumentError(
                f"record[{key!r}] must be finite and of its type, got {record.get(key)!r}; write the report again."
            )
    if not record["n"] > 0:
        raise ArgumentError(f"record['n'] must be above 0, got {record['n']!r}; write the report again.")
    if not record["scale"] > 0:
        raise ArgumentError(f"record['scale'] must be above 0, got {record['scale']!r}; write the report again.")
    mean = (record["lost"] - record["gained"]) / record["n"]
    if not math.isclose(record["estimate"], mean, rel_tol=1e-6, abs_tol=1e-6):
        raise ArgumentError(
            f"record['estimate'] is {record['estimate']:.6g}, and its lost, gained and n come to {mean:.6g}; write the "
            "report again."
        )
    if record["covers_models"] and None in record["models_df"]:
        raise ArgumentError("record['models_df'] must be known where models are covered; write the report again.")


def _is_right(key: str, value: Any, n_draws: int) -> bool:
    if key in _FLAGS:
        return isinstance(value, bool)
    if key in _NUMBERS:
        return _is_number(value) and (key in ("estimate", "skewness") or value >= 0)
    listed = isinstance(value, list) and len(value) == n_draws > 0
    return listed and all((_is_number(x) and x >= 0) or (x is None and key == "models_df") for x in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
