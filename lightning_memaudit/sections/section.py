"""What a section of a report is, and how the sections are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol

from lightning_memaudit.record import Reads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_memaudit.record import Record
    from lightning_memaudit.sections.numbers import Numbers

__all__ = ["Drawing", "Highlight", "Result", "Section", "find_sections"]

Content = Mapping[str, Any]


class Result(Protocol):
    """What a section computes."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready content."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure of a section.

    Attributes:
        name: File name without its ending, one for the whole report.
        caption: What it shows, with n, models and interval: its alternative text too.
        draw: Makes it, from nothing but the section's content.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True, slots=True)
class Highlight:
    """One figure for the top of a report.

    Attributes:
        value: The number with its unit.
        label: What it is.
        detail: Its interval or what it rests on.
    """

    value: str
    label: str
    detail: str = ""


def _reads_correct_only(_: Record) -> Reads:
    return Reads()


def _no_drawings(_: Content) -> list[Drawing]:
    return []


def _no_highlights(_: Content, __: Numbers) -> list[Highlight]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section: one module of this package holds it under the name ``SECTION``, and reports find it there.

    Its text is the template ``templates/<name>.md.jinja``; ``<name>.txt.jinja`` adds sentences to the summary of the
    report and ``<name>.html.jinja`` stands in for the text in HTML. Each may be absent. A template sees the section as
    ``s`` and the whole report as ``report``.

    Attributes:
        name: Its key in ``report.json``.
        order: Sections follow one another by it.
        compute: Makes its result from a record; raises ``MissingDataError`` where that lacks the data.
        reads: What it reads beside ``correct``; a report reads that for all sections in one pass.
        drawings: Its figures, from its content.
        highlights: What the top of the report shows of it, from its content.
    """

    name: str
    order: int
    compute: Callable[[Record], Result]
    reads: Callable[[Record], Reads] = field(default=_reads_correct_only)
    drawings: Callable[[Content], list[Drawing]] = field(default=_no_drawings)
    highlights: Callable[[Content, Numbers], list[Highlight]] = field(default=_no_highlights)


@cache
def find_sections() -> tuple[Section, ...]:
    """Every section of this package, in the order of a report."""
    package = import_module("lightning_memaudit.sections")
    modules = (import_module(f"{package.__name__}.{module.name}") for module in iter_modules(package.__path__))
    found = (module.SECTION for module in modules if hasattr(module, "SECTION"))
    return tuple(sorted(found, key=lambda section: section.order))
