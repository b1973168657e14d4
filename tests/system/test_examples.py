"""Every example runs as its docstring says, in a folder of its own; one of them in a process of its own, too."""

from __future__ import annotations

import gzip
import json
import logging
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit import OutcomeStore
from lightning_memaudit.cli import main
from lightning_memaudit.data.randomness import preserved_randomness

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """A copy of the examples, below the working directory."""
    monkeypatch.chdir(tmp_path)
    ignored = shutil.ignore_patterns("__pycache__", "*-audit", "lightning_logs")
    return shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=ignored)


@pytest.fixture
def example(examples, monkeypatch, capfd):
    """Run a script of the examples in this process, as ``python examples/SCRIPT`` would; what it prints."""
    modules, loggers = set(sys.modules), logging.getLogger("lightning.pytorch")
    level = loggers.level

    def _example(script, *arguments):
        path = examples / script
        monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        capfd.readouterr()
        with preserved_randomness():
            runpy.run_path(str(path), run_name="__main__")
        return capfd.readouterr().out

    yield _example
    loggers.setLevel(level)
    for name in set(sys.modules) - modules:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(examples)):
            del sys.modules[name]


def memorization(folder):
    report = json.loads((folder / "report.json").read_text())
    assert (folder / "report.md").read_text().startswith("#")
    assert list((folder / "figures").iterdir())
    return report["memorization"]


def test_callback_in_your_script(example, tmp_path):
    script = ["callback_in_your_script.py", "--max-epochs", "3"]
    example(*script, "--model-id", "1")
    assert OutcomeStore(tmp_path / "callback-audit/store").model_ids() == [1]
    assert "3 models, 400 training examples" in example(*script, "--n-models", "3")
    assert memorization(tmp_path / "callback-audit")["n_models"] == 3


def test_audit_digits_in_a_process_of_its_own(examples, tmp_path):
    done = subprocess.run(
        [sys.executable, "examples/audit_digits.py", "--n-models", "4", "--out", "out"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "4 models, 500 training examples" in done.stdout
    listed = [line for line in done.stdout.splitlines() if line.startswith("  example")]
    assert len(listed) == 5
    assert all("annotation" in line for line in listed)
    assert "Warning" not in done.stderr
    found = memorization(tmp_path / "out")
    assert "annotation" in json.dumps(found)
    assert set(OutcomeStore(tmp_path / "out/store").examples("test").groups) == {"digit", "annotation"}


@pytest.mark.filterwarnings("ignore:The number of training batches")  # is less than log_every_n_steps
def test_log_to_your_loggers(example, tmp_path):
    out = example("log_to_your_loggers.py", "--n-models", "2")
    assert "the audit is in logged-audit/csv/version_0/memaudit" in out
    logged = tmp_path / "logged-audit/csv/version_0/memaudit"
    assert json.loads((logged / "report.json").read_text())["memorization"]["n_models"] == 2
    assert list((tmp_path / "logged-audit/tensorboard/version_0").glob("events.out.tfevents.*"))


def test_lightning_cli(examples, monkeypatch, capfd):
    monkeypatch.chdir(examples / "lightning_cli")
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds the working directory
    run = ["run", "--config", "config.yaml", "--config", "audit.yaml", "--n-models", "3", "--trainer.max_epochs", "2"]
    try:
        assert main(run) == 0
    finally:
        sys.modules.pop("project", None)
    assert "3 models, 500 training examples" in capfd.readouterr().out
    assert memorization(examples / "lightning_cli/digits-audit/report")["n_models"] == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LightningCLI's own use of jsonargparse
def test_the_same_configuration_trains_one_model(example, examples, monkeypatch):
    monkeypatch.chdir(examples / "lightning_cli")
    example("lightning_cli/project.py", "fit", "--config", "config.yaml", "--trainer.fast_dev_run", "true")


def census(folder, n_train=400, n_test=200):
    """Invented people in the format of UCI's files; the only Indian women with a high income are in training."""
    rng = np.random.default_rng(0)

    def person(i, end):
        race, sex = rng.choice(["White", "Black"], p=[0.8, 0.2]), rng.choice(["Male", "Female"])
        rich = rng.random() < (0.4 if sex == "Male" else 0.2)
        if i < 3:
            race, sex, rich = "Amer-Indian-Eskimo", "Female", not end
        work = rng.choice(["Private", "State-gov", "?"], p=[0.7, 0.2, 0.1])
        years = rng.integers(11, 17) if rich else rng.integers(5, 13)
        country = rng.choice(["United-States", "Mexico", "?"], p=[0.9, 0.08, 0.02])
        numbers = [rng.integers(17, 90), 77516 + i, years, 5000 * (rng.random() < 0.1), 0, rng.integers(20, 60)]
        age, weight, years, gain, loss, hours = map(str, numbers)
        known = ["Bachelors", years, "Never-married", "Sales", "Unmarried", race, sex, gain, loss, hours, country]
        return ", ".join([age, work, weight, *known, (">50K" if rich else "<=50K") + end])

    folder.mkdir()
    (folder / "adult.data").write_text("\n".join(person(i, "") for i in range(n_train)) + "\n\n")
    (folder / "adult.test").write_text(
        "|1x3 Cross validator\n" + "\n".join(person(i, ".") for i in range(n_test)) + "\n\n"
    )


def test_private_digits(example, tmp_path):
    out = example("private_digits.py", "--n-models", "2", "--n-treated-models", "2", "--max-epochs", "1")
    for arm in ("dp-sgd-rate", "dp-searched"):
        assert f"{arm}: drops in accuracy, in points, with 95 % intervals" in out
    assert out.count("  tail: total ") == 2
    assert "was searched for dp-searched: it has the best accuracy of 0.1 (" in out
    assert "was searched for dp-searched" in (tmp_path / "private-audit/report.md").read_text()


def test_long_tail_digits(example, tmp_path):
    out = example("long_tail_digits.py", "--n-models", "2", "--n-treated-models", "2", "--max-epochs", "1")
    assert "155 subpopulations, 24 of them seen once" in out
    assert "prune-0.9: predicted" in out
    assert (tmp_path / "long-tail-audit/figures/predicted_costs.svg").exists()


def test_fashion_mnist_lt_reads_idx_files(example, tmp_path):
    """Noise in the form of the real files."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 24_000), ("t10k", 2_500)):
        labels = np.tile(np.arange(10, dtype=np.uint8), n // 10)
        images = rng.integers(0, 256, (n, 784), dtype=np.uint8)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(bytes(8) + labels.tobytes())
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + images.tobytes(), 1))
    size = ["--n-models", "2", "--n-treated-models", "2", "--max-epochs", "1"]
    out = example("fashion_mnist_lt.py", "--data", ".", *size)
    assert "No subpopulation is seen 5 times or less" in out
    assert memorization(tmp_path / "fashion-audit")["n_examples"] == 4958


def test_adult(example, tmp_path):
    census(tmp_path / "adult")
    size = ["--n-models", "4", "--n-treated-models", "2", "--max-epochs", "2"]
    out = example("adult.py", "--data", "adult", *size, "--out", "out")
    assert "4 models, 400 training examples" in out
    tables = out.split("\n\n")[-3:]
    assert [table.split(":")[0].strip() for table in tables] == ["clip-only", "dpsgd-eps1", "prune-0.9"]
    for table in tables:
        rows = [line for line in table.splitlines() if " people " in line]
        assert [row for row in rows if "no examples" in row] == [row for row in rows if " 0 people " in row]
        assert any(row.startswith("  Amer-Indian-Eskimo × Female × >50K") and " 0 people " in row for row in rows)
        assert any("Amer-Indian-Eskimo × Female × <=50K" in row and " 3 people " in row for row in rows)
        assert sum(int(row.split(" people ")[0].split()[-1]) for row in rows) == 200
    known = OutcomeStore(tmp_path / "out/store").examples("test").groups
    assert set(known) == {"race x sex x income", "race x sex", "country"}
    assert "(missing)" in known["country"].names
    impact = json.loads((tmp_path / "out/report.json").read_text())["impact"]
    assert set(impact["arms"]) == {"clip-only", "dpsgd-eps1", "prune-0.9"}


def test_adult_says_where_to_get_the_data(example):
    with pytest.raises(
        SystemExit, match=r"download https://archive\.ics\.uci\.edu/static/public/2/adult\.zip"
    ) as stopped:
        example("adult.py", "--data", "nowhere", "--out", "out")
    assert isinstance(stopped.value.code, str)  # which Python prints, and ends with exit code 1
    assert [path.name for path in Path().iterdir()] == ["examples"]
