"""``memaudit report``: report files from a store, and an audit's figures in an experiment tracker."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from jsonargparse import ArgumentParser

from lightning_memaudit.cli.output import say, write_report
from lightning_memaudit.exceptions import ArgumentError, MissingDataError
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.report.audit_report import FORMATS, AuditReport, check_output

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(
        prog="memaudit report",
        epilog="Example: memaudit report audits/net --out report --open",
        description="Write report.html, report.md, report.json and figures from a store.",
    )
    parser.add_argument("store", type=str, metavar="STORE", help="Folder or URL of the store.")
    parser.add_argument(
        "--out", type=str | None, default=None, help="Folder for the report; <store>/report by default."
    )
    parser.add_argument("--format", type=str, default=",".join(FORMATS), help="Which of html, md and json, by commas.")
    parser.add_argument(
        "--sections",
        type=str | None,
        default=None,
        help="Sections to compute, by commas; all by default. Leave out gallery, and no training example is shown.",
    )
    parser.add_argument("--locale", type=str, default="en", help="How numbers are written, such as de or fr_CA.")
    parser.add_argument("--wandb", type=str | None, default=None, help="Project in W&B that the audit is logged to.")
    parser.add_argument("--tensorboard", type=str | None, default=None, help="Folder for TensorBoard event files.")
    parser.add_argument(
        "--mlflow", type=str | None, default=None, help="Tracking URI of MLflow; the experiment is called memaudit."
    )
    parser.add_argument("--open", action="store_true", help="Show report.html in a browser.")
    parser.add_argument("--model-card", action="store_true", help="Print Markdown for a model card too.")
    options = parser.parse_args(arguments)
    formats = _listed(options.format)
    check_output(formats, options.locale)
    Storage(options.out or options.store, name="--out")
    if options.open and "html" not in formats:
        raise ArgumentError(f"--open shows report.html; add html to --format={options.format}")
    store = OutcomeStore(options.store)
    sections = None if options.sections is None else _listed(options.sections)
    report = AuditReport.from_store(store, sections=sections)
    folder = write_report(report, store, options.out, formats=formats, locale=options.locale)
    if options.model_card:
        say(f"\n{report.model_card()}")
    _log(report, wandb=options.wandb, tensorboard=options.tensorboard, mlflow=options.mlflow)
    if options.open:
        _open(folder)
    asked = sections is None or "memorization" in sections
    return MissingDataError.exit_code if asked and report.content["memorization"]["status"] != "ok" else 0


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _log(report: AuditReport, *, wandb: str | None, tensorboard: str | None, mlflow: str | None) -> None:
    """To the trackers that were named."""
    if wandb is None and tensorboard is None and mlflow is None:
        return
    from lightning_memaudit.loggers import log_to_mlflow, log_to_tensorboard, log_to_wandb
    from lightning_memaudit.loggers.payload import payload_of

    payload = payload_of(report)
    if wandb is not None:
        say(f"logged to W&B: {log_to_wandb(payload, project=wandb)}")
    if tensorboard is not None:
        log_to_tensorboard(payload, tensorboard)
        say(f"logged to TensorBoard: {tensorboard}")
    if mlflow is not None:
        log_to_mlflow(payload, tracking_uri=mlflow, experiment="memaudit")
        say(f"logged to MLflow: {mlflow}")


def _open(folder: str) -> None:
    page = Path(folder) / "report.html"
    if not page.is_file() or not webbrowser.open(page.resolve().as_uri()):
        say(f"no browser could be started; open {page} by hand")
