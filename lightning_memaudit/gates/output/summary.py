"""Markdown for a GitHub step summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.gates.output.text import headline
from lightning_memaudit.gates.verdicts import Verdict
from lightning_memaudit.gates.wording import level, signed, value
from lightning_memaudit.sections.text import escaped_name, escaped_text

if TYPE_CHECKING:
    from lightning_memaudit.gates.verdicts import GateResult, Row

__all__ = ["step_summary"]

_MOST_BYTES = 900_000  # GitHub refuses more than 1 MiB, whole
_SIGNS = {
    Verdict.PASS: "✅",
    Verdict.FAIL: "❌",
    Verdict.INCONCLUSIVE: "❔",
    Verdict.ERROR: "⚠️",
    Verdict.WAIVED: "➖",
}


def step_summary(result: GateResult) -> str:
    """Headline, a table of rules, then every row that does not pass."""
    lines = [f"## {escaped_text(headline(result))}", ""]
    lines += [f"> {escaped_text(warning)}" for warning in result.warnings]
    lines += ["", "| rule | allowed | " + " | ".join(verdict.value for verdict in Verdict) + " |"]
    lines += ["|---|---|" + "---|" * len(Verdict)]
    parts = result.by_rule()
    for name, rows in parts.items():
        rule = rows[0].rule
        allowed = f"{rule.kind.name} {rule.kind.direction} {value(rule.margin, rule.kind.unit)}"
        numbers = [str(sum(row.verdict is verdict for row in rows) or "") for verdict in Verdict]
        lines.append(f"| {escaped_name(name)} | {escaped_text(allowed)} | " + " | ".join(numbers) + " |")
    open_rows = [row for row in result.rows if row.verdict is not Verdict.PASS]
    if open_rows:
        lines += ["", f"Bounds are one-sided, {level(result.alpha)} each.", ""]
        lines += ["| | rule | where | n | value | lower | upper | why |", "|---|---|---|---|---|---|---|---|"]
    size = sum(len(line.encode("utf-8", "replace")) + 1 for line in lines)
    for number, row in enumerate(open_rows):
        line = _line(row)
        size += len(line.encode("utf-8", "replace")) + 1
        if size > _MOST_BYTES:
            lines.append(f"\n{len(open_rows) - number} more rows: see the job's log or the JUnit report.")
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    figures = ("–" if x is None else signed(x, row.rule.kind.unit) for x in (row.value, row.lower, row.upper))
    cells = [
        f"{_SIGNS[row.verdict]} {row.verdict.value}",
        escaped_name(row.rule.name),
        escaped_name(row.place),
        "–" if row.n is None else str(row.n),
        *figures,
        escaped_text(row.note),
    ]
    return f"| {' | '.join(cells)} |"
