"""Filters that make Markdown of what a section holds."""

from __future__ import annotations

import math
import re
from typing import Any

from lightning_memaudit.record.estimates import Needed

__all__ = [
    "bar",
    "count",
    "decides",
    "escaped_name",
    "escaped_text",
    "extremes",
    "method",
    "one_line",
    "whole",
]

_BAR = "█"
_BAR_WIDTH = 40
_LONGEST_NAME = 80


def decides(row: dict[str, Any]) -> str:
    """A verdict, and for an undecided one what would decide it.

    Example:
        >>> decides({"verdict": "undecided", "n_needed": 475.0, "models_needed": None, "factor_needed": 11.9})
        'undecided: about 475 examples would decide it'
    """
    if row["verdict"] != "undecided":
        return str(row["verdict"])
    n, models = (None if row[key] is None else round(row[key]) for key in ("n_needed", "models_needed"))
    factor = math.inf if row["factor_needed"] is None else row["factor_needed"]
    return f"undecided: {Needed(n, models, factor).words()}"


def extremes(rows: list[dict[str, Any]], key: str, most: int = 20) -> list[dict[str, Any]]:
    """All rows if they are few, else those with the largest values, half as many with the smallest left in.

    Example:
        >>> [row["x"] for row in extremes([{"x": x} for x in (3, None, 1, 2, 5)], "x", most=3)]
        [5, 3, 1]
    """
    if len(rows) <= most:
        return rows
    ranked = sorted((row for row in rows if row[key] is not None), key=lambda row: -row[key])
    n_low = most // 3
    return [*ranked[: most - n_low], *ranked[max(len(ranked) - n_low, most - n_low) :]]


def whole(value: float | None) -> str:
    """A whole number; "unknown" for null."""
    return "unknown" if value is None else f"{round(value)}"


def count(value: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "example"), count(0, "example")
        ('1 example', '0 examples')
    """
    return f"{value} {noun}" if value == 1 else f"{value} {noun}s"


def one_line(value: object, longest: int = _LONGEST_NAME) -> str:
    """A label or group name on one line, cut where it is long.

    Example:
        >>> one_line("a  b"), len(one_line("x" * 100))
        ('a b', 80)
    """
    text = " ".join(str(value).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def escaped_name(value: object) -> str:
    r"""A label or group name as text in a Markdown table: one line, nothing that is markup, at most 80 characters.

    Example:
        >>> escaped_name("a|b <script>")
        'a\\|b &lt;script&gt;'
    """
    return _escaped(one_line(value), r"([\\`*_{}\[\]()#+!|~])")


def escaped_text(value: object) -> str:
    r"""A sentence as one line of Markdown, nothing of which is markup.

    Example:
        >>> escaped_text("a_b (c)")
        'a\\_b (c)'
    """
    return _escaped(" ".join(str(value).split()), r"([\\`*_\[\]|~])")


def method(name: str) -> str:
    """The name of an interval as people write it.

    Example:
        >>> method("agresti-caffo"), method("welch-floor")
        ('Agresti–Caffo', 'Welch-Floor')
    """
    known = {
        "agresti-caffo": "Agresti–Caffo",
        "agresti-caffo-level": "Agresti–Caffo (pseudo-counts grown with the level)",
    }
    return known.get(name, name.title())


def bar(height: int, heights: list[int]) -> str:
    """A bar of a histogram, on the square root of counts."""
    return _BAR * (max(1, round(_BAR_WIDTH * (height / max(heights)) ** 0.5)) if height else 0)


def _escaped(text: str, markup: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(markup, r"\\\1", text)
