import pytest
from lightning.pytorch.loggers import MLFlowLogger

from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.loggers import log_report, log_to_mlflow


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes seconds to set up
        yield f"file:{tmp_path_factory.mktemp('mlflow')}"


@pytest.fixture
def client(uri):
    from mlflow.tracking import MlflowClient  # takes seconds to import

    return MlflowClient(uri)


def names(client, run_id, folder) -> set[str]:
    found = set()
    for entry in client.list_artifacts(run_id, folder):
        found |= names(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return found


def check(client, run_id, payload) -> None:
    run = client.get_run(run_id)
    scalars = payload.scalars | payload.group_scalars
    assert {name: value for name, value in run.data.metrics.items() if name.startswith("memaudit/")} == scalars
    assert {entry.step for entry in client.get_metric_history(run_id, "memaudit/memorization/mean_score")} == {12}
    assert run.data.tags["memaudit.digests.plan"] == payload.config["digests"]["plan"]
    assert run.data.tags["memaudit.audit"] == payload.name
    assert run.data.tags["memaudit.summary"] == payload.summary
    assert {f"memaudit/{name}" for name in payload.files} <= names(client, run_id, "memaudit")


def test_mlflow_logger_goes_on_with_its_own_metrics(payload, uri, client) -> None:
    logger = MLFlowLogger("audits", tracking_uri=uri)
    log_report(payload, logger)
    log_report(payload, logger)
    logger.log_metrics({"loss": 0.25}, step=4)
    check(client, logger.run_id, payload)
    run = client.get_run(logger.run_id)
    assert (run.info.status, run.data.metrics["loss"]) == ("RUNNING", 0.25)


def test_a_run_of_its_own(payload, uri, client) -> None:
    run_id = log_to_mlflow(payload, tracking_uri=uri, experiment="alone")
    check(client, run_id, payload)
    info = client.get_run(run_id).info
    assert (info.status, info.run_name) == ("FINISHED", payload.name)
    assert client.get_experiment(info.experiment_id).name == "alone"


def test_what_mlflow_refuses_is_said(payload) -> None:
    with pytest.raises(ConfigurationError, match=r"tracking_uri='nosuch://x', experiment='a': MLflow refused"):
        log_to_mlflow(payload, tracking_uri="nosuch://x", experiment="a")
