"""``memaudit report``: report files from a store."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from lightning_memaudit.cli.output import write_report
from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(
        prog="memaudit report", description="Write report.json, report.md and figures from a store."
    )
    parser.add_argument("store", type=str, help="Folder or URL of the store.")
    parser.add_argument(
        "--out", type=str | None, default=None, help="Folder for the report; <store>/report by default."
    )
    options = parser.parse_args(arguments)
    store = OutcomeStore(options.store)
    report = AuditReport.from_store(store)
    write_report(report, store, options.out)
    return 0 if report.content["memorization"]["status"] == "ok" else MissingDataError.exit_code
