"""A fit of two processes with an AuditLogger; run by test_audits.py in a process of its own."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

sys.path.insert(0, str(Path(__file__).parents[3]))

from lightning_memaudit import AuditLogger, AuditReport
from tests.helpers.tiny import TinyData, TinyNet

OUT = Path(sys.argv[-1])


class Ledger(CSVLogger):
    """Notes, for each rank, how often an audit was logged."""

    logged = 0

    def log_metrics(self, metrics, step=None) -> None:
        super().log_metrics(metrics, step)
        self.logged += "memaudit/n_models" in metrics


class Net(TinyNet):
    def teardown(self, stage: str) -> None:
        (OUT / f"{self.global_rank}.rank").write_text(str(self.trainer.logger.logged))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    trainer = Trainer(
        callbacks=[AuditLogger(report=AuditReport.load(OUT / "report/report.json"))],
        logger=Ledger(OUT / "logs"),
        accelerator="cpu",
        strategy="ddp_fork",
        devices=2,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(), datamodule=TinyData())
