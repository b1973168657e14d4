"""AuditLogger in real fits of a tiny model."""

import json

import pytest
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_memaudit import AuditLogger, AuditReport, OutcomeRecorder, OutcomeStore, SubsetDataModule, SubsetPlan
from lightning_memaudit.exceptions import ArgumentError
from tests.helpers.reports import small_store
from tests.helpers.tiny import TinyData, TinyNet

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 1}
PLAN = SubsetPlan(40, seed=0)


def fit(folder, *callbacks, model_id=0, logger=True, **arguments) -> None:
    loggers = CSVLogger(folder / "logs", name="run", version=model_id) if logger is True else logger
    seed_everything(PLAN.model_seed(model_id), verbose=False)
    trainer = Trainer(
        callbacks=list(callbacks), logger=loggers, enable_checkpointing=False, log_every_n_steps=1, **QUIET, **arguments
    )
    trainer.fit(TinyNet(), datamodule=SubsetDataModule(TinyData(), PLAN, model_id))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> OutcomeStore:
    return small_store(tmp_path_factory.mktemp("known"), n_models=4)


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
class TestInAFit:
    @pytest.mark.parametrize("first", [True, False], ids=["before the recorder", "after the recorder"])
    def test_the_model_of_this_run_is_in_what_is_logged(self, tmp_path, first) -> None:
        fit(tmp_path, OutcomeRecorder(tmp_path / "store"))
        ours, recorder = AuditLogger(), OutcomeRecorder(tmp_path / "store")
        fit(tmp_path, *((ours, recorder) if first else (recorder, ours)), model_id=1)
        content = json.loads((tmp_path / "logs/run/version_1/memaudit/report.json").read_text())
        assert content["memorization"]["n_models"] == 2
        metrics = (tmp_path / "logs/run/version_1/metrics.csv").read_text().splitlines()
        columns = metrics[0].split(",")
        logged = [row.split(",")[columns.index("memaudit/n_models")] for row in metrics[1:]]
        assert [value for value in logged if value] == ["2.0"]
        assert [row.split(",")[columns.index("train_loss")] for row in metrics[1:]].count("") == 2

    def test_every_logger_is_served_from_a_store_of_ones_own(self, tmp_path, store) -> None:
        loggers = [CSVLogger(tmp_path, name="a", version=0), TensorBoardLogger(tmp_path, name="b", version=0)]
        fit(tmp_path, AuditLogger(store.url, sections=["memorization", "impact"]), logger=loggers)
        content = json.loads((tmp_path / "a/version_0/memaudit/report.json").read_text())
        assert content["gallery"] == {"status": "unavailable", "reason": "it was left out of this report"}
        assert content["impact"]["status"] == "ok"
        events = EventAccumulator(str(tmp_path / "b/version_0")).Reload()
        assert [event.value for event in events.Scalars("memaudit/n_models")] == [4]

    def test_a_report_does_as_well(self, tmp_path, store) -> None:
        report = AuditReport.from_store(store, sections=["memorization"])
        fit(tmp_path, AuditLogger(report=report))
        assert json.loads((tmp_path / "logs/run/version_0/memaudit/report.json").read_text()) == report.content

    @pytest.mark.parametrize(
        ("callback", "arguments", "reason"),
        [
            (AuditLogger(), {}, "it has neither a store nor a report, and no other callback"),
            (AuditLogger("nowhere"), {}, "nowhere"),
            (AuditLogger("nowhere"), {"logger": False}, "the Trainer has no logger; pass one"),
        ],
    )
    def test_there_is_one_warning_where_nothing_can_be_logged(self, tmp_path, callback, arguments, reason) -> None:
        with pytest.warns(UserWarning, match=f"AuditLogger logs nothing: .*{reason}") as warned:
            fit(tmp_path, callback, **arguments)
        assert len([1 for warning in warned if "AuditLogger" in str(warning.message)]) == 1

    def test_a_rehearsal_is_not_logged(self, tmp_path, store) -> None:
        fit(tmp_path, AuditLogger(store), fast_dev_run=True)
        assert not (tmp_path / "logs").exists()

    def test_other_stages_are_not_logged(self, tmp_path, store) -> None:
        trainer = Trainer(
            callbacks=[AuditLogger(store)], logger=CSVLogger(tmp_path), enable_checkpointing=False, **QUIET
        )
        trainer.validate(TinyNet(), datamodule=TinyData(), verbose=False)
        assert not list(tmp_path.rglob("memaudit"))


@pytest.mark.parametrize("other", [{"store": "audits"}, {"sections": ["impact"]}])
def test_a_report_is_logged_as_it_is(other) -> None:
    with pytest.raises(ArgumentError, match="a report is logged as it is"):
        AuditLogger(report=AuditReport({}), **other)
