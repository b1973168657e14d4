"""Markdown and terminal text from the content of ``report.json``; no number is made here."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["render_markdown", "render_summary"]

_BAR = "█"
_BAR_WIDTH = 40
_LONGEST_NAME = 80


def render_markdown(content: dict[str, Any]) -> str:
    """``report.md``."""
    return _environment().get_template("report.md.jinja").render(report=content, m=content["memorization"])


def render_summary(content: dict[str, Any]) -> str:
    """The headline for a terminal."""
    return _environment().get_template("summary.txt.jinja").render(report=content, m=content["memorization"]).strip()


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
        "method": method,
        "name": plain_name,
        "number": number,
        "percent": percent,
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
    text = text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", text)


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
