"""What is missing, not a number or without width is an error, whatever the policy says, for every kind of rule."""

from __future__ import annotations

import copy
import datetime as dt

import pytest

from lightning_memaudit import evaluate_gate
from lightning_memaudit.gates.rules import KINDS
from lightning_memaudit.record.estimates import Estimate
from tests.helpers.gates import policy, rule

DAY = dt.date(2027, 1, 15)
WAIVER = {"reason": "known", "expires": "2027-12-31"}
#: Lenient margins: nothing sound comes near them.
LENIENT = {
    "drop": 0.9,
    "excess_drop": 0.9,
    "accuracy": 0.01,
    "gap": 0.9,
    "memorization": 0.95,
    "memorization_prevalence": 0.95,
    "epsilon": 100.0,
    "regression": 0.9,
}
SAMPLED = sorted(set(LENIENT) - {"epsilon"})
#: Where a kind reads its figures: section, path of a row, record.
RECORDS = {
    "drop": ("impact", "drop"),
    "excess_drop": ("impact", "excess"),
    "accuracy": ("accuracy", "error"),
    "gap": ("accuracy", "gap"),
    "memorization": ("memorization", "mean"),
    "memorization_prevalence": ("memorization", "prevalence"),
    "regression": ("accuracy", "error"),
}


def test_every_kind_is_here() -> None:
    assert set(KINDS) == set(LENIENT)


def given(kind, **more):
    place = {} if kind == "epsilon" else {"groups": ["label=1"]}
    arms = {} if kind.startswith("memorization") else {"treatments": ["harsh"]}
    return {**rule(kind, LENIENT[kind]), **place, **arms, "waivers": [WAIVER], **more}


def judged(made, sound, kind, **more):
    return evaluate_gate(made, policy(r=given(kind, **more)), baseline=sound, today=DAY)


def row_of(made, kind):
    """The row of label 1 as the report holds it."""
    section, _ = RECORDS[kind]
    if section == "memorization":
        return made[section]["by_class"][1]
    return made[section]["arms"]["harsh"]["by_group"]["label"]["rows"][1]


def assert_error(made, sound, kind, words=None) -> None:
    for setting in ("pass", "warn", "fail"):
        result = judged(made, sound, kind, on_inconclusive=setting)
        assert [row.verdict.value for row in result.rows] == ["error"], result.rows[0].message
        assert (result.exit_code, result.passed) == (4, False)
    if words:
        assert words in result.rows[0].message


@pytest.mark.parametrize("kind", LENIENT)
def test_the_lenient_margin_passes_what_is_sound(made, sound, kind) -> None:
    assert [row.verdict.value for row in judged(made, sound, kind).rows] == ["pass"]


@pytest.mark.parametrize("kind", SAMPLED)
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "0.1", True], ids=repr)
def test_a_figure_that_is_not_a_number(made, sound, kind, value) -> None:
    _, record = RECORDS[kind]
    found = row_of(made, kind)["statistics"][record]
    holder = found["group"] if record in ("excess", "gap") else found
    holder["naive" if record == "prevalence" else "estimate"] = value
    assert_error(made, sound, kind, "cannot be used")


@pytest.mark.parametrize("kind", SAMPLED)
@pytest.mark.parametrize("value", [None, {}, [], 3], ids=repr)
def test_a_record_that_is_missing(made, sound, kind, value) -> None:
    row_of(made, kind)["statistics"][RECORDS[kind][1]] = value
    assert_error(made, sound, kind)
    row_of(made, kind)["statistics"] = value
    assert_error(made, sound, kind)
    del row_of(made, kind)["statistics"]
    assert_error(made, sound, kind, "write it again")


@pytest.mark.parametrize("kind", SAMPLED)
def test_every_figure_of_a_record_is_needed(made, sound, kind) -> None:
    _, record = RECORDS[kind]
    whole = copy.deepcopy(row_of(made, kind)["statistics"][record])
    for key in whole:
        row_of(made, kind)["statistics"][record] = {k: v for k, v in whole.items() if k != key}
        assert_error(made, sound, kind)


@pytest.mark.parametrize("kind", SAMPLED)
def test_an_empty_group(made, sound, kind) -> None:
    for n in (0, None):
        row_of(made, kind)["n"] = n
        assert_error(made, sound, kind, "differs in names or sizes" if kind == "regression" else "no examples")


@pytest.mark.parametrize("kind", SAMPLED)
def test_a_group_that_is_not_there(made, sound, kind) -> None:
    result = judged(made, sound, kind, groups=["label=17"])
    assert (result.rows[0].verdict.value, result.exit_code) == ("error", 4)
    assert "no group fits" in result.rows[0].message
    nothing = judged(made, sound, kind, groups=["label=1"], exclude=["label=*"])
    assert (nothing.rows[0].verdict.value, nothing.exit_code) == ("error", 4)
    assert "judges nothing" in nothing.rows[0].message


@pytest.mark.parametrize("kind", sorted(LENIENT))
def test_a_section_that_is_not_there(made, sound, kind) -> None:
    section = RECORDS.get(kind, ("impact", ""))[0]
    made[section] = {"status": "unavailable", "reason": "no model was treated"}
    assert_error(made, sound, kind, "no model was treated")
    del made[section]
    assert_error(made, sound, kind)


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        ("lable=*", "label=*"),
        ("labels=1", "label=1"),
        ("haff=a", "half=a"),
        ("overal", "overall"),
        ("half=nobdy", "half=nobody"),
        ("label=1 ", "label=1"),
    ],
)
def test_a_name_that_is_nearly_right(made, sound, selector, meant) -> None:
    message = judged(made, sound, "drop", groups=[selector]).rows[0].message
    assert message.startswith(f"no group fits groups={selector!r}; did you mean {meant!r}?")
    assert "did you mean" not in judged(made, sound, "drop", groups=["xyz=*"]).rows[0].message


@pytest.mark.parametrize("kind", [kind for kind in LENIENT if not kind.startswith("memorization")])
def test_an_arm_that_is_not_there_or_cannot_be_compared(made, sound, kind) -> None:
    result = judged(made, sound, kind, treatments=["harsher"])
    assert (result.rows[0].verdict.value, result.exit_code) == ("error", 4)
    assert "no arm fits" in result.rows[0].message
    section = RECORDS.get(kind, ("impact", ""))[0]
    if kind != "epsilon":
        made[section]["arms"]["harsh"] = {"status": "unavailable", "reason": "its base is not in the store"}
        assert_error(made, sound, kind, "its base is not in the store")


@pytest.mark.parametrize("kind", SAMPLED)
def test_an_interval_without_width(made, sound, kind, monkeypatch) -> None:
    """No estimator of ours makes one; should one do so, it is not believed."""
    monkeypatch.setattr(Estimate, "bounds", lambda self, alpha: (self.estimate, self.estimate))
    assert_error(made, sound, kind, "no width")


@pytest.mark.parametrize("kind", sorted(LENIENT))
def test_an_expired_waiver_waives_nothing(made, sound, kind) -> None:
    strict = {"accuracy": 1.1}.get(kind, -0.5)
    for expires, verdict in (("2027-01-14", "fail"), ("2027-01-15", "waived")):
        waiver = {"reason": "known", "expires": expires}
        row = judged(made, sound, kind, margin=strict, waivers=[waiver]).rows[0]
        assert row.verdict.value == verdict


@pytest.mark.parametrize("kind", ["memorization", "memorization_prevalence"])
def test_a_group_whose_fit_is_not_known(made, sound, kind) -> None:
    del row_of(made, kind)["n_not_fitted"]
    result = judged(made, sound, kind, waivers=[])
    assert result.rows[0].verdict.value == "inconclusive"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), 0.0, -1.0, "3", True], ids=repr)
def test_an_epsilon_that_is_none(made, sound, value) -> None:
    made["impact"]["arms"]["harsh"]["record"]["privacy"]["epsilon"] = value
    assert_error(made, sound, "epsilon", "a number above 0")


@pytest.mark.parametrize("value", [None, float("nan"), 0.0, 1.0, "x"], ids=repr)
def test_a_delta_that_is_none(made, sound, value) -> None:
    made["impact"]["arms"]["harsh"]["record"]["privacy"]["delta"] = value
    assert_error(made, sound, "epsilon", "δ on record")


@pytest.mark.parametrize("record", [None, {}, {"privacy": None}, {"privacy": {}}], ids=repr)
def test_an_arm_without_epsilon(made, sound, record) -> None:
    made["impact"]["arms"]["harsh"]["record"] = record
    assert_error(made, sound, "epsilon")


def test_a_baseline_that_is_not_there(made) -> None:
    result = evaluate_gate(made, policy(r=given("regression")), today=DAY)
    assert (result.rows[0].verdict.value, result.exit_code) == ("error", 4)
    assert "pass --baseline" in result.rows[0].message


def test_an_arm_that_is_nearly_right(made, sound) -> None:
    for name in ("harhs", "harsch"):
        assert "did you mean 'harsh'?" in judged(made, sound, "drop", treatments=[name]).rows[0].message
