"""Errors on their way from a worker to the process that it works for."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import lightning_memaudit.exceptions as exceptions
from lightning_memaudit.exceptions import MemauditError, TrainingError
from lightning_memaudit.training.workers.serialization import NotSentError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["describe", "rebuild"]


def describe(error: BaseException) -> dict[str, str]:
    """An error as text: its kind, its message and where it was raised."""
    known = isinstance(error, MemauditError)
    return {
        "kind": type(error).__name__ if known else "",
        "message": str(error) if known else f"{type(error).__name__}: {error}".rstrip(".: "),
        "where": "".join(traceback.format_exception(error)),
    }


def rebuild(described: Mapping[str, str]) -> MemauditError:
    """The error that was described: of its kind, or a ``TrainingError`` for what the package does not raise itself."""
    kinds = {name: getattr(exceptions, name) for name in exceptions.__all__} | {"NotSentError": NotSentError}
    said = described["message"]
    if described["kind"] not in kinds:
        said = f"a worker process failed: {said}. What is stored is kept; fix it and run again"
    error: MemauditError = kinds.get(described["kind"], TrainingError)(said)
    error.add_note(f"In a worker process:\n{described['where']}")
    return error
