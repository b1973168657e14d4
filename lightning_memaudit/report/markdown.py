"""Markdown and terminal text from the content of ``report.json``; no number is made here."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["render_markdown", "render_summary"]

_BAR = "█"
_BAR_WIDTH = 40
_LONGEST_NAME = 80
_PRACTICAL = 1000  # times as many examples and models


def render_markdown(content: dict[str, Any]) -> str:
    """``report.md``."""
    return _render("report.md.jinja", content)


def render_summary(content: dict[str, Any]) -> str:
    """The headline for a terminal."""
    return _render("summary.txt.jinja", content).strip()


def _render(template: str, content: dict[str, Any]) -> str:
    return (
        _environment()
        .get_template(template)
        .render(report=content, m=content["memorization"], impact=content["impact"])
    )


def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - Markdown; names are escaped by the filter `name`
        loader=PackageLoader("lightning_memaudit.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bar": bar,
        "count": count,
        "decides": decides,
        "extremes": extremes,
        "method": method,
        "name": plain_name,
        "number": number,
        "percent": percent,
        "points": points,
        "p_value": p_value,
        "span": span,
        "text": plain_text,
        "whole": whole,
    }
    return environment


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a percentage; "unknown" for null.

    Example:
        >>> percent(0.1234), percent(None)
        ('12.3 %', 'unknown')
    """
    return "unknown" if share is None else f"{100 * share:.{digits}f} %"


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; "–" for null.

    Example:
        >>> number(-0.5), number(None)
        ('−0.50', '–')
    """
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares in signed percentage points; "–" for null.

    Example:
        >>> points(0.123), points(-0.5), points(None)
        ('+12.3', '−50.0', '–')
    """
    if value is None:
        return "–"
    text = f"{100 * value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def span(ends: list[float | None], digits: int = 1) -> str:
    """An interval in signed percentage points; "–" where it has no ends.

    Example:
        >>> span([-0.01, 0.2]), span([None, None])
        ('−1.0 to +20.0', '–')
    """
    low, high = ends
    return "–" if low is None or high is None else f"{points(low, digits)} to {points(high, digits)}"


def p_value(value: float | None) -> str:
    """A p-value; "–" for null.

    Example:
        >>> p_value(0.03), p_value(1e-9)
        ('0.0300', '< 0.0001')
    """
    return "< 0.0001" if value is not None and value < 0.0001 else number(value, 4)


def decides(row: dict[str, Any]) -> str:
    """A verdict, and for an undecided one the number of examples or models that would decide it.

    Example:
        >>> decides({"verdict": "undecided", "n_needed": 475.0, "models_needed": None, "factor_needed": 11.9})
        'undecided: 475 examples would do'
    """
    if row["verdict"] != "undecided":
        return str(row["verdict"])
    ways = [
        count(round(row[key]), noun)
        for key, noun in (("n_needed", "example"), ("models_needed", "model"))
        if row[key] is not None
    ]
    if not ways and row["factor_needed"] is not None and row["factor_needed"] <= _PRACTICAL:
        ways = [f"{row['factor_needed']:.2g} times as many of both"]
    return f"undecided: {' or '.join(ways)} would do" if ways else "undecided: no practical number would do"


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


def plain_name(value: object) -> str:
    r"""A label or group name as text in a Markdown table: one line, nothing that is markup, at most 80 characters.

    Example:
        >>> plain_name("a|b <script>")
        'a\\|b &lt;script&gt;'
    """
    text = " ".join(str(value).split())
    return _escaped(text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…", r"([\\`*_{}\[\]()#+!|~])")


def plain_text(value: object) -> str:
    r"""A sentence as one line of Markdown, nothing of which is markup.

    Example:
        >>> plain_text("a_b (c)")
        'a\\_b (c)'
    """
    return _escaped(" ".join(str(value).split()), r"([\\`*_\[\]|~])")


def _escaped(text: str, markup: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(markup, r"\\\1", text)


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
