"""Verdicts written down: text, JSON, JUnit, GitHub annotations and step summary, SARIF.

A new form is a function of the result and its entry in ``FORMS``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lightning_memaudit.gates.output.github import workflow_commands
from lightning_memaudit.gates.output.junit import junit
from lightning_memaudit.gates.output.sarif import sarif
from lightning_memaudit.gates.output.summary import step_summary
from lightning_memaudit.gates.output.text import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.gates.verdicts import GateResult

__all__ = ["FORMS"]


def json_text(result: GateResult) -> str:
    """The result as JSON, one object a row; what is not known is null."""
    return json.dumps(result.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _writable(form: Callable[[GateResult], str]) -> Callable[[GateResult], str]:
    """Names may hold halves of surrogate pairs, which no file can."""
    return lambda result: form(result).encode("utf-8", "replace").decode("utf-8")


FORMS: dict[str, Callable[[GateResult], str]] = {
    name: _writable(form)
    for name, form in (
        ("text", text),
        ("json", json_text),
        ("junit", junit),
        ("github", workflow_commands),
        ("sarif", sarif),
        ("summary", step_summary),
    )
}
