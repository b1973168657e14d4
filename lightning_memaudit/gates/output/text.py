"""A table for a terminal."""

from __future__ import annotations

import io
import shutil
import sys
from typing import TYPE_CHECKING

from lightning_memaudit.gates.verdicts import Row, Verdict
from lightning_memaudit.gates.wording import level, signed, value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_memaudit.gates.verdicts import GateResult

__all__ = ["headline", "tally", "text"]

_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.ERROR: "bold magenta",
    Verdict.WAIVED: "cyan",
}
_MOST = 40  # rows of one verdict that are shown for one rule
_WIDTH = 120  # where there is no terminal
_NOTE = (
    "Bounds are one-sided, {level} each, and not corrected: a gate passes only where all rows do. Fails are corrected "
    "over all {n} rows of the policy (Holm)."
)
_ENDINGS = {0: "passed", 1: "failed", 3: "undecided where the policy asks for a decision", 4: "could not be judged"}


def text(result: GateResult) -> str:
    """Rules with their rows, those that pass last, then what it comes to."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    file = io.StringIO()
    console = Console(
        file=file,
        force_terminal=is_terminal,
        width=shutil.get_terminal_size((_WIDTH, 24)).columns if is_terminal else _WIDTH,
        highlight=False,
        emoji=False,
    )
    for rows in result.by_rule().values():
        rule = rows[0].rule
        allowed = f"{rule.kind.name} {rule.kind.direction} {value(rule.margin, rule.kind.unit)}"
        title = Text.assemble((rule.name, "bold"), f"  {allowed}", "  informational" if rule.informational else "")
        console.print(title)
        if rule.reason:
            console.print(Text(f"  {rule.reason}", style="dim"))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
        at = level(result.alpha)
        for heading in ("verdict", "where", "n", "value", f"lower {at}", f"upper {at}"):
            table.add_column(heading, no_wrap=heading != "where", overflow="fold")
        table.add_column("", overflow="fold", ratio=1)
        shown, left_out = _shown(rows)
        for row in shown:
            unit = rule.kind.unit
            figures = ("–" if x is None else signed(x, unit) for x in (row.value, row.lower, row.upper))
            n = "–" if row.n is None else str(row.n)
            table.add_row(
                Text(row.verdict.value, _STYLES[row.verdict]), *(Text(x) for x in (row.place, n, *figures, row.note))
            )
        console.print(table)
        for sentence in left_out:
            console.print(Text(f"  {sentence}", style="dim"))
        console.print()
    for warning in result.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))
    console.print(Text(headline(result), style="green" if result.passed else "bold red"))
    if result.n_tests > 1:
        console.print(Text(_NOTE.format(level=level(result.alpha), n=result.n_tests), style="dim"))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def headline(result: GateResult) -> str:
    """What it comes to, with the exit code and the number of rows by verdict."""
    return f"gate {_ENDINGS[result.exit_code]} (exit code {result.exit_code}): {tally(result)}"


def tally(result: GateResult) -> str:
    """Number of rows by verdict, those that occur."""
    known = [f"{count} {verdict}" for verdict, count in result.counts.items() if count]
    return ", ".join(known) or "no row"


def _shown(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Rows to show, worst first, and what is left out."""
    shown, left_out = [], []
    for verdict in (Verdict.ERROR, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.WAIVED, Verdict.PASS):
        own = [row for row in rows if row.verdict is verdict]
        shown += own[:_MOST]
        if len(own) > _MOST:
            left_out.append(f"{len(own) - _MOST} more {verdict.value} (--format json has all)")
    return shown, left_out
