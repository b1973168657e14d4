"""The report: one object over all sections, saved as JSON, Markdown and figures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.outcomes.manifest import library_versions
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.report.figures import figure_names, figures
from lightning_memaudit.report.markdown import render_markdown, render_summary
from lightning_memaudit.sections.accuracy import accuracy_section
from lightning_memaudit.sections.entries import found, plain, unavailable
from lightning_memaudit.sections.impact import ImpactResult, impact_section
from lightning_memaudit.sections.long_tail import LongTailResult, long_tail_section
from lightning_memaudit.sections.memorization import MemorizationResult, memorization_section

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["SECTIONS", "AuditReport"]

SCHEMA = 1
SECTIONS = ("memorization", "membership", "impact", "long_tail", "dynamics")
_NOT_BUILT = "this version does not compute it yet"
_COMPUTED: dict[str, Callable[[OutcomeStore], Any]] = {
    "memorization": memorization_section,
    "accuracy": accuracy_section,
    "impact": impact_section,
    "long_tail": long_tail_section,
}


@dataclass(frozen=True, slots=True, eq=False)
class AuditReport:
    """What an audit found.

    Attributes:
        content: The content of ``report.json``.
        examples: The training examples, for pictures; None for a report that was loaded from its file.

    Example:
        ``report = AuditReport.from_store(OutcomeStore("memaudit")); report.save("out/")``
    """

    content: dict[str, Any]
    examples: Examples | None = None
    _results: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_store(cls, store: OutcomeStore) -> AuditReport:
        """Compute every section that the store has data for.

        Raises:
            MissingDataError: There is no store at this place, or it has no model yet.
        """
        manifest = store.manifest
        content: dict[str, Any] = {
            "schema": SCHEMA,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "store": store.url,
            "versions": library_versions(),
            "digests": manifest.digests,
            "model": manifest.identity.model["class"],
            "data": manifest.identity.data,
            "executor": manifest.trained_by,
            "execution": manifest.execution,
            "groupings": {},
            **{name: unavailable(_NOT_BUILT) for name in SECTIONS},
        }
        if not store.treatments():
            raise MissingDataError(f"store={store.url!r} holds no model yet; run the audit first")
        results = {}
        for name, compute in _COMPUTED.items():
            try:
                results[name] = compute(store)
            except MissingDataError as missing:
                content[name] = unavailable(str(missing))
            else:
                content[name] = found(**results[name].to_dict())
        examples = store.examples("train")
        content["groupings"] = {
            name: group.made_by for name, group in examples.groups.items() if group.made_by is not None
        }
        content["figures"] = figure_names(results, examples)
        return cls(plain(content), examples, results)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AuditReport:
        """Read a ``report.json``.

        Raises:
            MissingDataError: There is no such file.
            CorruptShardError: It is not a report.
            MismatchError: It was written in another format.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            schema = content["schema"]
        except (FileNotFoundError, IsADirectoryError) as error:
            raise MissingDataError(
                f"report={str(path)!r}: there is no such file; pass the path of a report.json"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptShardError(f"report={str(path)!r} is not a report.json ({error})") from error
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
        section: dict[str, Any] = self.content[name]
        if section["status"] != "ok":
            raise MissingDataError(f"{name}: {section['reason']}")
        return section

    def to_json(self) -> str:
        """The content of ``report.json``; NaN is null."""
        return json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False)

    def to_markdown(self) -> str:
        """The content of ``report.md``."""
        return render_markdown(self.content)

    def summary(self) -> str:
        """A few sentences for a terminal."""
        return render_summary(self.content)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``report.json``, ``report.md`` and ``figures/`` into a folder or below an fsspec URL.

        Raises:
            StoreError: The folder cannot be written to.
        """
        storage = Storage(folder)
        storage.write("report.json", self.to_json().encode())
        if self.examples is not None:
            for name, picture in figures(self._results, self.examples).items():
                storage.write(f"figures/{name}", picture)
        storage.write("report.md", self.to_markdown().encode())
