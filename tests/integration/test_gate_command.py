"""The installed ``memaudit gate`` in processes of its own: every exit code, and a start without torch or Lightning."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers.gates import report

RULE = '[rules.r]\nkind = "drop"\ntreatments = ["harsh"]\n'
B = 'groups = ["half=b"]\n'
POLICIES = {
    0: f"{RULE}{B}margin = 0.5\n",
    1: f"{RULE}{B}margin = 0.1\n",
    2: f"{RULE}{B}margn = 0.5\n",
    3: f'{RULE}{B}margin = 0.3\non_inconclusive = "fail"\n',
    4: f'{RULE}groups = ["half=c"]\nmargin = 0.5\n',
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(report()))
    for code, text in POLICIES.items():
        (tmp_path / f"{code}.toml").write_text(f"schema = 1\n{text}")
    return tmp_path


def test_exit_codes_of_the_command(folder) -> None:
    started = {
        code: subprocess.Popen(
            [sys.executable, "-m", "lightning_memaudit", "gate", "report.json", "--policy", f"{code}.toml"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for code in POLICIES
    }  # fmt: skip
    for code, process in started.items():
        out, err = process.communicate(timeout=200)
        assert process.returncode == code, err
        assert (f"(exit code {code})" in out) == (code != 2)


def test_a_report_is_judged_without_torch_and_lightning(folder) -> None:
    code = (
        "import sys; from lightning_memaudit.cli import main; assert main(sys.argv[1:]) == 0; "
        "print(*(name for name in ('torch', 'lightning') if name in sys.modules))"
    )
    arguments = ["gate", "report.json", "--policy", "0.toml"]
    run = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == ""
