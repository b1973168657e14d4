"""The fixture ``memaudit_gate`` in test runs of its own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import lightning_memaudit.gates.evaluate
import lightning_memaudit.outcomes.store
import lightning_memaudit.report.audit_report  # noqa: F401 - runs forget what they imported, and would do so each time
from tests.helpers.gates import report

pytest_plugins = ["pytester"]

PLUGIN = "lightning_memaudit.gates.pytest_plugin"
POLICY = """\
schema = 1
[rules.lenient]
kind = "drop"
margin = 0.6
groups = ["half=[ab]"]
[rules.strict]
kind = "drop"
margin = 0.01
groups = ["half=[ab]"]
[rules.open]
kind = "drop"
margin = 0.3
treatments = ["harsh"]
groups = ["half=b"]
[rules.decided]
kind = "drop"
margin = 0.3
treatments = ["harsh"]
groups = ["half=b"]
on_inconclusive = "fail"
[rules.absent]
kind = "drop"
margin = 0.3
groups = ["half=zz"]
[rules.told]
kind = "drop"
margin = 0.01
groups = ["half=b"]
informational = true
"""


@pytest.fixture(scope="module")
def written():
    return json.dumps(report())


@pytest.fixture
def folder(pytester, written, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.path.joinpath("report.json").write_text(written)
    pytester.path.joinpath("memaudit.toml").write_text(POLICY)
    pytester.makeini("[pytest]\nmemaudit_report = report.json")
    pytester.makepyfile("def test_gate(memaudit_gate):\n    memaudit_gate.check()\n")
    return pytester


def run(folder, *arguments):
    return folder.runpytest_inprocess("-p", PLUGIN, *arguments)


def test_the_plugin_is_found_by_pytest() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"memaudit": PLUGIN}


def test_one_item_a_rule(folder) -> None:
    result = run(folder, "-rA")
    result.assert_outcomes(passed=1, failed=3, skipped=2)
    result.stdout.fnmatch_lines_random(
        [
            "PASSED *test_gate[[]lenient]*",
            "FAILED *test_gate[[]strict]*",
            "FAILED *test_gate[[]decided]*",
            "FAILED *test_gate[[]absent]*",
            "error: mild · half=zz: no group fits*",
            "fail: harsh · half=b: +30* points, at least*",
            "inconclusive: harsh · half=b: +30*would decide it",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    run(folder, "-k", "lenient").assert_outcomes(passed=1, deselected=5)


def test_the_command_line_goes_before_the_marker_and_that_before_settings(folder) -> None:
    folder.path.joinpath("own.toml").write_text('schema = 1\n[rules.own]\nkind = "drop"\nmargin = 0.6\n')
    folder.makepyfile(
        "import pytest\n\n@pytest.mark.memaudit(policy='own.toml')\n"
        "def test_gate(memaudit_gate):\n    assert memaudit_gate.name == 'own'\n    assert memaudit_gate.rows\n"
    )
    run(folder).assert_outcomes(passed=1)
    run(folder, "--memaudit-policy", "memaudit.toml").assert_outcomes(failed=6)
    missing = run(folder, "--memaudit-report", "none.json")
    missing.assert_outcomes(errors=1)
    missing.stdout.fnmatch_lines(["*memaudit_gate: report=*none.json*neither a report.json nor a store*"])


def test_a_baseline_is_passed_on(folder) -> None:
    folder.path.joinpath("memaudit.toml").write_text(
        'schema = 1\n[rules.r]\nkind = "regression"\nmargin = 0.1\ngroups = ["half=a"]\n'
    )
    run(folder).assert_outcomes(failed=1)
    run(folder, "--memaudit-baseline", "report.json").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("ini", "policy", "marker", "words"),
    [
        ("", POLICY, "", "pass --memaudit-report"),
        ("memaudit_report = report.json", POLICY.replace("margin", "margn", 1), "", "did you mean 'margin'"),
        ("memaudit_report = report.json", POLICY, "@pytest.mark.memaudit(reprot='x')", "and not reprot"),
    ],
)
def test_mistakes_stop_collection_with_a_message(folder, ini, policy, marker, words) -> None:
    folder.makeini(f"[pytest]\n{ini}")
    folder.path.joinpath("memaudit.toml").write_text(policy)
    folder.makepyfile(f"import pytest\n\n{marker}\ndef test_gate(memaudit_gate):\n    memaudit_gate.check()\n")
    result = run(folder)
    assert result.ret != 0
    assert words in result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str()


def test_tests_without_the_fixture_are_left_alone(folder) -> None:
    folder.makeini("[pytest]\n")
    folder.makepyfile("def test_other():\n    pass\n")
    run(folder).assert_outcomes(passed=1)
