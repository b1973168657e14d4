"""The report: one object over all sections, saved as HTML, Markdown, JSON and figures."""

from __future__ import annotations

import html
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import UndefinedError

from lightning_memaudit.exceptions import ArgumentError, CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.outcomes.manifest import library_versions
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.record import Record
from lightning_memaudit.report.document import model_card, render_markdown, render_summary
from lightning_memaudit.report.figures import captions, figure_files
from lightning_memaudit.report.page import render_html
from lightning_memaudit.report.schema import SCHEMA
from lightning_memaudit.sections.entries import available, plain, unavailable
from lightning_memaudit.sections.impact import ImpactResult
from lightning_memaudit.sections.long_tail import LongTailResult
from lightning_memaudit.sections.numbers import Numbers
from lightning_memaudit.sections.section import find_sections

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.sections.memorization import MemorizationResult

__all__ = ["FORMATS", "SECTIONS", "AuditReport", "check_output"]

SECTIONS = ("memorization", "membership", "impact", "long_tail", "dynamics")
FORMATS = ("html", "md", "json")
_NOT_BUILT = "this version does not compute it yet"


@dataclass(frozen=True, slots=True, eq=False)
class AuditReport:
    """What an audit found.

    Attributes:
        content: The content of ``report.json``, from which everything else is made.

    Example:
        ``report = AuditReport.from_store(OutcomeStore("memaudit")); report.save("out/")``
    """

    content: dict[str, Any]
    _results: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_store(cls, store: OutcomeStore | Record, *, sections: Sequence[str] | None = None) -> AuditReport:
        """Compute every section that the store has data for; each of its shards is read once.

        Args:
            store: The store, or the ``Record`` of it where limits of memory are to be set.
            sections: Names of the sections to compute; None takes all. Leaving ``"gallery"`` out leaves training
                examples themselves out of the report.

        Raises:
            ArgumentError: There is no section of such a name.
            MissingDataError: There is no store at this place, or it has no model yet.
        """
        known = [section.name for section in find_sections()]
        if sections is not None and not sections:
            raise ArgumentError(f"sections={sections!r}: name at least one of {', '.join(known)}, or leave it out")
        for name in sections or ():
            if name not in known:
                raise ArgumentError(f"sections={name!r}: there is no such section; take some of {', '.join(known)}")
        record = store if isinstance(store, Record) else Record(store)
        manifest = record.manifest
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "store": record.url,
            "versions": library_versions(),
            "digests": manifest.digests,
            "plan": manifest.identity.plan,
            "model": manifest.identity.model["class"],
            "data": manifest.identity.data,
            "executor": manifest.trained_by,
            "execution": manifest.execution,
            "groupings": {},
            **{name: unavailable(_NOT_BUILT) for name in SECTIONS},
        }
        if not record.arms:
            raise MissingDataError(f"store={record.url!r} holds no model yet; run the audit first")
        results = {}
        computed = [section for section in find_sections() if sections is None or section.name in sections]
        record.read(*(section.reads(record) for section in computed))
        for section in find_sections():
            name = section.name
            if section not in computed:
                content[name] = unavailable("it was left out of this report")
                continue
            try:
                results[name] = section.compute(record)
            except MissingDataError as missing:
                content[name] = unavailable(str(missing))
            else:
                content[name] = available(**results[name].to_dict())
        content["groupings"] = {
            name: group.made_by for name, group in record.examples("train").groups.items() if group.made_by is not None
        }
        content = plain(content)
        content["captions"] = captions(content)
        content["figures"] = [f"{name}.{kind}" for name in content["captions"] for kind in ("png", "svg")]
        return cls(content, results)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AuditReport:
        """Read a ``report.json``.

        Raises:
            MissingDataError: There is no such file.
            CorruptShardError: It is not a report.
            MismatchError: It was written in another format.
        """
        try:
            content = plain(json.loads(Path(path).read_text(encoding="utf-8")))
            schema = content["schema"]
        except (FileNotFoundError, IsADirectoryError) as error:
            raise MissingDataError(
                f"report={str(path)!r}: there is no such file; pass the path of a report.json"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptShardError(
                f"report={str(path)!r} is not a report.json ({type(error).__name__}: {error}); write it again from its "
                "store (memaudit report STORE)"
            ) from error
        if schema != SCHEMA:
            raise MismatchError(
                f"report={str(path)!r} is of schema {schema}, and this version reads {SCHEMA}; write it again from "
                f"its store"
            )
        return cls(content)

    @property
    def memorization(self) -> MemorizationResult:
        """Scores of every example, for reports that were computed from a store.

        Raises:
            MissingDataError: The report was loaded from its file, or the section is unavailable.
        """
        if "memorization" not in self._results:
            reason = self.content["memorization"]["reason"] or (
                "report.json holds the summary (report.content['memorization']), not every example; compute it from "
                "the store with AuditReport.from_store(OutcomeStore(...))"
            )
            raise MissingDataError(f"memorization: {reason}")
        result: MemorizationResult = self._results["memorization"]
        return result

    @property
    def impact(self) -> ImpactResult:
        """What every treatment costs; for reports that were loaded from their file too.

        Raises:
            MissingDataError: The section is unavailable.
        """
        return ImpactResult(self._section("impact"))

    @property
    def long_tail(self) -> LongTailResult:
        """The long tail of the data; for reports that were loaded from their file too.

        Raises:
            MissingDataError: The section is unavailable.
        """
        return LongTailResult(self._section("long_tail"))

    def _section(self, name: str) -> dict[str, Any]:
        section: dict[str, Any] = self.content.get(name, {"status": None, "reason": "the report has no such section"})
        if section["status"] != "ok":
            raise MissingDataError(f"{name}: {section['reason']}")
        return section

    def to_json(self) -> str:
        """The content of ``report.json``; NaN is null."""
        return json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False)

    def to_markdown(self, *, locale: str = "en") -> str:
        """The content of ``report.md``, with numbers as they are written in ``locale``.

        Raises:
            ArgumentError: The locale is not known, or needs the extra ``[locales]``.
        """
        with _whole(self.content):
            return render_markdown(self.content, Numbers.of(locale))

    def to_html(self, *, locale: str = "en") -> str:
        """The content of ``report.html``: one page without any external resource.

        Raises:
            ArgumentError: The locale is not known, or needs the extra ``[locales]``.
        """
        with _whole(self.content):
            return render_html(self.content, Numbers.of(locale), locale=locale)

    def _repr_html_(self) -> str:
        """The report in a notebook, in a frame of its own so that neither's styles reach the other."""
        page = html.escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="720" style="border: 0" title="Audit report"></iframe>'

    def summary(self) -> str:
        """A few sentences for a terminal."""
        with _whole(self.content):
            return render_summary(self.content)

    def model_card(self) -> str:
        """Markdown on memorization, privacy and groups, to be pasted into a model card."""
        with _whole(self.content):
            return model_card(self.content)

    def figures(self) -> dict[str, bytes]:
        """Every figure as PNG and SVG, by file name; the same bytes each time."""
        with _whole(self.content):
            return figure_files(self.content)

    def save(self, folder: str | os.PathLike[str], *, formats: Sequence[str] = FORMATS, locale: str = "en") -> None:
        """Write the report into a folder or below an fsspec URL.

        Args:
            folder: Where ``report.html``, ``report.md``, ``report.json`` and ``figures/`` go.
            formats: Which of ``"html"``, ``"md"`` and ``"json"``. Figures are written beside Markdown; HTML holds
                them within.
            locale: How numbers are written in HTML and Markdown.

        Raises:
            ArgumentError: There is no such format or locale.
            StoreError: The folder cannot be written to.
        """
        check_output(formats, locale)
        storage = Storage(folder, name="folder")
        if "json" in formats:
            storage.write("report.json", self.to_json().encode())
        if "md" in formats:
            for name, picture in self.figures().items():
                storage.write(f"figures/{name}", picture)
            storage.write("report.md", self.to_markdown(locale=locale).encode())
        if "html" in formats:
            storage.write("report.html", self.to_html(locale=locale).encode())


@contextmanager
def _whole(content: Mapping[str, Any]) -> Iterator[None]:
    """Say what is wrong with a report that lacks figures or holds others than it was written with."""
    try:
        yield
    except (UndefinedError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CorruptShardError(
            f"the report of store {content.get('store')!r} is damaged, or another version wrote it "
            f"({type(error).__name__}: {error}); write it again from its store (memaudit report STORE)"
        ) from error


def check_output(formats: Sequence[str], locale: str) -> None:
    """Refuse what a report cannot be written in, before anything is computed or written.

    Raises:
        ArgumentError: There is no such format or locale.
    """
    for name in formats:
        if name not in FORMATS:
            raise ArgumentError(f"formats={name!r}: there is no such format; take some of {', '.join(FORMATS)}")
    if not formats:
        raise ArgumentError(f"formats={formats!r}: name at least one of {', '.join(FORMATS)}")
    Numbers.of(locale)
