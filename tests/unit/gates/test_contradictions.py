"""A statistic that is possible in itself and is not what the report prints beside it is an error, never a pass."""

from __future__ import annotations

import copy
import datetime as dt

import pytest

from lightning_memaudit import evaluate_gate
from lightning_memaudit.functional.accounting import NoisySteps, epsilon_spent
from lightning_memaudit.gates.judged_report import subject_of
from lightning_memaudit.gates.reference.report import reference_of, write_baseline
from tests.helpers.gates import policy, report, rule

DAY = dt.date(2027, 1, 15)
#: Kind of rule, its lenient margin, section and record.
KINDS = {
    "drop": (0.9, "impact", "drop"),
    "excess_drop": (0.9, "impact", "excess"),
    "accuracy": (0.01, "accuracy", "error"),
    "gap": (0.9, "accuracy", "gap"),
    "memorization": (0.95, "memorization", "mean"),
    "memorization_prevalence": (0.95, "memorization", "prevalence"),
}
SPENT = {"noise_multiplier": 1.1, "sample_rate": 0.05, "steps": 300, "delta": 1e-5, "n_examples": 1000}


def rows_of(made, kind):
    _, section, _ = KINDS[kind]
    if section == "memorization":
        return made[section]["by_class"]
    return made[section]["arms"]["harsh"]["by_group"]["label"]["rows"]


def record_of(made, kind):
    return rows_of(made, kind)[1]["statistics"][KINDS[kind][2]]


def judged(made, kind, groups=("label=1",), baseline=None):
    arms = {} if kind.startswith("memorization") else {"treatments": ["harsh"]}
    given = rule(kind, KINDS[kind][0], groups=list(groups), **arms)
    return evaluate_gate(made, policy(r=given), baseline=baseline, today=DAY)


def only(result):
    (row,) = result.rows
    return row


def leaves(record, path=()):
    """Where the numbers of a record stand."""
    for key, value in record.items() if isinstance(record, dict) else enumerate(record):
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, key))
        elif isinstance(value, int | float):
            yield (*path, key)


def edited(record, path, change):
    for key in path[:-1]:
        record = record[key]
    record[path[-1]] = change(record[path[-1]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1])
def test_an_edited_statistic_is_an_error_or_changes_nothing(sound, kind, factor) -> None:
    before = only(judged(sound, kind))
    errors = 0
    for path in leaves(record_of(sound, kind)):
        made = copy.deepcopy(sound)
        change = (lambda x: not x) if isinstance(path[-1], str) and path[-1] in ("score", "covers_models") else None
        edited(record_of(made, kind), path, change or (lambda x: x * factor))
        after = only(judged(made, kind))
        if after.verdict.value == "error":
            errors += 1
            assert "figures" in after.message, path
        else:
            assert (after.verdict, after.value, after.lower, after.upper) == pytest.approx(
                (before.verdict, before.value, before.lower, before.upper)
            ), path
    assert errors >= 5


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("drop", "drop"),
        ("drop", "low"),
        ("drop", "high"),
        ("drop", "n"),
        ("excess_drop", "excess"),
        ("excess_drop", "excess_low"),
        ("excess_drop", "excess_high"),
        ("accuracy", "accuracy"),
        ("accuracy", "low"),
        ("accuracy", "high"),
        ("gap", "gap"),
        ("gap", "gap_low"),
        ("gap", "gap_high"),
        ("memorization", "mean_score"),
        ("memorization", "low"),
        ("memorization", "in_accuracy"),
        ("memorization", "n_estimable"),
        ("memorization_prevalence", "n_memorized"),
    ],
)
def test_an_edited_figure_is_named_with_what_its_statistics_come_to(made, kind, key) -> None:
    row = rows_of(made, kind)[1]
    whole = isinstance(row[key], int)
    row[key] = row[key] - 5 if whole else row[key] / 2 - 0.1
    result = judged(made, kind)
    found = only(result)
    assert (found.group, found.verdict.value, result.exit_code) == ("label=1", "error", 4)
    assert f"contradict each other: {key} is" in found.message
    row[key] = None
    assert only(judged(made, kind)).verdict.value == "error"


@pytest.mark.parametrize(("key", "change"), [("possible", 1.0), ("certain", -1.0)])
def test_counts_that_do_not_add_up_to_the_whole(made, key, change) -> None:
    record_of(made, "memorization_prevalence")[key] += change
    result = judged(made, "memorization_prevalence", groups=["label=*", "overall"])
    assert {row.group: row.verdict.value for row in result.rows} == dict.fromkeys(
        ("label=0", "label=1", "overall"), "error"
    )
    assert f"the groups of 'label' have {key}" in result.rows[1].message


@pytest.mark.parametrize("kind", ["drop", "accuracy", "memorization", "memorization_prevalence", "gap"])
def test_a_group_that_was_taken_out(made, kind) -> None:
    del rows_of(made, kind)[1]
    result = judged(made, kind, groups=["label=*"])
    assert {row.verdict.value for row in result.rows} == {"error"}
    assert "together, and all examples have" in result.rows[0].message


@pytest.mark.parametrize(
    ("key", "value"), [("threshold", 0.5), ("upper_tail", 1e-9), ("lower_tail", 1e-9)], ids=lambda x: str(x)
)
def test_counts_of_another_threshold_or_error(made, key, value) -> None:
    record_of(made, "memorization_prevalence")[key] = value
    row = only(judged(made, "memorization_prevalence"))
    assert (row.verdict.value, f"{key} is {value:g}" in row.message) == ("error", True)


@pytest.mark.parametrize("level", [0.5, 0.999, None, "x", True, 1.0], ids=repr)
def test_another_level(made, level) -> None:
    for kind, (_, section, _) in KINDS.items():
        if kind == "memorization_prevalence" and isinstance(level, float) and level < 1:
            continue  # counts have no interval
        made[section]["level"] = level
        assert only(judged(made, kind)).verdict.value == "error", kind


def test_an_epsilon_that_its_noise_does_not_come_to() -> None:
    epsilon = epsilon_spent([NoisySteps(1.1, 0.05, 300)], 1e-5)
    given = rule("epsilon", 100.0)
    for spent, verdict in ((epsilon, "pass"), (epsilon / 2, "error"), (epsilon * 1.1, "error")):
        made = report(privacy={"harsh": {**SPENT, "epsilon": spent}})
        result = evaluate_gate(made, policy(r=given), today=DAY)
        assert [row.verdict.value for row in result.rows] == [verdict]
    assert "noise, sample rate and steps on record come to" in result.rows[0].message


@pytest.mark.parametrize(
    "bad", [{"sample_rate": 2.0}, {"sample_rate": 0}, {"noise_multiplier": -1}, {"noise_multiplier": 0}, {"steps": 2.5}]
)
def test_an_epsilon_from_what_cannot_be(bad) -> None:
    made = report(privacy={"harsh": {**SPENT, "epsilon": 5.0, **bad}})
    result = evaluate_gate(made, policy(r=rule("epsilon", 100.0)), today=DAY)
    assert [row.verdict.value for row in result.rows] == ["error"]
    assert result.exit_code == 4


def test_a_baseline_file_whose_estimate_was_edited(made, sound, tmp_path) -> None:
    write_baseline(subject_of(made), str(tmp_path / "baseline.json"), looks={})
    known = reference_of(tmp_path / "baseline.json")
    rule_of = policy(r=rule("regression", 0.9, groups=["label=1"], treatments=["harsh"]))
    assert evaluate_gate(sound, rule_of, baseline=known, today=DAY).passed
    rows = known.subject.content["accuracy"]["arms"]["harsh"]["by_group"]["label"]["rows"]
    rows[1]["statistics"]["error"]["estimate"] = 0.9
    known.subject.cache.clear()
    result = evaluate_gate(sound, rule_of, baseline=known, today=DAY)
    assert (only(result).verdict.value, result.exit_code) == ("error", 4)
    assert "lost, gained and n come to" in only(result).message
