"""Forms of output: valid, escaped, within the limits of those who read them."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import xmlschema
from junitparser import Error, Failure, JUnitXml, Skipped

from lightning_memaudit import evaluate_gate
from lightning_memaudit.gates.output import FORMS
from lightning_memaudit.gates.policy.file import policy_of
from tests.helpers.gates import content, policy, report, rule

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parents[2] / "golden" / "junit.xsd"))
NASTY = [
    "100 %, sure",
    "a:b::c",
    "new\nline\r\n",
    "<b>&'\"|`*_",
    "\x00\x07\ud800x",
    "[red]no[/red]",
    "::error::x",
    "é→ 日本",
]


def written(text):
    """Half a surrogate pair fits in no file."""
    return text.replace("\ud800", "?")


MIXED = {
    "drop": rule("drop", 0.1, groups=["half=*"]),
    "open": rule("drop", 0.3, treatments=["harsh"], groups=["half=b"], on_inconclusive="fail"),
    "told": rule("accuracy", 0.9, groups=["half=b"], informational=True),
    "waived": rule("gap", 0.01, groups=["half=b"], waivers=[{"reason": "known: yes, 50 %", "expires": "2999-01-01"}]),
    "mean": rule("memorization", 0.5, groups=["label=*"]),
}


@pytest.fixture(scope="module")
def made():
    return report()


@pytest.fixture(scope="module")
def mixed(made):
    return evaluate_gate(made, policy(**MIXED))


@pytest.fixture(scope="module")
def nasty():
    """Every name that there is, hostile: groups, groupings, arms, rules, reasons."""
    base = np.ones((2, 80 * len(NASTY)), dtype=bool)
    treated = np.arange(base.shape[1]) % 3 == np.zeros((2, 1))
    codes = np.arange(base.shape[1]) // 80
    made = content(dict.fromkeys(NASTY[:6], (base, treated)), dict.fromkeys(NASTY[1:3], (codes, NASTY)))
    rules = {name: rule("drop", (0.1, 0.66)[i % 2], reason=name) for i, name in enumerate(NASTY)}
    return evaluate_gate(made, {"schema": 1, "rules": rules})


@pytest.mark.parametrize("which", ["mixed", "nasty"])
def test_junit_is_valid_and_read_back(which, request) -> None:
    result = request.getfixturevalue(which)
    text = FORMS["junit"](result)
    SCHEMA.validate(text)
    suites = list(JUnitXml.fromstring(text.encode()))
    cases = [case for suite in suites for case in suite]
    assert len(suites) == len(result.by_rule())
    assert len(cases) == len(result.rows)
    wanted = {"fail": Failure, "error": Error, "inconclusive": Skipped, "warn": Skipped}
    for row, case in zip(result.rows, cases, strict=True):
        kinds = [type(part) for part in case.result]
        # undecided rows are skipped whatever they do to the build, and nothing that passes is
        expected = wanted.get(row.effect, Skipped if row.verdict.value == "inconclusive" else None)
        assert kinds == ([] if expected is None else [expected])
        if kinds:
            assert case.result[0].message.startswith(f"{row.verdict.value}: ")
    for suite, rows in zip(suites, result.by_rule().values(), strict=True):
        effects = [row.effect for row in rows]
        assert (suite.tests, suite.failures, suite.errors) == (len(rows), effects.count("fail"), effects.count("error"))
        facts = {fact.name: fact.value for fact in suite.properties()}
        assert facts["memaudit.exit_code"] == str(result.exit_code)


def test_names_in_junit_are_those_of_the_report(mixed) -> None:
    root = ET.fromstring(FORMS["junit"](mixed))
    assert [suite.get("name") for suite in root] == list(MIXED)
    assert root[0][1].get("name") == "mild · half=a"
    assert root[0][1].get("classname") == "memaudit.drop"


COMMAND = re.compile(r"::(error|warning|notice)(?: ([^\n]*?))?::([^\n]*)")


def read_command(line):
    """As the runner reads it: properties end at the first ``::``; escapes are undone last."""
    kind, properties, message = COMMAND.fullmatch(line).groups()
    undo = (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%"))

    def undone(text, pairs=undo):
        for escape, sign in pairs:
            text = text.replace(escape, sign)
        return text

    known = dict(part.split("=", 1) for part in properties.split(","))
    return kind, {key: undone(value) for key, value in known.items()}, undone(message, undo[2:])


def test_annotations_come_out_as_they_went_in(nasty) -> None:
    lines = FORMS["github"](nasty).splitlines()
    read = [read_command(line) for line in lines]
    shown = [row for row in nasty.rows if row.effect in ("fail", "error")][:9]
    for (kind, properties, message), row in zip(read, shown, strict=False):
        assert kind == "error"
        assert properties["title"] == written(f"{row.verdict.value}: {row.rule.name}")
        assert message == written(f"{row.place}: {row.message}")
    assert not any("\n" in line or "\r" in line for line in lines)


def test_annotations_stay_within_what_github_shows(nasty, mixed) -> None:
    kinds = [read_command(line)[0] for line in FORMS["github"](nasty).splitlines()]
    assert kinds.count("error") == 10
    more = [line for line in FORMS["github"](nasty).splitlines() if " more: see" in line]
    n_errors = sum(row.effect in ("fail", "error", "inconclusive") for row in nasty.rows)
    assert f"::{n_errors - 9} more" in more[0]
    few = FORMS["github"](mixed).splitlines()
    assert few[-1].startswith("::notice title=memaudit gate::gate could not be judged (exit code 4)")


def test_notices_leave_room_for_what_it_comes_to(mixed) -> None:
    told = copy.copy(mixed)
    object.__setattr__(told, "warnings", tuple(f"w{i}" for i in range(30)))
    notices = [line for line in FORMS["github"](told).splitlines() if line.startswith("::notice")]
    assert len(notices) == 10
    assert "22 more warnings" in notices[-2]
    assert "(exit code 4)" in notices[-1]


def test_annotations_are_anchored_at_the_rule(made, tmp_path) -> None:
    file = tmp_path / "memaudit.toml"
    file.write_text('schema = 1\n\n[rules.r]\nkind = "drop"\nmargin = 0.01\ngroups = ["half=b"]\n')
    result = evaluate_gate(made, file)
    _, properties, _ = read_command(FORMS["github"](result).splitlines()[0])
    assert (properties["file"], properties["line"]) == (str(file), "3")
    place = json.loads(FORMS["sarif"](result))["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("memaudit.toml")
    assert place["region"] == {"startLine": 3}


@pytest.mark.parametrize("which", ["mixed", "nasty"])
def test_sarif_has_what_code_scanning_asks_for(which, request) -> None:
    result = request.getfixturevalue(which)
    log = json.loads(FORMS["sarif"](result))
    run = log["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    open_rows = [row for row in result.rows if row.verdict.value != "pass"]
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    assert [described["id"] for described in rules] == [written(rule.name) for rule in result.policy.rules]
    assert len(run["results"]) == len(open_rows)
    prints = set()
    for found, row in zip(run["results"], open_rows, strict=True):
        assert rules[found["ruleIndex"]]["id"] == found["ruleId"] == written(row.rule.name)
        assert found["message"]["text"]
        assert found["level"] in ("error", "warning", "note", "none")
        assert (found["level"] == "none") == (found["kind"] != "fail")
        assert found["locations"][0]["physicalLocation"]["region"]["startLine"] >= 1
        prints.add(tuple(found["partialFingerprints"].values()))
        assert ("suppressions" in found) == (row.verdict.value == "waived")
    assert len(prints) == len(open_rows)


def test_json_has_every_row(mixed) -> None:
    known = json.loads(FORMS["json"](mixed))
    assert known == json.loads(json.dumps(mixed.to_dict()))
    assert {row["rule"] for row in known["rows"]} == set(MIXED)


def test_text_says_what_it_comes_to(mixed, nasty) -> None:
    text = FORMS["text"](mixed)
    assert "gate could not be judged (exit code 4): " in text
    assert "Waived until 2999-01-01: known: yes, 50 %" in " ".join(text.split())
    assert "informational" in text
    assert "\x1b" not in text
    assert "[red]no[/red]" in FORMS["text"](nasty)  # names are no markup


def test_the_step_summary_is_markdown_of_bounded_size(mixed, nasty, made) -> None:
    lines = FORMS["summary"](mixed).splitlines()
    assert lines[0].startswith("## gate could not be judged (exit code 4)")
    columns = {line.count("|") - line.count("\\|") for line in lines if line.startswith("| ") and "·" in line}
    assert columns == {9}
    assert "<b>" not in FORMS["summary"](nasty)
    many = evaluate_gate(made, policy(r=rule("drop", 0.01, treatments=["harsh"], groups=["half=b"])))
    big = copy.copy(many)
    object.__setattr__(big, "rows", many.rows * 20_000)
    text = FORMS["summary"](big)
    assert len(text.encode()) < 2**20
    assert "more rows: see the job's log" in text


def test_passing_rows_beyond_forty_are_counted(made) -> None:
    base = np.ones((4, 6000), dtype=bool)
    codes = np.arange(6000) // 100
    wide = content({"prune": (base, base.copy())}, {"g": (codes, [f"n{g}" for g in range(60)])})
    text = FORMS["text"](evaluate_gate(wide, policy(r=rule("drop", 0.5))))
    assert "20 more pass (--format json has all)" in text
    assert "60 pass" in text


def test_an_empty_result_is_still_written() -> None:
    result = evaluate_gate(report(), policy(r=rule("drop", 0.5))).only([])
    SCHEMA.validate(FORMS["junit"](result))
    assert "no row" in FORMS["text"](result)
    assert policy_of(result.policy).rules
