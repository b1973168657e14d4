"""What a PyTorch Lightning model memorizes, per example and per group, and who pays when memorization is limited."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_memaudit.version import __version__

if TYPE_CHECKING:
    from lightning_memaudit.audit import Audit
    from lightning_memaudit.callbacks.audit_logger import AuditLogger
    from lightning_memaudit.callbacks.differential_privacy import DifferentialPrivacy
    from lightning_memaudit.callbacks.outcome_recorder import OutcomeRecorder
    from lightning_memaudit.data.datamodule import SubsetDataModule
    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.gates.evaluate import evaluate_gate
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.report.audit_report import AuditReport

__all__ = [
    "Audit",
    "AuditLogger",
    "AuditReport",
    "DifferentialPrivacy",
    "OutcomeRecorder",
    "OutcomeStore",
    "SubsetDataModule",
    "SubsetPlan",
    "__version__",
    "evaluate_gate",
]

_HOMES = {
    "Audit": "lightning_memaudit.audit",
    "AuditLogger": "lightning_memaudit.callbacks.audit_logger",
    "AuditReport": "lightning_memaudit.report.audit_report",
    "DifferentialPrivacy": "lightning_memaudit.callbacks.differential_privacy",
    "OutcomeRecorder": "lightning_memaudit.callbacks.outcome_recorder",
    "OutcomeStore": "lightning_memaudit.outcomes.store",
    "SubsetDataModule": "lightning_memaudit.data.datamodule",
    "SubsetPlan": "lightning_memaudit.data.plan",
    "evaluate_gate": "lightning_memaudit.gates.evaluate",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
