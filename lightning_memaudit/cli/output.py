"""What commands print and where reports go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["duration", "megabytes", "say", "warn", "write_report"]


def say(text: str) -> None:
    """Print to standard output."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    print(f"memaudit: warning: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A length of time in words.

    Example:
        >>> duration(0.25), duration(75), duration(7300)
        ('0.25 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def megabytes(size: int) -> str:
    """A number of bytes in words.

    Example:
        >>> megabytes(3_200_000)
        '3.2 MB'
    """
    return f"{size / 1e6:.2g} MB" if size < 1e7 else f"{size / 1e6:,.0f} MB"


def write_report(
    report: AuditReport,
    store: OutcomeStore,
    out: str | None,
    *,
    formats: Sequence[str] = ("html", "md", "json"),
    locale: str = "en",
) -> str:
    """Save a report to ``out`` or below its store, say what it found, and return the folder."""
    folder = out or f"{store.url.rstrip('/')}/report"
    report.save(folder, formats=formats, locale=locale)
    say(f"{report.summary()}\n\nreport written to {folder}")
    return folder
