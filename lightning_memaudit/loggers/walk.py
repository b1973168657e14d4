"""What a report holds that a logger can take, found by its shape and not by the name of its section."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Found", "Histogram", "Table", "flat", "safe_names", "walk"]

PREFIX = "memaudit"
_BY_GROUP = "by_group"
_NAMED_BY_USERS = ("arms", _BY_GROUP, "by_group_and_label")  # what is within has names of users, and they may be any
_NOT_MEASURES = ("statistics", "record")  # what gates compute with, and settings of an arm
_DEEPEST = 6  # memaudit, section, "arms", arm, "overall", measure: what is below is the detail of groups
_LONGEST_PART, _LONGEST_NAME, _MOST_GROUPS = 48, 250, 100
_UNSAFE = re.compile(r"[^\w-]")  # W&B takes a dot for a step into a mapping


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of plain cells under one set of columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> Table:
        """Take the columns of all rows, in order of appearance; None where a row lacks one."""
        known = [flat(row) for row in rows]
        columns = tuple(dict.fromkeys(column for row in known for column in row))
        return cls(columns, tuple(tuple(row.get(column) for column in columns) for row in known))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges, of which there is one more."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What ``walk`` found, by name.

    Attributes:
        scalars: Finite numbers of a section, of an arm, or of a named part of either.
        group_scalars: The first measure of each group that has an interval.
        tables: Rows of groups that have an interval; all groupings of an arm in one table.
        histograms: Counts that a section stored.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    group_scalars: dict[str, float] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)


def walk(content: Mapping[str, Any]) -> Found:
    """Everything in the sections of a ``report.json`` that are there.

    A name is the path in ``report.json`` below ``memaudit/``. Rows are those of groups when they have a ``group`` and
    an interval, ``low`` to ``high``; their measure is what stands in front of ``low``.

    Example:
        >>> rows = [{"group": "a b", "n": 3, "tpr": 0.5, "low": 0.1, "high": 0.9}]
        >>> found = walk({"later": {"status": "ok", "auc": 0.7, "by_group": {"kind": rows}}})
        >>> found.scalars, found.group_scalars
        ({'memaudit/later/auc': 0.7}, {'memaudit/later/by_group/kind/a_b/tpr': 0.5})
    """
    found = Found()
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    sections = {name: part for name, part in content.items() if isinstance(part, dict) and part.get("status") == "ok"}
    for path, given, value in _leaves(sections, (PREFIX,), ""):
        if isinstance(value, Histogram):
            found.histograms[_name(path)] = value
        elif isinstance(value, list):
            table, grouping = (path[:-1], {"grouping": given}) if path[-2] == _BY_GROUP else (path, {})
            grouped.setdefault(table, []).extend(grouping | row for row in value)
            found.group_scalars.update(_measures(path, value))
        elif len(path) <= _DEEPEST:
            found.scalars[_name(path)] = float(value)
    found.tables.update({_name(path): Table.of(rows) for path, rows in grouped.items()})
    return found


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The plain cells of a row; those of a mapping within it as ``outer/inner``, lists left out.

    Example:
        >>> flat({"n": 3, "loss": {"rise": 0.1}, "ids": [1, 2]})
        {'n': 3, 'loss/rise': 0.1}
    """
    cells: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            cells |= {} if key in _NOT_MEASURES else flat(value, f"{prefix}{key}/")
        elif not isinstance(value, list):
            cells[f"{prefix}{key}"] = value
    return cells


def safe_names(names: Iterable[str]) -> list[str]:
    """Names of siblings, as every logger and file system takes them, and still different from one another.

    Example:
        >>> safe_names(["<5", ">5", "a/b", "prune-0.9"])
        ['_5-49498f', '_5-5db68b', 'a_b', 'prune-0_9']
    """
    known = list(names)
    short = [_UNSAFE.sub("_", name)[:_LONGEST_PART] or "_" for name in known]
    lowered = [part.lower() for part in short]
    return [
        part if lowered.count(part.lower()) == 1 and len(name) <= _LONGEST_PART else f"{part}-{_digest(name)}"
        for name, part in zip(known, short, strict=True)
    ]


def _leaves(node: Mapping[str, Any], path: tuple[str, ...], given: str) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Paths of safe names, the last name as it was given, and what is there."""
    users = path[-1] in _NAMED_BY_USERS
    for safe, (key, value) in zip(safe_names(node), node.items(), strict=True):
        if key in _NOT_MEASURES and not users:
            continue
        below, name = (path, given) if key == "rows" and not users else ((*path, safe), key)
        if isinstance(value, dict) and {"edges", "counts"} <= value.keys():
            yield below, name, Histogram(tuple(value["edges"]), tuple(value["counts"]))
        elif isinstance(value, dict) and value.get("status") != "unavailable":
            yield from _leaves(value, below, name)
        elif _is_finite(value) or (isinstance(value, list) and value and all(map(_is_group, value))):
            yield below, name, value


def _measures(path: tuple[str, ...], rows: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    names = [row["group"] for row in rows]
    if len(set(names)) < len(names):  # cells of groups and labels
        return
    for name, row in list(zip(safe_names(names), rows, strict=True))[:_MOST_GROUPS]:
        columns = list(row)
        measure = columns[columns.index("low") - 1]
        if _is_finite(row[measure]):
            yield _name((*path, name, measure)), float(row[measure])


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_group(row: Any) -> bool:
    return isinstance(row, dict) and {"group", "low", "high"} <= row.keys()


def _name(path: tuple[str, ...]) -> str:
    name = "/".join(path)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 7]}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
