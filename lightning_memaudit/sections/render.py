"""Sections as text: Markdown from their templates, and HTML from their Markdown; no number is made here."""

from __future__ import annotations

import re
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lightning_memaudit.sections import text
from lightning_memaudit.sections.numbers import ENGLISH, Numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template

__all__ = ["environment", "html_of_markdown", "render_section", "section_html"]

_MOST_ROWS = 1000  # of a table in HTML, which can be sorted


@cache
def environment(numbers: Numbers = ENGLISH, *, whole_tables: bool = False) -> Environment:
    """Where templates find their filters.

    Args:
        numbers: How numbers are written.
        whole_tables: Show all rows of long tables, not just the extremes.
    """
    made = Environment(  # noqa: S701 - Markdown; names are escaped by the filter `name`, HTML by `e`
        loader=PackageLoader("lightning_memaudit.sections"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=numbers.plain,
    )
    made.filters |= {
        "bar": text.bar,
        "count": text.count,
        "decides": text.decides,
        "extremes": _all if whole_tables else text.extremes,
        "interval": numbers.interval,
        "method": text.method,
        "name": text.escaped_name,
        "number": numbers.number,
        "one_line": text.one_line,
        "p_value": numbers.p_value,
        "percent": numbers.percent,
        "points": numbers.points,
        "sentence": lambda value: _localised(str(value), numbers),
        "shares": numbers.shares,
        "span": numbers.span,
        "text": lambda value: text.escaped_text(_localised(str(value), numbers)),
        "whole": text.whole,
    }
    return made


def render_section(
    name: str,
    report: Mapping[str, Any],
    kind: str,
    *,
    numbers: Numbers = ENGLISH,
    whole_tables: bool = False,
) -> str:
    """A template of a section, filled in; empty where it has none.

    Args:
        name: The section.
        report: The content of ``report.json``, or just that of the section under its name.
        kind: ``"md"``, ``"txt"`` or ``"html"``.
        numbers: How numbers are written.
        whole_tables: Show all rows of long tables, not just the extremes.
    """
    made = environment(numbers, whole_tables=whole_tables)
    file = f"{name}.{kind}.jinja"
    if file not in _templates():
        return ""
    template: Template = made.get_template(file)
    return template.render(report=report, s=report[name], figure=partial(_figure, report.get("captions", {})))


def section_html(name: str, content: Mapping[str, Any]) -> str:
    """A section for a notebook: its text as HTML."""
    report = {name: {"status": "ok", "reason": None, **content}}
    return html_of_markdown(render_section(name, report, "md"))


def html_of_markdown(source: str) -> str:
    r"""HTML of Markdown with tables; what is HTML in it is shown as text.

    Example:
        >>> html_of_markdown("*a* <b>")
        '<p><em>a</em> &lt;b&gt;</p>\n'
    """
    return str(_parser().render(source))


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")


@cache
def _templates() -> frozenset[str]:
    return frozenset(environment().list_templates())


def _all(rows: list[dict[str, Any]], key: str, most: int = _MOST_ROWS) -> list[dict[str, Any]]:
    return text.extremes(rows, key, max(most, _MOST_ROWS))


def _figure(captions: Mapping[str, str], name: str) -> str:
    return f"![{text.escaped_text(captions[name])}](figures/{name}.png)\n" if name in captions else ""


def _localised(sentence: str, numbers: Numbers) -> str:
    return re.sub(r"(?<=\d)\.(?=\d)", numbers.decimal, sentence)
