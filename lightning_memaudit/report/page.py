"""The report as one HTML page: sections from their Markdown, figures within, no external resource."""

from __future__ import annotations

import html
import re
from importlib import resources
from itertools import count
from typing import TYPE_CHECKING, Any

from lightning_memaudit.report.document import missing, page_environment, present, sentences
from lightning_memaudit.report.figures import drawings, inline_svg
from lightning_memaudit.sections.numbers import ENGLISH, Numbers
from lightning_memaudit.sections.render import html_of_markdown, render_section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lightning_memaudit.sections.section import Drawing

__all__ = ["render_html"]

_FIGURE = re.compile(r'<p><img src="figures/([^"]+)\.png" alt="([^"]*)" ?/?></p>')
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_HEADING = re.compile(r"<h([23456])>(.*?)</h\1>", re.DOTALL)
_EMPTY_HEAD = re.compile(r"<thead>\s*<tr>(?:\s*<th[^>]*></th>)+\s*</tr>\s*</thead>\s*")
_EMPTY_CELL = re.compile(r"<th[^>]*></th>")
_SHORT_CELL = re.compile(r"<td([^>]*)>([^<]{1,26})</td>")
_BAR = re.compile("█+")


def render_html(content: dict[str, Any], numbers: Numbers = ENGLISH, *, locale: str = "en") -> str:
    """``report.html``.

    Args:
        content: The content of ``report.json``.
        numbers: How numbers are written.
        locale: The locale they are written for, which scripts sort them by.
    """
    pictures = {name: drawing for name, drawing in drawings(content).items() if name != "top"}
    numbered = count(1)
    parts = []
    for section in present(content):
        body = render_section(section.name, content, "html", numbers=numbers)
        if not body:
            text = render_section(section.name, content, "md", numbers=numbers, whole_tables=True)
            body = _dressed(html_of_markdown(text), pictures, section.name, numbered)
        if body:
            parts.append({"name": section.name, "title": _title(body), "html": body})
    made = page_environment(numbers)
    provenance = made.get_template("provenance.md.jinja").render(report=content)
    limits = made.get_template("limits.md.jinja").render(report=content)
    for name, text in (("limits", limits), ("provenance", provenance)):
        body = _dressed(html_of_markdown(text), {}, name, numbered)
        parts.append({"name": name, "title": _title(body), "html": body})
    highlights = [
        highlight
        for section in present(content)
        if content[section.name]["status"] == "ok"
        for highlight in section.highlights(content[section.name], numbers)
    ]
    return made.get_template("page.html.jinja").render(
        report=content,
        parts=parts,
        highlights=highlights,
        sentences=sentences(content, numbers),
        missing=missing(content),
        style=_static("report.css"),
        script=_static("report.js"),
        decimal=numbers.decimal,
        locale=locale,
    )


def _dressed(body: str, pictures: Mapping[str, Drawing], section: str, numbered: Iterator[int]) -> str:
    """Headings that can be linked to, tables that scroll by themselves, figures drawn in place."""
    body = _HEADING.sub(lambda found: _heading(found, section), body)
    body = _FIGURE.sub(lambda found: _figure(found, pictures), body)
    body = _BAR.sub(lambda found: f'<span class="bar" style="width:{len(found[0]) / 4:g}em"></span>', body)
    return _TABLE.sub(lambda found: _table(found[0], next(numbered)), body)


def _heading(found: re.Match[str], section: str) -> str:
    level, text = found.groups()
    if level == "2":
        return f'<h2 id="{section}-title">{text}</h2>'
    return f"<h{level}>{text}</h{level}>"


def _figure(found: re.Match[str], pictures: Mapping[str, Drawing]) -> str:
    name, caption = html.unescape(found[1]), found[2]
    if name not in pictures:
        return ""
    return (
        f'<figure><div class="picture" role="img" aria-label="{caption}">{inline_svg(pictures[name])}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(table: str, number: int) -> str:
    table = _EMPTY_CELL.sub("<td></td>", _EMPTY_HEAD.sub("", table))
    table = _SHORT_CELL.sub(r'<td\1 class="short">\2</td>', table)
    return f'<div class="scroll" role="group" aria-label="Table {number}" tabindex="0">{table}</div>'


def _title(body: str) -> str:
    found = re.search(r"<h2[^>]*>(.*?)</h2>", body, re.DOTALL)
    return found[1] if found else ""


def _static(name: str) -> str:
    return resources.files("lightning_memaudit.report").joinpath("static", name).read_text(encoding="utf-8")
