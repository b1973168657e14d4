"""``memaudit run``: a LightningCLI configuration with an ``audit:`` block, from data to report."""

from __future__ import annotations

from lightning_memaudit.cli.config import AuditConfig
from lightning_memaudit.cli.output import duration, megabytes, say, write_report
from lightning_memaudit.exceptions import MissingDataError

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the command."""
    config = AuditConfig(arguments)
    shard = config.shard()
    audit = config.audit()
    if config.config["dry_run"]:
        estimate = audit.estimate()
        say(
            f"{estimate.n_models} models on {estimate.n_examples} examples, {estimate.n_missing} still to train\n"
            f"time   {duration(estimate.seconds)} ({duration(estimate.seconds_per_model)} a model, from "
            f"{estimate.basis})\n"
            f"disk   {megabytes(estimate.bytes_on_disk)} in {audit.store.url}"
        )
        if audit.treatments:
            names = ", ".join(treatment.name for treatment in audit.treatments)
            say(f"arms   {names}: {audit.n_treated_models} models each, which come on top")
        if shard is not None:
            say(f"shard  {shard[0]}/{shard[1]}: about {duration(estimate.seconds / shard[1])}")
        return 0
    audit.train(shard=shard, progress=not config.config["no_progress"])
    if shard is not None and (missing := audit.missing()):
        say(
            f"shard {shard[0]}/{shard[1]} is trained; the other shards still lack {len(missing)} of {audit.n_models} "
            f"models. When all are done: memaudit report {audit.store.url}"
        )
        return 0
    report = audit.report()
    write_report(report, audit.store, config.config["out"])
    return 0 if report.content["memorization"]["status"] == "ok" else MissingDataError.exit_code
