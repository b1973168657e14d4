"""Baselines: what earlier reports said, and how often a test set was looked at."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.gates.judged_report import Subject, read_json, subject_of
from lightning_memaudit.outcomes.manifest import digest
from lightning_memaudit.outcomes.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.gates.judged_report import Judged

__all__ = ["ReferenceReport", "data_key", "reference_of", "write_baseline", "write_looks"]

SCHEMA = 1
_KIND = "memaudit-baseline"
_ARTIFACT = "wandb://"
_SECTIONS = ("impact", "accuracy", "memorization")
# What statistics are computed from and nothing else needs; a baseline file is committed, and should be small.
_KEPT = ("status", "reason", "split", "arms", "overall", "by_group", "by_class", "n_models", "prevalence", "private")


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceReport:
    """What to compare with.

    Attributes:
        subject: The earlier report or store; None where there is none yet, and only looks are counted.
        looks: How often the examples of each fingerprint were looked at; None where nobody counts.
    """

    subject: Subject | None
    looks: Mapping[str, int] | None = None


def reference_of(given: Judged | ReferenceReport) -> ReferenceReport:
    """Read a baseline.

    Args:
        given: What ``subject_of`` takes, a baseline file, or ``wandb://ENTITY/PROJECT/NAME:ALIAS``.

    Raises:
        MissingDataError: There is nothing there.
        CorruptShardError: It is no baseline.
        MismatchError: It was written in another format.
    """
    if isinstance(given, ReferenceReport):
        return given
    if isinstance(given, str) and given.startswith(_ARTIFACT):
        given = _download(given.removeprefix(_ARTIFACT))
    if isinstance(given, str | os.PathLike) and "://" not in os.fspath(given) and Path(given).is_file():
        content = read_json(Path(given), name="baseline")
        if content.get("kind") == _KIND:
            return _of_file(content, str(given))
    return ReferenceReport(subject_of(given))


def data_key(content: Mapping[str, Any]) -> str | None:
    """Digest of the fingerprints of the splits that are not trained on, by which looks are counted."""
    data = content.get("data")
    if not isinstance(data, dict):
        return None
    return digest({split: known for split, known in data.items() if split != "train"} or data)


def write_baseline(subject: Subject, path: str, *, looks: Mapping[str, int]) -> None:
    """Write a new baseline file.

    Args:
        subject: The report that becomes the baseline.
        path: The file, or an fsspec URL.
        looks: Looks so far, this one included.

    Raises:
        StoreError: The file cannot be written.
    """
    report: dict[str, Any] = {key: subject.content.get(key) for key in ("created", "versions", "digests", "data")}
    report["groupings"] = subject.content.get("groupings", {})
    report |= {name: _pruned(subject.section(name)) for name in _SECTIONS}
    _write(path, {"schema": SCHEMA, "kind": _KIND, "looks": dict(looks), "report": report})


def write_looks(path: str, looks: Mapping[str, int]) -> None:
    """Write new counts of looks into a baseline file, and nothing else.

    Raises:
        MismatchError: The file is no baseline file, and has no counts.
    """
    content = read_json(Path(path), name="baseline") if Path(path).is_file() else {}
    if content.get("kind") != _KIND:
        raise MismatchError(
            f"--record-look: {path!r} is no baseline file and keeps no count; write one with --update-baseline FILE"
        )
    _write(path, {**content, "looks": dict(looks)})


def _write(path: str, content: Mapping[str, Any]) -> None:
    folder, _, name = path.rpartition("/")
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    Storage(folder or ("/" if path.startswith("/") else "."), name="baseline").write(name, text.encode())


def _of_file(content: Mapping[str, Any], path: str) -> ReferenceReport:
    if content.get("schema") != SCHEMA:
        raise MismatchError(
            f"baseline={path!r} is of schema {content.get('schema')!r} and this version reads {SCHEMA}; write a new "
            "one with --update-baseline FILE"
        )
    report, looks = content.get("report"), content.get("looks")
    sound = isinstance(report, dict) and isinstance(looks, dict)
    if not sound or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in looks.values()):  # type: ignore[union-attr]
        raise CorruptShardError(f"baseline={path!r} lacks its report or its looks; restore it, or write a new one")
    return ReferenceReport(Subject(path, report), looks)  # type: ignore[arg-type]


def _pruned(value: Any, depth: int = 0) -> Any:
    """A section without what no rule compares."""
    if not isinstance(value, dict):
        return value
    if depth == 0:
        kept = {key: item for key, item in value.items() if key in _KEPT}
        if isinstance(kept.get("arms"), dict):
            kept["arms"] = {name: _pruned(arm, 0) for name, arm in kept["arms"].items()}
        for key in ("overall", "by_group", "by_class"):
            if key in kept:
                kept[key] = _rows(kept[key])
        return kept
    return value


def _rows(value: Any) -> Any:
    if isinstance(value, list):
        return [_rows(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "statistics" in value:
        keys = ("group", "n", "n_estimable", "n_not_fitted", "statistics")
        return {key: value[key] for key in keys if key in value}
    return {key: _rows(item) for key, item in value.items()}


def _download(name: str) -> str:
    """A W&B artifact in a local folder."""
    import wandb

    try:
        return str(wandb.Api().artifact(name).download())
    except Exception as error:  # no network, no key, no such artifact: wandb raises a dozen kinds
        raise MissingDataError(
            f"baseline={_ARTIFACT + name!r} cannot be downloaded ({type(error).__name__}: {error}); download it where "
            f"there is a network (wandb artifact get {name} --root DIR) and pass --baseline DIR"
        ) from error
