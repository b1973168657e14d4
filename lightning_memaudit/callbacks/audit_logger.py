"""The callback that sends an audit to the loggers of the Trainer."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from lightning_memaudit.callbacks.passive import InternalCallback
from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.outcomes.store import OutcomeStore

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from lightning.pytorch import LightningModule, Trainer

    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["AuditLogger"]


class AuditLogger(InternalCallback):
    """Logs the audit to every logger of the Trainer when ``fit`` has ended, once, on rank zero.

    The audit is the report or the store that is given, else the store of an ``OutcomeRecorder`` (or the ``report`` of
    another callback) among the Trainer's callbacks; their order does not matter. What the run trains stays as it is.

    Args:
        store: An ``OutcomeStore``, a folder, or an fsspec URL.
        report: A report, in place of a store.
        sections: Sections of the report that is made of a store; None takes all. Leaving ``"gallery"`` out keeps
            training examples themselves out of the loggers.

    Raises:
        ArgumentError: A report is given together with what it would be made of.

    Example:
        ::

            recorder = OutcomeRecorder("audits/cifar")
            trainer = Trainer(logger=WandbLogger(project="cifar"), callbacks=[recorder, AuditLogger()])
            trainer.fit(LitNet(), datamodule=SubsetDataModule(CifarData(), plan, model_id=k))

    Note:
        The report takes all models of the store each time. Where one model is a job of its own, add the callback to the
        last one, or run ``memaudit report STORE --wandb PROJECT`` after them.
    """

    def __init__(
        self,
        store: OutcomeStore | str | os.PathLike[str] | None = None,
        report: AuditReport | None = None,
        *,
        sections: Sequence[str] | None = None,
    ) -> None:
        if report is not None and not (store is None and sections is None):
            raise argument_error("report", report, "None is needed with store or sections; a report is logged as it is")
        self.store = store if isinstance(store, OutcomeStore | None) else OutcomeStore(store)
        self.report = report
        self.sections = sections

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Log the audit: recorders have written in ``on_fit_end``, and loggers are finalized after this."""
        if stage != "fit" or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        from lightning_memaudit.loggers.find import log_report
        from lightning_memaudit.loggers.payload import payload_of

        if not trainer.loggers:
            _warn("the Trainer has no logger; pass one, Trainer(logger=CSVLogger('logs'))")
            return
        try:
            report = self._find(trainer)
        except MissingDataError as missing:
            _warn(str(missing))
            return
        payload = payload_of(report)
        for logger in trainer.loggers:
            log_report(payload, logger)

    def _find(self, trainer: Trainer) -> AuditReport:
        from lightning_memaudit.report.audit_report import AuditReport

        others = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
        for source in (self, *others):
            if isinstance(report := getattr(source, "report", None), AuditReport):
                return report
            if isinstance(store := getattr(source, "store", None), OutcomeStore):
                return AuditReport.from_store(store, sections=self.sections)
        raise MissingDataError(
            "it has neither a store nor a report, and no other callback of the Trainer has one; pass "
            "AuditLogger(store=...) or add an OutcomeRecorder"
        )


def _warn(reason: str) -> None:
    warnings.warn(f"AuditLogger logs nothing: {reason}", stacklevel=2)
