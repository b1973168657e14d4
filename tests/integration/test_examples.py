"""Every example runs as its docstring says, in a process and a folder of its own."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit import OutcomeStore

EXAMPLES = Path(__file__).parents[2] / "examples"
MEMAUDIT = "import sys; from lightning_memaudit.cli import main; sys.exit(main())"


@pytest.fixture
def example(tmp_path):
    """Run a command in a copy of the examples."""
    shutil.copytree(
        EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__", "*-audit", "lightning_logs")
    )

    def _example(*command, folder="."):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path / folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done

    return _example


def memorization(folder):
    report = json.loads((folder / "report.json").read_text())
    assert (folder / "report.md").read_text().startswith("#")
    assert list((folder / "figures").iterdir())
    return report["memorization"]


def test_callback_in_your_script(example, tmp_path):
    script = ["examples/callback_in_your_script.py", "--max-epochs", "3"]
    example(*script, "--model-id", "1")
    assert OutcomeStore(tmp_path / "callback-audit/store").model_ids() == [1]
    done = example(*script, "--n-models", "3")
    assert "3 models, 400 training examples" in done.stdout
    assert memorization(tmp_path / "callback-audit")["n_models"] == 3


def test_audit_digits(example, tmp_path):
    done = example("examples/audit_digits.py", "--n-models", "8", "--out", "out")
    assert "8 models, 500 training examples" in done.stdout
    listed = [line for line in done.stdout.splitlines() if line.startswith("  example")]
    assert len(listed) == 5
    assert all("annotation" in line for line in listed)
    assert "Warning" not in done.stderr
    found = memorization(tmp_path / "out")
    assert "annotation" in json.dumps(found)
    assert set(OutcomeStore(tmp_path / "out/store").examples("test").groups) == {"digit", "annotation"}


def test_log_to_your_loggers(example, tmp_path):
    done = example("examples/log_to_your_loggers.py", "--n-models", "2")
    assert "the audit is in logged-audit/csv/version_0/memaudit" in done.stdout
    assert "Warning" not in done.stderr
    logged = tmp_path / "logged-audit/csv/version_0/memaudit"
    assert json.loads((logged / "report.json").read_text())["memorization"]["n_models"] == 2
    assert list((tmp_path / "logged-audit/tensorboard/version_0").glob("events.out.tfevents.*"))


def test_lightning_cli(example, tmp_path):
    folder = "examples/lightning_cli"
    run = ["-c", MEMAUDIT, "run", "--config", "config.yaml", "--config", "audit.yaml", "--n-models", "3"]
    done = example(*run, "--trainer.max_epochs", "2", folder=folder)
    assert "3 models, 500 training examples" in done.stdout
    assert memorization(tmp_path / folder / "digits-audit/report")["n_models"] == 3


def test_the_same_configuration_trains_one_model(example):
    fit = ["project.py", "fit", "--config", "config.yaml", "--trainer.fast_dev_run", "true"]
    example(*fit, folder="examples/lightning_cli")


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
    script = ["examples/private_digits.py", "--n-models", "2", "--n-treated-models", "2", "--max-epochs", "1"]
    done = example(*script)
    for arm in ("dp-sgd-rate", "dp-searched"):
        assert f"{arm}: drops in accuracy, in points, with 95 % intervals" in done.stdout
    assert done.stdout.count("  tail: total ") == 2
    assert "was searched for dp-searched: it has the best accuracy of 0.1 (" in done.stdout
    assert "was searched for dp-searched" in (tmp_path / "private-audit/report.md").read_text()


def test_long_tail_digits(example, tmp_path):
    script = ["examples/long_tail_digits.py", "--n-models", "2", "--n-treated-models", "2", "--max-epochs", "1"]
    done = example(*script)
    assert "155 subpopulations, 24 of them seen once" in done.stdout
    assert "prune-0.9: predicted" in done.stdout
    assert (tmp_path / "long-tail-audit/figures/predicted_costs.svg").exists()


def test_fashion_mnist_lt_reads_idx_files(example, tmp_path):
    """Noise in the form of the real files."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 24_000), ("t10k", 2_500)):
        labels = np.tile(np.arange(10, dtype=np.uint8), n // 10)
        images = rng.integers(0, 256, (n, 784), dtype=np.uint8)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(bytes(8) + labels.tobytes())
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + images.tobytes(), 1))
    script = ["examples/fashion_mnist_lt.py", "--n-models", "2", "--n-treated-models", "2", "--max-epochs", "1"]
    done = example(*script, "--data", ".")
    assert "No subpopulation is seen 5 times or less" in done.stdout
    assert memorization(tmp_path / "fashion-audit")["n_examples"] == 4958


def test_adult(example, tmp_path):
    census(tmp_path / "adult")
    size = ["--n-models", "4", "--n-treated-models", "2", "--max-epochs", "2"]
    done = example("examples/adult.py", "--data", "adult", *size, "--out", "out")
    assert "4 models, 400 training examples" in done.stdout
    tables = done.stdout.split("\n\n")[-3:]
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


def test_adult_says_where_to_get_the_data(tmp_path):
    command = [sys.executable, str(EXAMPLES / "adult.py"), "--data", str(tmp_path / "nowhere")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "download https://archive.ics.uci.edu/static/public/2/adult.zip" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
