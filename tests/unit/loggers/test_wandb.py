import gc
import time
import warnings
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger
from wandb.sdk.artifacts import artifact_instance_cache

from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.loggers import log_report, log_to_wandb
from lightning_memaudit.loggers.wandb import ARTIFACT_TYPE
from tests.helpers.reports import HOSTILE
from tests.helpers.wandb_log import RunLog, read_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where W&B writes, with a home folder that it must leave alone."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
            (folder / name).mkdir()
            patch.setenv(name, str(folder / name))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        wandb.teardown()  # it reads its environment once, which another test may have made it do
        yield folder
        wandb.teardown()


@contextmanager
def tidy():
    """W&B remembers artifacts, and leaves their temporary folders to the garbage collector, which warns of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Implicitly cleaning up", ResourceWarning)
        yield
        for cache in vars(artifact_instance_cache).values():  # one up to W&B 0.20, several after it
            if isinstance(cache, OrderedDict):
                cache.clear()
        gc.collect()


@pytest.fixture(scope="module")
def logged(folder, payload):
    with tidy():
        return log_everywhere(folder, payload)


def log_everywhere(folder, payload) -> SimpleNamespace:
    """A run of the user's that an audit is logged to twice, between metrics of her own; meanwhile one of its own."""
    logger = WandbLogger(project="mine", id="mine", save_dir=folder / "WANDB_DIR")
    run = logger.experiment
    logger.log_metrics({"loss": 0.5}, step=3)
    log_report(payload, logger)
    log_report(payload, logger)
    where = folder / "WANDB_DIR"
    alone = []
    for _ in range(2):
        alone.append(Path(log_to_wandb(payload, project="audits", tags=["nightly"], dir=str(where))))
        time.sleep(1 - time.time() % 1)  # W&B 0.20 names a folder by run and second
    assert wandb.run is run
    logger.log_metrics({"loss": 0.25}, step=4)
    path = Path(run.settings.sync_file)
    run.finish()
    return SimpleNamespace(
        mine=read_run(path), alone=[read_run(next(place.glob("*.wandb"))) for place in alone], home=folder / "HOME"
    )


@pytest.fixture(params=["mine", "alone"])
def log(request, logged) -> RunLog:
    return logged.mine if request.param == "mine" else logged.alone[0]


def test_scalars_have_the_number_of_models_for_x_axis(log, payload) -> None:
    rows = [row for row in log.history if "memaudit/n_models" in row]
    for row in rows:
        assert {name: row[name] for name in payload.scalars} == pytest.approx(payload.scalars)
    assert {name: log.summary[name] for name in payload.scalars} == pytest.approx(payload.scalars)
    assert log.summary["memaudit/summary"] == payload.summary
    axes = {metric.name or metric.glob_name: metric.step_metric for metric in log.metrics}
    assert axes["memaudit/*"] == "memaudit/n_models"
    assert {axes[name] for name in payload.scalars if name != "memaudit/n_models"} == {"memaudit/n_models"}


def test_the_users_run_goes_on_and_no_step_is_dropped(logged) -> None:
    history = logged.mine.history
    assert [row.get("loss") for row in history] == [0.5, None, None, 0.25]
    assert [row["_step"] for row in history] == [0, 1, 2, 3]
    assert [row.get("trainer/global_step") for row in history if "loss" in row] == [3, 4]
    debug = "".join(path.read_text() for path in logged.mine.folder.rglob("*.log"))
    assert "step" not in "".join(line for line in debug.splitlines() if '"level":"WARN"' in line)


def test_tables_have_pictures_and_names_as_they_are(log, payload) -> None:
    for name, table in payload.tables.items():
        logged = log.table(name)
        assert logged["columns"] == list(table.columns)
        assert len(logged["data"]) == len(table.rows)
    top = log.table("memaudit/top")
    pictures = [row[top["columns"].index("example")] for row in top["data"]]
    assert 0 < len(pictures) <= 108
    assert {(picture["_type"], picture["width"], picture["height"]) for picture in pictures} == {("image-file", 8, 8)}
    groups = log.table("memaudit/memorization/by_group")
    assert {row[groups["columns"].index("group")] for row in groups["data"]} == set(HOSTILE)


def test_histograms_and_figures(log, report, payload) -> None:
    stored = report.content["memorization"]["histogram"]
    histogram = log.last("memaudit/memorization/histogram")
    assert (histogram["values"], histogram["bins"]) == (stored["counts"], stored["edges"])
    for name, figure in payload.figures.items():
        media = log.last(name)
        assert media["caption"] == figure.caption
        assert (log.folder / "files" / media["path"]).read_bytes().startswith(b"\x89PNG")


def test_one_artifact_has_everything(log, payload) -> None:
    artifacts = [artifact for artifact in log.artifacts if artifact.type == ARTIFACT_TYPE]
    for artifact in artifacts:
        assert artifact.name == payload.name
        assert sorted(artifact.aliases) == ["latest", "n12"]
        files = log.files(artifact.client_id)
        assert {"report.json", "report.md", "report.html", "memorization.csv"} <= set(payload.files) <= set(files)
        assert all(files[name].read_bytes() == content for name, content in payload.files.items())
    assert len({artifact.digest for artifact in artifacts}) == 1  # W&B makes no second version of the same files


def test_a_grown_audit_goes_on_in_its_run(logged, payload) -> None:
    first, second = logged.alone
    assert first.run_id == second.run_id
    assert first.folder != second.folder
    assert first.project == "audits"
    assert first.exited
    assert second.exited
    assert first.config["memaudit"]["digests"] == payload.config["digests"]
    assert logged.mine.run_id == "mine"
    assert logged.mine.config["memaudit"]["n_models"] == 12


def test_nothing_is_in_the_home_folder(logged) -> None:
    assert list(logged.home.iterdir()) == []


def test_what_wandb_refuses_is_said(folder, payload) -> None:
    with pytest.raises(ConfigurationError, match=r"project='a/b': W&B refused the run"):
        log_to_wandb(payload, project="a/b")


def test_a_disabled_run_is_left_alone(folder, payload) -> None:
    with tidy():
        logger = WandbLogger(mode="disabled")
        log_report(payload, logger)
        logger.experiment.finish()
        del logger
