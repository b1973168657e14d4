import pytest
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.loggers import log_report


class Ledger(Logger):
    """A logger that nobody has heard of."""

    name, version = "ledger", 0

    def __init__(self) -> None:
        super().__init__()
        self.entries: list = []

    def log_hyperparams(self, *args, **kwargs) -> None: ...

    def log_metrics(self, metrics, step=None) -> None:
        self.entries.append((metrics, step))


def test_an_unknown_logger_is_given_the_scalars(payload) -> None:
    ledger = Ledger()
    with pytest.warns(UserWarning, match="Ledger is given the scalars of the audit alone") as warned:
        log_report(payload, ledger)
    assert len(warned) == 1
    assert ledger.entries == [(payload.scalars | payload.group_scalars, 12)]


def test_what_is_no_logger_is_refused(report) -> None:
    with pytest.raises(ArgumentError, match=r"logger='wandb': a logger of lightning\.pytorch\.loggers is needed"):
        log_report(report, "wandb")


def test_other_ranks_log_nothing(report, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log_report(report, CSVLogger(tmp_path))
    assert list(tmp_path.iterdir()) == []
