"""Text, JSON, JUnit, annotations, SARIF, summary and exit code never disagree, whatever the report."""

from __future__ import annotations

import copy
import json
import re
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit import evaluate_gate
from lightning_memaudit.gates.output import FORMS
from lightning_memaudit.gates.rules import KINDS
from tests.helpers.gates import report

SOUND = report()
BROKEN = [None, float("nan"), float("inf"), "x", -1.0, {}, []]


def holders(made):
    """Every mapping of a report that may be damaged, with the keys that may go."""
    found = []

    def walk(value):
        if isinstance(value, dict):
            found.append(value)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    for section in ("impact", "accuracy", "memorization"):
        walk(made[section])
    return found


GONE = "gone"
DAMAGES = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 100), st.sampled_from([GONE, *range(len(BROKEN))])), max_size=6
)


def damaged(damages):
    """The sound report with some entries of some mappings broken or gone."""
    made = copy.deepcopy(SOUND)
    places = holders(made)
    for place, entry, how in damages:
        holder = places[place % len(places)]
        if holder:
            key = sorted(holder)[entry % len(holder)]
            if how == GONE:
                del holder[key]
            else:
                holder[key] = copy.deepcopy(BROKEN[how])
    return made


@st.composite
def policies(draw):
    names = draw(st.lists(st.sampled_from(["a", "b:c", "d, e", "f % g"]), min_size=1, max_size=4, unique=True))
    rules = {}
    for name in names:
        kind = draw(st.sampled_from(sorted(KINDS)))
        given_ = {
            "kind": kind,
            "margin": draw(st.sampled_from([-1.0, 0.0, 0.05, 0.3, 0.5, 0.9, 5.0])),
            "on_inconclusive": draw(st.sampled_from(["pass", "warn", "fail"])),
            "informational": draw(st.booleans()),
            "min_n": draw(st.sampled_from([1, 250])),
        }
        if kind != "epsilon":
            groups = st.sampled_from(["half=*", "label=1", "overall", "*", "none=x", "memorization=*"])
            given_["groups"] = draw(st.lists(groups, min_size=1, max_size=2))
        if draw(st.booleans()):
            expires = draw(st.sampled_from(["2020-01-01", "2999-01-01"]))
            given_["waivers"] = [{"reason": "r", "expires": expires, "treatments": ["harsh"]}]
        rules[name] = given_
    return {"schema": 1, "rules": rules}


@settings(max_examples=25, deadline=None)
@given(DAMAGES, policies(), st.booleans())
def test_all_forms_agree(damages, rules, compares) -> None:
    result = evaluate_gate(damaged(damages), rules, baseline=SOUND if compares else None)
    code, counts, effects = result.exit_code, result.counts, [row.effect for row in result.rows]
    assert {row.rule.name for row in result.rows} == set(rules["rules"])  # no rule is silent

    known = json.loads(FORMS["json"](result))
    assert (known["exit_code"], known["counts"]) == (code, counts)
    assert [row["effect"] for row in known["rows"]] == effects

    tally = ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n)
    line = rf"gate [a-z ]+ \(exit code {code}\): {tally}"
    text = " ".join(FORMS["text"](result).split())
    assert re.search(line, text)
    commands = FORMS["github"](result)
    assert re.search(line, commands.splitlines()[-1])
    assert ("::error " in commands) == (code != 0)
    summary = FORMS["summary"](result).splitlines()
    assert re.search(line, summary[0].replace("\\", ""))

    suites = ET.fromstring(FORMS["junit"](result))
    sums = {key: sum(int(suite.get(key)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    assert sums["tests"] == len(result.rows)
    assert sums["failures"] == effects.count("fail")
    assert sums["errors"] == effects.count("error")
    assert sums["skipped"] == effects.count("warn") + sum(
        row.verdict.value == "inconclusive" and row.effect != "warn" for row in result.rows
    )
    assert {prop.get("value") for prop in suites.iter("property") if prop.get("name") == "memaudit.exit_code"} == {
        str(code)
    }

    run = json.loads(FORMS["sarif"](result))["runs"][0]
    assert run["invocations"][0]["exitCode"] == code
    assert run["properties"]["counts"] == counts
    blocking = sum(found["level"] == "error" for found in run["results"])
    assert blocking == sum(effect in ("error", "fail", "inconclusive") for effect in effects)
    assert (blocking > 0) == (code != 0)

    by_effect = {"error": 4, "fail": 1, "inconclusive": 3}
    assert code == next((by_effect[effect] for effect in by_effect if effect in effects), 0)


@settings(max_examples=25, deadline=None)
@given(DAMAGES, st.sampled_from(sorted(KINDS)))
def test_damage_never_makes_a_pass(damages, kind) -> None:
    """At a margin that nothing sound keeps, no damage to the report makes a row pass or a gate go on."""
    margin = 1.5 if kind == "accuracy" else -0.5
    groups = {} if kind == "epsilon" else {"groups": ["half=*", "label=*", "overall"]}
    groups = {"groups": ["label=*", "overall"]} if kind.startswith("memorization") else groups
    rules = {"schema": 1, "on_inconclusive": "fail", "rules": {"r": {"kind": kind, "margin": margin, **groups}}}
    result = evaluate_gate(damaged(damages), rules, baseline=SOUND)
    assert not result.passed
    assert result.counts["pass"] == 0
