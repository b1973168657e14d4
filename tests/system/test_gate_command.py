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


def test_exit_codes_of_the_command_and_no_torch_for_a_report(folder) -> None:
    noting_imports = ["-X", "importtime"]
    started = {
        code: subprocess.Popen(
            [sys.executable, *(noting_imports if code == 0 else ()), "-m", "lightning_memaudit",
             "gate", "report.json", "--policy", f"{code}.toml"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for code in POLICIES
    }  # fmt: skip
    for code, process in started.items():
        out, err = process.communicate(timeout=200)
        assert process.returncode == code, err
        assert (f"(exit code {code})" in out) == (code != 2)
        if code == 0:
            imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
            assert "lightning_memaudit.gates.evaluate" in imported
            assert not imported & {"torch", "lightning"}
