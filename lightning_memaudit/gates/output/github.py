"""GitHub workflow commands that annotate the policy file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.gates.output.text import headline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_memaudit.gates.verdicts import GateResult, Row

__all__ = ["workflow_commands"]

_MOST = 10  # of one level that GitHub shows for a step; later ones are dropped without a word
_LONGEST, _LONGEST_TITLE = 4000, 250
_TITLE = "memaudit gate"
_LEVELS = {"error": "error", "fail": "error", "inconclusive": "error", "warn": "warning"}


def workflow_commands(result: GateResult) -> str:
    """One command a row that changes the build or warns, within what GitHub shows; the last one says how many more."""
    by_level: dict[str, list[Row]] = {"error": [], "warning": []}
    for row in result.rows:
        if row.effect in _LEVELS:
            by_level[_LEVELS[row.effect]].append(row)
    lines = [line for kind, rows in by_level.items() for line in _lines(result, kind, rows)]
    told = result.warnings[: _MOST - 2]
    left_out = len(result.warnings) - len(told)
    told += (f"{left_out} more warnings: see the job's log",) * (left_out > 0)
    lines += [_command("notice", warning, {"title": _TITLE}) for warning in told]
    lines.append(_command("notice", headline(result), {"title": _TITLE}))
    return "\n".join(lines) + "\n"


def _lines(result: GateResult, kind: str, rows: Sequence[Row]) -> list[str]:
    shown = rows if len(rows) <= _MOST else rows[: _MOST - 1]
    lines = [_of_row(result, kind, row) for row in shown]
    if len(rows) > len(shown):
        more = f"{len(rows) - len(shown)} more: see the job's log, the step summary or the JUnit report"
        lines.append(_command(kind, more, {"title": _TITLE}))
    return lines


def _of_row(result: GateResult, kind: str, row: Row) -> str:
    where = {} if result.policy.path is None else {"file": result.policy.path}
    if result.policy.path is not None:
        where["line"] = str(result.policy.lines.get(row.rule.name, 1))
    return _command(kind, f"{row.place}: {row.message}", {**where, "title": f"{row.verdict.value}: {row.rule.name}"})


def _command(kind: str, message: str, properties: dict[str, str]) -> str:
    said = ",".join(f"{key}={_property(value[:_LONGEST_TITLE])}" for key, value in properties.items())
    return f"::{kind} {said}::{_data(message[:_LONGEST])}"


def _data(text: str) -> str:
    r"""Text after the second ``::``.

    Example:
        >>> _data("50 %\nof a:b")
        '50 %25%0Aof a:b'
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """The value of a property, in which colons and commas mean something too.

    Example:
        >>> _property("a:b, c")
        'a%3Ab%2C c'
    """
    return _data(text).replace(":", "%3A").replace(",", "%2C")
