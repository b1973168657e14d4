"""The report: one object over all sections, saved as JSON, Markdown and figures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.outcomes.manifest import library_versions
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.report.figures import figure_names, figures
from lightning_memaudit.report.markdown import render_markdown, render_summary
from lightning_memaudit.sections.memorization import MemorizationResult, memorization_section

if TYPE_CHECKING:
    import os

    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["SECTIONS", "AuditReport"]

SCHEMA = 1
SECTIONS = ("memorization", "membership", "impact", "long_tail", "dynamics")
_NOT_BUILT = "this version does not compute it yet"


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
    _memorization: MemorizationResult | None = None

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
            **{name: {"status": "unavailable", "reason": _NOT_BUILT} for name in SECTIONS},
        }
        if not store.treatments():
            raise MissingDataError(f"store={store.url!r} holds no model yet; run the audit first")
        memorization = None
        try:
            memorization = memorization_section(store)
        except MissingDataError as missing:
            content["memorization"] = {"status": "unavailable", "reason": str(missing)}
        else:
            content["memorization"] = {"status": "ok", "reason": None, **memorization.to_dict()}
        examples = store.examples("train")
        content["figures"] = [] if memorization is None else figure_names(examples)
        return cls(_plain(content), examples, memorization)

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
        if self._memorization is None:
            section = self.content["memorization"]
            reason = section["reason"] or (
                "report.json holds the summary (report.content['memorization']), not every example; compute it from "
                "the store with "
                "AuditReport.from_store(OutcomeStore(...))"
            )
            raise MissingDataError(f"memorization: {reason}")
        return self._memorization

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
        if self._memorization is not None and self.examples is not None:
            for name, picture in figures(self._memorization, self.examples).items():
                storage.write(f"figures/{name}", picture)
        storage.write("report.md", self.to_markdown().encode())


def _plain(value: Any) -> Any:
    """NaN and infinities become None, tuples lists, NumPy numbers Python ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
