"""What is said of each rule and group, and what it makes of the build."""

from __future__ import annotations

import copy
import datetime as dt
import json

import numpy as np
import pytest

from lightning_memaudit import AuditReport, evaluate_gate
from lightning_memaudit.exceptions import ArgumentError, MissingDataError
from lightning_memaudit.functional.impact import accuracy_drop
from lightning_memaudit.functional.uncertainty import OneSided, adjust_p_values
from lightning_memaudit.gates.verdicts import Verdict
from tests.helpers.gates import content, outcomes, policy, report, rule

DAY = dt.date(2027, 1, 15)


@pytest.fixture(scope="module")
def made():
    return report()


def rows_of(result):
    return {(row.rule.name, row.place): row for row in result.rows}


def verdicts(made, today=DAY, **rules):
    result = evaluate_gate(made, policy(**rules), today=today)
    json.dumps(result.to_dict(), allow_nan=False)
    return {place: row.verdict.value for (_, place), row in rows_of(result).items()}, result


def test_a_row_passes_by_its_upper_bound_and_fails_by_its_p_value(made) -> None:
    found, result = verdicts(made, r=rule("drop", 0.1, groups=["half=a", "half=b"]))
    assert found == {
        "mild · half=a": "pass",
        "mild · half=b": "pass",
        "harsh · half=a": "pass",
        "harsh · half=b": "fail",
    }
    assert (result.exit_code, result.passed, result.n_tests) == (1, False, 4)
    row = rows_of(result)[("r", "harsh · half=b")]
    base = outcomes(6, 600, 0.95)
    harsh = base.copy()
    harsh[:, 300:] &= outcomes(6, 300, 0.68, seed=1)
    drop = accuracy_drop(base[:, 300:], harsh[:, 300:], np.zeros(300, dtype=int), paired=True)
    down, up = OneSided(drop.two_way).half_widths(np.asarray(0.05))
    assert row.value == pytest.approx(drop.drop[0])
    assert (row.lower, row.upper) == (pytest.approx(drop.drop[0] - down[0]), pytest.approx(drop.drop[0] + up[0]))
    assert row.p == pytest.approx(OneSided(drop.two_way).p_value(0.1)[0])
    assert row.p_adjusted == pytest.approx(4 * row.p)
    assert (row.n, row.n_models) == (300, 6)
    assert row.message.startswith("+30")
    assert "at least" in row.message
    assert "p = " in row.message


def test_a_bound_that_neither_keeps_nor_breaks_the_margin_is_inconclusive_with_sizes(made) -> None:
    found, result = verdicts(made, r=rule("drop", 0.3, treatments=["harsh"], groups=["half=b"]))
    assert found == {"harsh · half=b": "inconclusive"}
    row = result.rows[0]
    assert (row.p, row.p_adjusted) == (None, None)
    assert row.lower < 0.3 < row.upper
    assert row.needed.factor > 1
    assert (result.exit_code, row.effect) == (0, "warn")
    for setting, code in (("pass", 0), ("warn", 0), ("fail", 3)):
        strict = rule("drop", 0.3, treatments=["harsh"], groups=["half=b"], on_inconclusive=setting)
        assert verdicts(made, r=strict)[1].exit_code == code


def test_holm_is_over_all_rules_and_groups_of_the_policy() -> None:
    """One group just beyond its margin fails alone, and not among many."""
    base = np.ones((4, 900), dtype=bool)
    treated = base.copy()
    treated[:, 800:808] = False
    made = content({"prune": (base, treated)}, {"g": (np.arange(900) // 100, [str(g) for g in range(9)])})
    alone, result = verdicts(made, r=rule("drop", 0.03, groups=["g=8"]))
    assert alone == {"prune · g=8": "fail"}
    p = result.rows[0].p
    assert 0.05 / 9 < p < 0.05
    among, result = verdicts(made, r=rule("drop", 0.03, groups=["g=*"]))
    assert among["prune · g=8"] == "inconclusive"
    last = result.rows[-1]
    assert last.p == p
    assert last.p_adjusted == pytest.approx(adjust_p_values([p, *[1.0] * 8])[0])
    assert "beyond chance" in last.message
    tight, wide = rule("drop", 0.03, groups=["g=8"]), rule("accuracy", 0.5, groups=["g=*"])
    one_more = {**wide, "groups": ["g=0"]}
    assert verdicts(made, r=tight, s=one_more)[1].rows[0].found is Verdict.FAIL  # two rows: 2 p is still below α
    assert verdicts(made, r=tight, s=wide, t=wide)[1].rows[0].found is Verdict.INCONCLUSIVE


def test_only_shows_a_rule_and_judges_it_no_differently() -> None:
    base = np.ones((4, 900), dtype=bool)
    treated = base.copy()
    treated[:, 800:808] = False
    made = content({"prune": (base, treated)}, {"g": (np.arange(900) // 100, [str(g) for g in range(9)])})
    whole = verdicts(made, r=rule("drop", 0.03, groups=["g=8"]), s=rule("drop", 0.9, groups=["g=*"]))[1]
    assert whole.only(["r"]).rows == whole.rows[:1]
    assert whole.rows[0].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("kind", "passes", "fails", "place"),
    [
        ("drop", 0.1, 0.01, "harsh · half=b"),
        ("excess_drop", 0.2, 0.01, "harsh · half=b"),
        ("accuracy", 0.5, 0.9, "harsh · half=b"),
        ("gap", 0.2, 0.01, "harsh · half=b"),
        ("memorization", 0.8, 0.01, "label=1"),
        ("memorization_prevalence", 0.9, 0.1, "label=1"),
        ("epsilon", 3.0, 2.9, "harsh"),
    ],
)
def test_every_kind_passes_a_lenient_margin_and_fails_a_strict_one(made, kind, passes, fails, place) -> None:
    groups = {} if kind == "epsilon" else {"groups": [place.rpartition(" · ")[2]]}
    lenient = passes if kind != "drop" else 0.4
    assert verdicts(made, r=rule(kind, lenient, **groups))[0][place] == "pass"
    assert verdicts(made, r=rule(kind, fails, **groups))[0][place] == "fail"
    # any finite margin is legal
    extreme = {"accuracy": (-5.0, 7.0)}.get(kind, (1e6, -3.0))
    assert verdicts(made, r=rule(kind, extreme[0], **groups))[0][place] == "pass"
    assert verdicts(made, r=rule(kind, extreme[1], **groups))[0][place] == "fail"


def test_accuracies_are_read_as_accuracies(made) -> None:
    row = verdicts(made, r=rule("accuracy", 0.5, treatments=["harsh"], groups=["half=b"]))[1].rows[0]
    assert 0.6 < row.lower < row.value < row.upper < 0.75
    assert "at least 50 % is allowed" in row.message
    assert f"at least {100 * row.lower:.1f}"[:12] in row.message


def test_a_group_that_models_do_not_fit_never_passes() -> None:
    mask = outcomes(100, 40, 0.5)
    unfit = content({"x": (np.ones((2, 4)),) * 2}, {}, memorization=(outcomes(100, 40, 0.3, seed=5), mask))
    for kind in ("memorization", "memorization_prevalence"):
        found, result = verdicts(unfit, r=rule(kind, 1.0))
        assert found == {"overall": "inconclusive"}
        assert "not fitted" in result.rows[0].message


def test_min_n_neither_passes_nor_fails_smaller_groups(made) -> None:
    for margin in (0.4, 0.01):
        small = rule("drop", margin, treatments=["harsh"], groups=["half=b"], min_n=301)
        found, result = verdicts(made, r=small)
        assert found == {"harsh · half=b": "inconclusive"}
        assert "min_n = 301" in result.rows[0].message


def test_informational_rules_change_no_exit_code(made) -> None:
    for given in (rule("drop", 0.01, groups=["half=b"]), rule("drop", 0.01, groups=["half=c"])):
        code = verdicts(made, r=given)[1].exit_code
        assert code in (1, 4)
        found, result = verdicts(made, r={**given, "informational": True})
        assert (result.exit_code, {row.effect for row in result.rows} <= {"warn", "none"}) == (0, True)
        assert set(found.values()) & {"fail", "error"}


def test_exit_codes_take_precedence_4_1_3_0(made) -> None:
    error, fail = rule("drop", 0.1, groups=["half=c"]), rule("drop", 0.01, treatments=["harsh"], groups=["half=b"])
    open_ = rule("drop", 0.3, treatments=["harsh"], groups=["half=b"], on_inconclusive="fail")
    fine = rule("drop", 0.9, groups=["half=a"])
    for rules, code in (
        ((error, fail, open_, fine), 4),
        ((fail, open_, fine), 1),
        ((open_, fine), 3),
        ((fine,), 0),
    ):
        named = {f"r{i}": given for i, given in enumerate(rules)}
        assert verdicts(made, **named)[1].exit_code == code


def test_waivers_hold_until_their_day_and_change_neither_errors_nor_passes(made) -> None:
    def waived(margin, expires, group="half=b"):
        waiver = {"groups": ["half=*"], "treatments": ["harsh"], "reason": "known: retrained", "expires": expires}
        return rule("drop", margin, treatments=["harsh"], groups=[group], waivers=[waiver])

    found, result = verdicts(made, r=waived(0.01, "2027-01-15"))
    assert (found, result.exit_code) == ({"harsh · half=b": "waived"}, 0)
    assert "Waived until 2027-01-15: known: retrained" in result.rows[0].message
    assert result.rows[0].found is Verdict.FAIL
    found, result = verdicts(made, r=waived(0.01, "2027-01-14"))
    assert (found, result.exit_code) == ({"harsh · half=b": "fail"}, 1)
    assert "expired on 2027-01-14" in result.rows[0].message
    assert verdicts(made, r=waived(0.3, dt.date(2027, 2, 1)))[0] == {"harsh · half=b": "waived"}
    found, result = verdicts(made, r=waived(0.9, "2027-02-01"))
    assert found == {"harsh · half=b": "pass"}
    assert any("waives nothing" in warning for warning in result.warnings)
    found, result = verdicts(made, r=waived(0.1, "2027-02-01", "half=nobody"))
    assert (found, result.exit_code) == ({"harsh · half=nobody": "error"}, 4)
    assert "not waived" in result.rows[0].message
    idle = rule(
        "drop", 0.9, groups=["half=a"], waivers=[{"groups": ["half=z"], "reason": "r", "expires": "2027-02-01"}]
    )
    assert any("fits no row" in warning for warning in verdicts(made, r=idle)[1].warnings)


def test_one_model_an_arm_is_said() -> None:
    base = np.ones((1, 200), dtype=bool)
    made = content({"quantize": (base, base.copy())}, {})
    found, result = verdicts(made, r=rule("drop", 0.05, groups=["overall"]))
    assert found == {"quantize · overall": "pass"}
    assert "seed variance is not covered" in result.rows[0].message


def test_what_can_be_judged(made, tmp_path) -> None:
    given = policy(r=rule("drop", 0.4, groups=["half=b"]))
    (tmp_path / "report.json").write_text(json.dumps(made))
    expected = evaluate_gate(made, given).to_dict()["rows"]
    for judged in (AuditReport(copy.deepcopy(made)), tmp_path / "report.json", str(tmp_path), tmp_path):
        assert evaluate_gate(judged, given).to_dict()["rows"] == expected
    with pytest.raises(MissingDataError, match="neither a report"):
        evaluate_gate(tmp_path / "nothing", given)
    with pytest.raises(ArgumentError, match="report=3"):
        evaluate_gate(3, given)
