"""``memaudit status, report, export`` and the help of all commands."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit import OutcomeStore, __version__
from lightning_memaudit.cli import main
from lightning_memaudit.record import Record
from lightning_memaudit.sections.memorization import memorization_section
from tests.helpers.shared import once

HOSTILE = {"red", 'a,"b"\n=1+1\r', "<b>|x|</b>", "é"}


@pytest.fixture(scope="session")
def finished(project, tmp_path_factory):
    def run(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(project))
            code = main(
                ["run", "--model", "cli_project.Net", "--data", "cli_project.Data", "--optimizer", "torch.optim.SGD",
                 "--optimizer.lr", "0.1", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--n-models",
                 "6", "--audit.groups", "{colour: colour}", "--store", str(folder / "store"), "--no-progress"]
            )  # fmt: skip
        assert code == 0

    return once(tmp_path_factory, "run by the command", run) / "store"


@pytest.fixture
def store(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_status_of_a_healthy_store(memaudit, store):
    result = memaudit("status", str(store))
    assert (result.code, result.err) == (0, "")
    plan = OutcomeStore(store).plan
    for fact in (plan.digest, "24 examples", "fixed_size", "train (24)", "cli_project.Net", "baseline: 6 models"):
        assert fact in result.out
    assert "damaged" not in result.out


@pytest.mark.parametrize("name", ["outcomes/baseline/000002.npz", "examples/train.npz"])
def test_status_names_what_is_damaged(memaudit, store, name):
    path = store / name
    path.write_bytes(path.read_bytes()[:-40])
    result = memaudit("status", str(store))
    assert result.code == 4
    damaged = [line for line in result.out.splitlines() if line.startswith("damaged")]
    assert len(damaged) == 1
    assert name in damaged[0]
    if "outcomes" in name:
        assert "baseline: 5 models, 1 damaged" in result.out


def test_status_counts_unfinished_files(memaudit, store):
    (store / "outcomes/baseline/000009.npz.1234.tmp").write_bytes(b"half")
    result = memaudit("status", str(store))
    assert result.code == 0
    assert "unfinished  1 files" in result.out


@pytest.mark.parametrize("command", ["status", "report", "export"])
def test_no_store(memaudit, tmp_path, command):
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        result = memaudit(command, place)
        assert result.code == 4
        assert "no audit is recorded there" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_manifest_that_is_no_manifest(memaudit, store):
    (store / "manifest.json").write_text("{")
    result = memaudit("status", str(store))
    assert result.code == 4
    assert "manifest.json" in result.err


def test_report(memaudit, store, tmp_path):
    shutil.rmtree(store / "report")
    assert memaudit("report", str(store)).code == 0
    result = memaudit("report", str(store), "--out", "elsewhere")
    assert result.code == 0
    assert "report written to elsewhere" in result.out
    for folder in (store / "report", tmp_path / "elsewhere"):
        content = json.loads((folder / "report.json").read_text())
        assert content["memorization"]["n_models"] == 6
        assert (folder / "report.md").is_file()
        assert (folder / "report.html").is_file()
        assert list((folder / "figures").iterdir())


def test_report_of_some_sections_in_some_formats(memaudit, store):
    result = memaudit(
        "report", str(store), "--out", "some", "--format", "html", "--sections", "memorization", "--locale", "de",
        "--model-card",
    )  # fmt: skip
    assert result.code == 0
    assert [path.name for path in Path("some").iterdir()] == ["report.html"]
    assert "## Memorization and privacy" in result.out
    page = Path("some/report.html").read_text()
    assert 'data-decimal=","' in page
    assert "data:image/png" not in page


def test_a_report_without_memorization_is_fine_where_it_was_not_asked_for(memaudit, store):
    assert memaudit("report", str(store), "--out", "some", "--sections", "accuracy", "--format", "json").code == 0


def test_report_goes_to_trackers(memaudit, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    trackers = ("--tensorboard", "board", "--mlflow", "mlruns")
    result = memaudit(
        "report", str(store), "--out", "some", "--format", "json", "--sections", "memorization", *trackers
    )
    assert result.code == 0
    assert "logged to TensorBoard: board" in result.out
    assert list(Path("board").glob("events.out.tfevents.*"))
    assert list(Path("mlruns").rglob("report.json"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "pdf"), "formats='pdf': there is no such format; take some of html, md, json"),
        (("--sections", "impct"), "sections='impct': there is no such section"),
        (("--sections", ""), "sections=[]: name at least one of memorization"),
        (("--out", "manifest/x"), "--out='manifest/x': "),
        (("--locale", "klingon"), "locale='klingon' is not known"),
        (("--open", "--format", "json"), "--open shows report.html; add html to --format=json"),
    ],
)
def test_report_refuses_what_it_does_not_know(memaudit, store, arguments, says):
    Path("manifest").write_text("")
    result = memaudit("report", str(store), *arguments)
    assert result.code == 2
    assert says in result.err


def test_export_csv(memaudit, store, tmp_path):
    result = memaudit("export", str(store), "--out", "tables/scores.csv")
    assert result.code == 0
    assert "24 rows" in result.out
    with (tmp_path / "tables/scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    section = memorization_section(Record(OutcomeStore(store)))
    assert [int(row["index"]) for row in rows] == list(range(24))
    np.testing.assert_array_equal([float(row["memorization"]) for row in rows], section.score)
    assert {row["colour"] for row in rows} == HOSTILE
    assert [row["colour"] for row in rows] == section.columns()["colour"].tolist()


def test_export_to_an_absolute_path_and_by_default(memaudit, store, tmp_path):
    assert memaudit("export", str(store), "--out", str(tmp_path / "scores.csv")).code == 0
    assert memaudit("export", str(store)).code == 0
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "memorization.csv").read_bytes()


def test_export_parquet(memaudit, store, tmp_path):
    import pandas

    assert memaudit("export", str(store), "--out", "scores.parquet").code == 0
    table = pandas.read_parquet(tmp_path / "scores.parquet")
    section = memorization_section(Record(OutcomeStore(store)))
    np.testing.assert_array_equal(table["memorization"], section.score)
    assert set(table["colour"]) == HOSTILE


@pytest.mark.parametrize("name", ["scores.xlsx", "scores", "folder/"])
def test_export_of_another_kind(memaudit, store, tmp_path, name):
    result = memaudit("export", str(store), "--out", name)
    assert result.code == 2
    assert ".csv or .parquet" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_help(memaudit):
    result = memaudit("--help")
    assert result.code == 0
    for command in ("run", "status", "report", "export", "gate", "theory", "demo"):
        assert f"\n  {command} " in result.out
        shown = memaudit(command, "--help")
        assert shown.code == 0
        assert f"usage: memaudit {command}" in shown.out
    assert "exit codes" in result.out


def test_help_of_run_lists_the_audit_block(memaudit):
    shown = memaudit("run", "--help").out
    for option in ("--audit.n_models", "--audit.groups", "--dry-run", "--out", "--n-models", "--trainer.max_epochs"):
        assert option in shown
    assert "ckpt_path" not in shown
    assert "Size of the population" in shown


def test_version(memaudit):
    assert memaudit("--version").out.strip() == __version__
