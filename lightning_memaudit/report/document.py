"""A report as text: Markdown, the summary, and a model card, from the content of ``report.json``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader

from lightning_memaudit.sections.numbers import ENGLISH, Numbers
from lightning_memaudit.sections.render import environment, render_section
from lightning_memaudit.sections.section import find_sections

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.sections.section import Section

__all__ = ["missing", "model_card", "page_environment", "present", "render_markdown", "render_summary", "sentences"]

Content = dict[str, Any]


def render_markdown(content: Content, numbers: Numbers = ENGLISH) -> str:
    """``report.md``."""
    texts = [render_section(section.name, content, "md", numbers=numbers) for section in present(content)]
    template = page_environment(numbers).get_template("report.md.jinja")
    return template.render(report=content, texts=[text for text in texts if text], missing=missing(content))


def render_summary(content: Content, numbers: Numbers = ENGLISH) -> str:
    """The headline for a terminal."""
    return "\n".join(sentences(content, numbers))


def sentences(content: Content, numbers: Numbers = ENGLISH) -> list[str]:
    """What every section says in plain words."""
    texts = (render_section(section.name, content, "txt", numbers=numbers) for section in present(content))
    return [line for text in texts for line in text.splitlines() if line.strip()]


def model_card(content: Content, numbers: Numbers = ENGLISH) -> str:
    """Markdown that can be pasted into a model card."""
    template = page_environment(numbers).get_template("model_card.md.jinja")
    accuracy = content.get("accuracy", {"status": "unavailable"})
    return template.render(report=content, sentences=sentences(content, numbers), accuracy=accuracy)


def present(content: Mapping[str, Any]) -> list[Section]:
    """The sections that the content holds, whether they found something or not."""
    return [section for section in find_sections() if section.name in content]


def missing(content: Mapping[str, Any]) -> dict[str, str]:
    """Why there is nothing on what this version has no section for."""
    known = {section.name for section in find_sections()}
    return {
        name: entry["reason"]
        for name, entry in content.items()
        if isinstance(entry, dict) and entry.get("status") == "unavailable" and name not in known
    }


@cache
def page_environment(numbers: Numbers = ENGLISH) -> Environment:
    """Where whole pages find their templates and filters."""
    return environment(numbers).overlay(
        loader=ChoiceLoader([PackageLoader("lightning_memaudit.report"), PackageLoader("lightning_memaudit.sections")])
    )
