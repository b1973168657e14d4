"""Bounds and p-values from what a report keeps are those of the arrays."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.impact import accuracy_drop, error_rate
from lightning_memaudit.functional.memorization import PrevalenceBounds, grouped_memorization, prevalence_bounds
from lightning_memaudit.record.estimates import DROP, EXCESS, MEAN, PREVALENCE
from lightning_memaudit.sections.entries import plain

ARMS = st.tuples(
    st.integers(1, 6),  # models of the base
    st.integers(1, 6),  # models of the treated arm
    st.integers(2, 60),  # examples
    st.sampled_from([0.5, 0.9, 0.99, 1.0]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)


def through_json(record):
    return json.loads(json.dumps(plain(record), allow_nan=False))


@settings(max_examples=8, deadline=None)
@given(ARMS, st.floats(-0.5, 0.5))
def test_drop_and_excess_survive_the_report(drawn, margin) -> None:
    k0, k1, n, accuracy, paired, seed = drawn
    rng = np.random.default_rng(seed)
    base, treated = rng.random((k0, n)) < accuracy, rng.random((k0 if paired else k1, n)) < accuracy - 0.05
    drop = accuracy_drop(base, treated, np.arange(n) % 3, paired=paired, n_groups=4)
    for found, kind in ((drop.two_way, DROP), (drop.against_rest, EXCESS)):
        records = [kind.to_row(found, g) for g in range(4)]
        there = [g for g in range(4) if records[g] is not None]
        assert records[3] is None
        again = kind.from_rows([through_json(records[g]) for g in there])
        np.testing.assert_array_equal(again.estimate, found.estimate[there])
        for tail in (0.05, 0.01):
            for ours, theirs in zip(
                again.half_widths(np.asarray(tail)), found.half_widths(np.asarray(tail)), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs[there])
        p, expected = (x.p_value(margin, alternative="greater") for x in (again, found))
        np.testing.assert_array_equal(p, expected[there])


def test_mean_memorization_survives_the_report() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((12, 30)) < 0.5
    correct = rng.random((12, 30)) < np.where(mask, 0.9, 0.4)
    correct[:, 20:] = mask[:, 20:]  # a group without any variation
    codes = np.repeat([0, 1, 2], 10)
    found = grouped_memorization(correct, mask, codes, n_groups=4).mean
    records = [MEAN.to_row(found, g) for g in range(4)]
    assert records[3] is None
    again = MEAN.from_rows([through_json(record) for record in records[:3]])
    for ours, theirs in zip(again.interval(0.9), found.interval(0.9), strict=True):
        np.testing.assert_array_equal(ours, theirs[:3])
    upper = again.interval(0.9)[1]
    assert again.p_value(upper[0], alternative="less")[0] == pytest.approx(0.05, abs=1e-9)
    assert (again.interval()[1] > again.interval()[0]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"estimate": None},
        {"estimate": float("nan")},
        {"n": 0},
        {"n": -1.0},
        {"example_variance": None},
        {"example_variance": -0.1},
        {"score": None},
        {"score": 1},
        {"between": []},
        {"between": [None]},
        {"between": [0.1, 0.1]},
        {"models_df": [None]},  # although models are covered
        {"models_df": "4"},
        {"lost": "many"},
    ],
    ids=str,
)
def test_records_that_are_not_whole_are_refused(change) -> None:
    rng = np.random.default_rng(1)
    found = error_rate(rng.random((5, 40)) < 0.8, np.zeros(40, dtype=int)).error
    record = DROP.to_row(found, 0)
    assert DROP.from_rows([record]).n[0] == 40
    with pytest.raises(ArgumentError, match=r"record"):
        DROP.from_rows([record | change])
    for key in change:
        with pytest.raises(ArgumentError, match=key):
            DROP.from_rows([{k: v for k, v in record.items() if k != key}])
    with pytest.raises(ArgumentError, match="record"):
        DROP.from_rows([None])


def test_records_of_two_scales_do_not_go_together() -> None:
    record = DROP.to_row(error_rate(np.eye(4), np.zeros(4, dtype=int)).error, 0)
    with pytest.raises(ArgumentError, match="one scale"):
        DROP.from_rows([record, record | {"scale": 2.0}])


def test_single_models_and_several_go_together() -> None:
    one, five = (error_rate(np.eye(k, 40), np.zeros(40, dtype=int)).error for k in (1, 5))
    again = DROP.from_rows([DROP.to_row(one, 0), DROP.to_row(five, 0)])
    assert again.covers_models.tolist() == [False, True]
    for g, found in enumerate((one, five)):
        np.testing.assert_array_equal(again.interval()[1][g], found.interval()[1][0])


def test_counts_survive_the_report_and_are_checked() -> None:
    found = PrevalenceBounds(*(np.array([x]) for x in (1000.0, 120.0, 190.0, 100.0)), threshold=0.25)
    assert PREVALENCE.from_rows([PREVALENCE.to_row(found, 0)]) == found
    record = PREVALENCE.to_row(prevalence_bounds(np.eye(4), np.eye(4), np.zeros(4, dtype=int), n_groups=1), 0)
    for change in ({"n": None}, {"certain": 5.0}, {"naive": float("nan")}):
        with pytest.raises(ArgumentError, match="record"):
            PREVALENCE.from_rows([record | change])
    with pytest.raises(ArgumentError, match="one threshold"):
        PREVALENCE.from_rows([record, record | {"threshold": 0.5}])
