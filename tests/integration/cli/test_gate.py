"""``memaudit gate``: exit codes, forms, baselines, and what it refuses."""

from __future__ import annotations

import copy
import json

import pytest
from junitparser import JUnitXml

from lightning_memaudit.report.schema import SCHEMA
from tests.helpers.gates import report

ARM = 'kind = "drop"\ntreatments = ["harsh"]\ngroups = ["half=b"]\n'
EPSILON = '[rules.privacy]\nkind = "epsilon"\nmargin = 8.0\n'
POLICIES = {
    0: f"schema = 1\n[rules.r]\n{ARM}margin = 0.5\n",
    1: f"schema = 1\n[rules.r]\n{ARM}margin = 0.1\n{EPSILON}",
    2: f"schema = 1\n[rules.r]\n{ARM}margn = 0.1\n",
    3: f'schema = 1\n[rules.r]\n{ARM}margin = 0.3\non_inconclusive = "fail"\n{EPSILON}',
    4: f"schema = 1\n[rules.r]\n{ARM}margin = 0.1\n[rules.absent]\n{ARM}margin = 0.1\n".replace("half=b", "half=c", 1),
}
SAID = {
    0: "gate passed (exit code 0): 1 pass",
    1: "gate failed (exit code 1): 1 pass, 1 fail",
    2: "rules.r: unknown key 'margn'; did you mean 'margin'?",
    3: "gate undecided where the policy asks for a decision (exit code 3): 1 pass, 1 inconclusive",
    4: "gate could not be judged (exit code 4): 1 fail, 1 error",
}


@pytest.fixture(scope="module")
def made():
    return report()


@pytest.fixture
def place(workplace, made):
    """A working directory with a report and a policy for each exit code."""
    (workplace / "report.json").write_text(json.dumps(made))
    for code, text in POLICIES.items():
        (workplace / f"{code}.toml").write_text(text)
    return workplace


@pytest.fixture
def gate(memaudit, place):
    return lambda *arguments: memaudit("gate", *arguments)


@pytest.mark.parametrize("code", POLICIES)
def test_exit_codes(gate, code) -> None:
    result = gate("report.json", "--policy", f"{code}.toml")
    assert result.code == code
    assert SAID[code] in (result.err if code == 2 else " ".join(result.out.split()))
    zero = gate(".", "--policy", f"{code}.toml", "--exit-zero")
    assert zero.code == (2 if code == 2 else 0)
    assert (f"the exit code would be {code}" in zero.err) == (code in (1, 3, 4))


def test_the_policy_of_the_working_directory_is_taken(gate, place) -> None:
    assert "no memaudit.toml" in gate("report.json").err
    (place / "pyproject.toml").write_text(POLICIES[1].replace("[rules", "[tool.memaudit.rules").replace(
        "schema = 1", "[tool.memaudit]\nschema = 1"
    ))  # fmt: skip
    assert gate("report.json").code == 1
    (place / "memaudit.toml").write_text(POLICIES[0])
    assert gate("report.json").code == 0


def test_init_makes_a_policy_that_its_report_passes(gate, place, made) -> None:
    shown = gate("report.json", "--init")
    assert shown.code == 0
    lines = shown.out.splitlines()
    headers = [line for line in lines if line.startswith("[rules.")]
    assert len(headers) == len([line for line in lines if line.startswith("margin = ")]) >= 7
    assert sum(line.startswith("#") for line in lines) >= len(headers) + 4
    (place / "memaudit.toml").write_text(shown.out)
    result = gate("report.json", "--format", "json")
    known = json.loads(result.out)
    assert (result.code, known["counts"]["pass"]) == (0, len(known["rows"]))
    assert {row["kind"] for row in known["rows"]} == {
        "drop", "accuracy", "memorization", "memorization_prevalence", "epsilon"
    }  # fmt: skip
    kept = [line if line.startswith("#") else line.replace("margin = 0", "margin = -0") for line in lines]
    (place / "memaudit.toml").write_text("\n".join(kept))
    assert gate("report.json").code == 1
    nothing = {"schema": SCHEMA, "versions": made["versions"]}
    (place / "report.json").write_text(json.dumps(nothing))
    assert "no figures that a rule could be made of" in gate("report.json", "--init").out


def test_forms_go_to_files_and_only_one_is_printed(gate, place, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    (place / "summary.md").write_text("earlier\n")
    forms = ["text", "junit=out/gate.xml", "json=gate.json", "sarif=gate.sarif", "summary"]
    result = gate("report.json", "--policy", "1.toml", *(word for form in forms for word in ("--format", form)))
    assert result.code == 1
    assert "gate failed (exit code 1)" in result.out
    suites = JUnitXml.fromfile(str(place / "out/gate.xml"))
    assert sum(suite.failures for suite in suites) == 1
    assert json.loads((place / "gate.json").read_text())["exit_code"] == 1
    assert json.loads((place / "gate.sarif").read_text())["runs"][0]["invocations"][0]["exitCode"] == 1
    assert (place / "summary.md").read_text().startswith("earlier\n## gate failed (exit code 1)")
    both = gate("report.json", "--policy", "1.toml", "--format", "json", "--format", "text")
    assert (both.code, both.out) == (2, "")
    assert "cannot share standard output" in both.err
    logs = gate("report.json", "--policy", "1.toml", "--format", "text", "--format", "github")
    assert "::error file=1.toml,line=2,title=fail%3A r::harsh · half=b: +3" in logs.out
    wrong = gate("report.json", "--policy", "1.toml", "--format", "html")
    assert (wrong.code, "one of text, json" in wrong.err) == (2, True)


def test_one_rule_alone(gate) -> None:
    result = gate("report.json", "--policy", "1.toml", "--only", "privacy", "--format", "json")
    known = json.loads(result.out)
    assert (result.code, [row["rule"] for row in known["rows"]], known["n_tests"]) == (0, ["privacy"], 1)
    wrong = gate("report.json", "--policy", "1.toml", "--only", "privcy")
    assert (wrong.code, "did you mean 'privacy'?" in wrong.err) == (2, True)


def test_explanations(gate) -> None:
    kind = gate("--explain", "excess_drop")
    assert kind.code == 0
    assert "kind excess_drop: margin = the largest excess allowed" in kind.out
    rule = gate("--explain", "privacy", "--policy", "1.toml")
    assert rule.out.startswith("rule privacy: epsilon at most 8\n")
    judged = gate("report.json", "--policy", "1.toml", "--explain", "privacy")
    assert judged.code == 0
    assert "rule privacy: epsilon at most 8" in judged.out
    assert "gate passed (exit code 0): 1 pass" in judged.out
    wrong = gate("--explain", "excess")
    assert (wrong.code, "did you mean 'excess_drop'?" in wrong.err) == (2, True)


def test_lint_judges_nothing(gate, place) -> None:
    (place / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    late = '[[rules.r.waivers]]\nreason = "r"\nexpires = 2020-01-01\n'
    (place / "late.toml").write_text(POLICIES[0] + late)
    result = gate("--lint", "0.toml", "pyproject.toml", "3.toml", "late.toml")
    assert result.code == 0
    assert result.out.splitlines() == [
        "0.toml: 1 rule, understood", "3.toml: 2 rules, understood", "late.toml: 1 rule, understood"
    ]  # fmt: skip
    assert "late.toml: rules.r.waivers[0] expired on 2020-01-01" in result.err
    assert gate("--lint", "0.toml", "2.toml").code == 2
    (place / "pyproject.toml").write_text("[tool.memaudit]\nschema = 7\n")
    (place / "memaudit.toml").write_text(POLICIES[0])
    assert gate("--lint", "pyproject.toml").code == 2  # whatever stands beside it


def test_a_baseline_is_written_compared_with_and_counts_looks(gate, place, made) -> None:
    rule = '[rules.worse]\nkind = "regression"\nmargin = 0.1\ngroups = ["half=a"]\n'
    (place / "memaudit.toml").write_text(POLICIES[0] + rule)
    first = gate("report.json", "--update-baseline", "base.json")
    assert first.code == 4  # nothing to compare with yet, and the file is there for the next time
    assert "a new baseline is in base.json" in first.err
    assert gate("report.json", "--baseline", "base.json").code == 0
    assert gate("report.json", "--record-look").code == 2
    for look in (2, 3):
        again = gate("report.json", "--baseline", "base.json", "--record-look")
        assert again.code == 0
        assert f"this is look {look} at these test examples" in " ".join(again.out.split())
    other = copy.deepcopy(made)
    other["data"]["test"]["labels"] = "other"
    (place / "other.json").write_text(json.dumps(other))
    mismatch = gate("other.json", "--baseline", "base.json")
    assert mismatch.code == 4
    assert "labels of split 'test' differ" in " ".join(mismatch.out.split())


def test_alpha_is_shared_among_planned_looks(gate, place) -> None:
    (place / "memaudit.toml").write_text(f"{POLICIES[0]}[looks]\nplanned = 2\n")
    unknown = gate("report.json")
    assert (unknown.code, "--update-baseline FILE" in unknown.err) == (4, True)
    first = gate("report.json", "--update-baseline", "base.json")
    assert (first.code, "look 1 of 2" in first.out) == (0, True)
    second = gate("report.json", "--baseline", "base.json", "--record-look", "--format", "json")
    assert (second.code, json.loads(second.out)["alpha"]) == (0, 0.025)
    third = gate("report.json", "--baseline", "base.json", "--record-look")
    assert (third.code, "no α left" in third.err) == (4, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "one report or store is needed, and 0 were given"),
        (["report.json", "report.json"], 2, "and 2 were given"),
        (["none"], 4, "neither a report.json nor a store"),
        (["0.toml"], 4, "is not JSON"),
        (["report.json", "--policy", "none.toml"], 2, "--init"),
        (["report.json", "--baseline", "none.json"], 4, "neither a report.json nor a store"),
        (["report.json", "--formt", "text"], 2, "formt"),
        (["old.json"], 4, "of schema 0, and this version reads 2"),
    ],
)
def test_mistakes(gate, place, arguments, code, words) -> None:
    (place / "old.json").write_text('{"schema": 0}')
    given = arguments if "--policy" in arguments else [*arguments, "--policy", "0.toml"]
    result = gate(*given)
    assert (result.code, result.out) == (code, "")
    assert words in result.err
