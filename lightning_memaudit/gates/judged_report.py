"""What is judged: a report, or the record of a store whose sections are computed when a rule asks for them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lightning_memaudit.exceptions import CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.outcomes.manifest import library_versions
from lightning_memaudit.report.schema import SCHEMA
from lightning_memaudit.sections.entries import available, plain, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.record import Record
    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["SCHEMA", "Judged", "Subject", "memorization_at", "read_json", "subject_of"]

Judged: TypeAlias = "AuditReport | OutcomeStore | Mapping[str, Any] | str | os.PathLike[str] | Subject"

_REPORT = "report.json"


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A report, whole or computed section by section.

    Attributes:
        name: How it is called in messages.
        content: Content of ``report.json``; without sections where there is a store.
        record: The record that the sections come from; None for a report.
        cache: Tables that were read already.
    """

    name: str
    content: dict[str, Any]
    record: Record | None = None
    cache: dict[Any, Any] = field(default_factory=dict)

    def read(self, names: Iterable[str]) -> None:
        """Read what some sections need from a store, each shard once; a report has all of it.

        Args:
            names: The sections.
        """
        if self.record is not None:
            from lightning_memaudit.sections.section import find_sections

            wanted = set(names)
            known = [section for section in find_sections() if section.name in wanted]
            self.record.read(*(section.reads(self.record) for section in known))

    def section(self, name: str) -> dict[str, Any]:
        """A section, with ``status`` and ``reason``.

        Args:
            name: ``"impact"``, ``"accuracy"``, ``"memorization"``, or what ``memorization_at`` returned.
        """
        if name not in self.content:
            self.content[name] = self._computed(name)
        section = self.content[name]
        if not isinstance(section, dict):
            return unavailable(f"the report's {name!r} is no section")
        return section

    def _computed(self, name: str) -> dict[str, Any]:
        plain_name, _, threshold = name.partition("@")
        if self.record is None:
            if not threshold:
                return unavailable(f"the report has no section {name!r}; write it again with this version")
            section = self.section(plain_name)
            prevalence = section.get("prevalence")
            counted = prevalence.get("threshold") if isinstance(prevalence, dict) else None
            if section.get("status") != "ok" or counted == float(threshold):
                return section
            return unavailable(
                f"the report counts scores of {counted} or more; for threshold = {threshold} judge the store itself"
            )
        options = {"threshold": float(threshold)} if threshold else {}
        try:
            return plain(available(**_sections()[plain_name](self.record, **options).to_dict()))  # type: ignore[no-any-return]
        except MissingDataError as missing:
            return unavailable(str(missing))

    def how_grouped(self, grouping: str) -> str | None:
        """How a grouping was made, where that is on record."""
        if self.record is not None:
            made = self.record.examples("train").groups.get(grouping)
            how = None if made is None else made.made_by
        else:
            known = self.content.get("groupings")
            how = known.get(grouping) if isinstance(known, dict) else None
        method = how.get("method") if isinstance(how, dict) else None
        return None if method is None else str(method)


def memorization_at(threshold: float) -> str:
    """Name of the section whose counts are of scores of ``threshold`` or more."""
    return f"memorization@{threshold:g}"


def subject_of(judged: Judged) -> Subject:
    """Read what is to be judged.

    Args:
        judged: A report, a store, the content of a ``report.json``, or the path of a ``report.json``, of a folder that
            holds one (a saved report, a downloaded W&B artifact), or of a store.

    Raises:
        ArgumentError: Something else.
        MissingDataError: There is nothing at the path.
        CorruptShardError: The file is not a report.
        MismatchError: It was written in another format.
    """
    if isinstance(judged, Subject):
        return judged
    if isinstance(judged, Mapping):
        return Subject("report", _checked(dict(judged), "the content of a report"))
    if isinstance(judged, str | os.PathLike):
        path = os.fspath(judged)
        file = None if "://" in path else _file(Path(path))
        if file is not None:
            return Subject(str(file), _report(file))
    # These bring torch and Lightning along, which a report.json can be judged without.
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.report.audit_report import AuditReport

    if isinstance(judged, AuditReport):
        return Subject("report", _checked(judged.content, "the content of a report"))
    if isinstance(judged, OutcomeStore):
        return _of_store(judged)
    if not isinstance(judged, str | os.PathLike):
        raise argument_error(
            "report", judged, "an AuditReport, an OutcomeStore, the content of a report.json or a path is needed"
        )
    store = OutcomeStore(path)
    if not store.exists:
        raise MissingDataError(
            f"report={path!r}: there is neither a report.json nor a store; pass the path of a report.json, of a folder "
            "with one, or of a store"
        )
    return _of_store(store)


def _file(path: Path) -> Path | None:
    """The ``report.json`` that a path means."""
    return next((file for file in (path, path / _REPORT) if file.is_file()), None)


def read_json(path: Path, *, name: str) -> dict[str, Any]:
    """Content of a JSON file that holds a mapping.

    Raises:
        CorruptShardError: It does not.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptShardError(
            f"{name}={str(path)!r} is not JSON ({error}); restore it, or write a new one"
        ) from error
    if not isinstance(content, dict):
        raise CorruptShardError(f"{name}={str(path)!r} holds no report; restore it, or write a new one")
    return content


def _report(path: Path) -> dict[str, Any]:
    return _checked(read_json(path, name="report"), str(path))


def _checked(content: dict[str, Any], name: str) -> dict[str, Any]:
    if content.get("schema") != SCHEMA:
        raise MismatchError(
            f"report={name!r} is of schema {content.get('schema')!r}, and this version reads {SCHEMA}; write it "
            "again from its store (memaudit report STORE)"
        )
    return content


def _sections() -> dict[str, Callable[..., Any]]:
    from lightning_memaudit.sections.accuracy import accuracy_section
    from lightning_memaudit.sections.impact import impact_section
    from lightning_memaudit.sections.memorization import memorization_section

    return {"accuracy": accuracy_section, "impact": impact_section, "memorization": memorization_section}


def _of_store(store: OutcomeStore) -> Subject:
    from lightning_memaudit.record import Record

    record = Record(store)
    manifest = record.manifest
    if not record.arms:
        raise MissingDataError(f"store={store.url!r} holds no model yet; run the audit first")
    content = {
        "versions": library_versions(),
        "digests": manifest.digests,
        "data": manifest.identity.data,
        "store": store.url,
    }
    return Subject(store.url, content, record)
