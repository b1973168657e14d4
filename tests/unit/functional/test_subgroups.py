"""Values by group against Fairlearn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.functional import subgroups
from lightning_memaudit.functional.intervals import wilson

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "metricframe.json").read_text())
INPUT = {name: np.array(values) for name, values in GOLDEN["input"].items()}
GROUPS = np.searchsorted(["A", "B", "C"], INPUT["group"])
RIGHT = (INPUT["y"] == INPUT["pred"]).astype(float)
NEAR = pytest.approx

# Each value of the frame: the examples that it is over, and what is averaged.
VALUES = {
    "accuracy": (np.ones(60, dtype=bool), RIGHT),
    "tpr": (INPUT["y"] == 1, INPUT["pred"].astype(float)),
    "fpr": (INPUT["y"] == 0, INPUT["pred"].astype(float)),
    "selection_rate": (np.ones(60, dtype=bool), INPUT["pred"].astype(float)),
}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_binary_frame_golden(name) -> None:
    rows, values = VALUES[name]
    values, groups, frame = values[rows], GROUPS[rows], GOLDEN["binary"]
    means = subgroups.by_group(values, groups, n_groups=3)
    assert means == NEAR([frame["by_group"][g][name] for g in "ABC"], abs=1e-9)
    assert subgroups.worst_group(means) == NEAR(frame["group_min"][name], abs=1e-9)
    for arguments in ({"values": means}, {"values": values, "groups": groups, "n_groups": 3}):
        overall = {} if "groups" in arguments else {"overall": frame["overall"][name]}
        assert subgroups.difference(**arguments) == NEAR(frame["difference_between_groups"][name], abs=1e-9)
        assert subgroups.ratio(**arguments) == NEAR(frame["ratio_between_groups"][name], abs=1e-9)
        found = subgroups.difference(**arguments, method="to_overall", **overall)
        assert found == NEAR(frame["difference_to_overall"][name], abs=1e-9)
        found = subgroups.ratio(**arguments, method="to_overall", **overall)
        assert found == NEAR(frame["ratio_to_overall"][name], abs=1e-9)


def test_equalized_odds_golden() -> None:
    gaps = [subgroups.difference(v[r], GROUPS[r], n_groups=3) for r, v in (VALUES["tpr"], VALUES["fpr"])]
    assert max(gaps) == NEAR(GOLDEN["binary"]["eo_diff_worst"], abs=1e-9)
    assert np.mean(gaps) == NEAR(GOLDEN["binary"]["eo_diff_mean"], abs=1e-9)


def test_control_features_golden() -> None:
    control = np.searchsorted(["u", "v"], INPUT["control"])
    found = subgroups.by_group_and_label(RIGHT, control, GROUPS, n_groups=2, n_labels=3)
    frame = GOLDEN["control"]
    for i, level in enumerate("uv"):
        for j, group in enumerate("ABC"):
            expected = frame["by_group"][f"('{level}', '{group}')"]
            assert found.value[i, j] == NEAR(expected["accuracy"], abs=1e-9)
            assert found.n[i, j] == expected["count"]
        assert subgroups.difference(found.value[i]) == NEAR(frame["difference"][level]["accuracy"], abs=1e-9)


def test_multiclass_golden() -> None:
    labels, right = INPUT["y_mc"], (INPUT["y_mc"] == INPUT["pred_mc"]).astype(float)
    frame = GOLDEN["multiclass"]
    accuracy = subgroups.by_group(right, GROUPS, n_groups=3)
    recall = subgroups.by_group_and_label(right, GROUPS, labels, n_groups=3, n_labels=4).value
    assert accuracy == NEAR([frame["by_group"][g]["accuracy"] for g in "ABC"], abs=1e-9)
    # scikit-learn averages recall over the labels that a group has or is given; group C is given none that it lacks.
    assert np.nanmean(recall, axis=1) == NEAR([frame["by_group"][g]["macro_recall"] for g in "ABC"], abs=1e-9)
    assert subgroups.difference(accuracy) == NEAR(frame["difference"]["accuracy"], abs=1e-9)
    assert subgroups.ratio(accuracy) == NEAR(frame["ratio"]["accuracy"], abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    data=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=40),
    n_groups=st.integers(4, 6),
)
def test_by_group_is_a_loop_and_models_are_averaged(data, n_groups) -> None:
    values, groups = (np.array(x) for x in zip(*data, strict=True))
    found = subgroups.by_group(values, groups, n_groups=n_groups)
    for g in range(n_groups):
        expected = values[groups == g].mean() if (groups == g).any() else np.nan
        assert found[g] == NEAR(expected, abs=1e-12, nan_ok=True)
    two = subgroups.by_group(np.stack([values, 1 - values]), torch.tensor(groups), n_groups=n_groups)
    assert two == NEAR(np.where(np.isnan(found), np.nan, 0.5), abs=1e-12, nan_ok=True)


def test_groups_without_examples_and_missing_values_are_never_a_pass() -> None:
    assert subgroups.by_group([1.0, np.nan, 1.0], [0, 0, 1], n_groups=3) == NEAR([np.nan, 1.0, np.nan], nan_ok=True)
    assert subgroups.worst_group([np.nan, 0.4]) == 0.4
    assert np.isnan(subgroups.worst_group([np.nan]))
    assert np.isnan(subgroups.difference([0.4, np.nan]))
    assert np.isnan(subgroups.ratio([0.4, np.nan]))
    assert np.isnan(subgroups.ratio([0.0, 0.0]))
    assert subgroups.difference([0.4, np.nan], method="to_overall", overall=0.5) == NEAR(0.1)


def test_the_gap_of_equal_groups_is_positive_by_chance_alone() -> None:
    assert GOLDEN["trap_max_minus_min_ci"]["true_difference"] == 0.0
    assert GOLDEN["trap_max_minus_min_ci"]["ci"][0]["accuracy"] > 0
    rng = np.random.default_rng(0)
    gaps = [subgroups.difference(rng.random(200) < 0.8, np.arange(200) % 2) for _ in range(50)]
    assert min(gaps) >= 0
    assert np.mean(gaps) > 0.03


@settings(deadline=None, max_examples=60)
@given(k=st.integers(0, 30), extra=st.integers(0, 30), width=st.floats(0.05, 0.5))
def test_the_size_needed_is_the_smallest_that_will_do(k, extra, width) -> None:
    n = max(k + extra, 1)
    k = min(k, n)
    found = subgroups.group_accuracy([1] * k + [0] * (n - k), [0] * n, n_groups=2, width=width)
    low, high = wilson(k, n)
    assert (found.low[0], found.high[0]) == (low, high)
    assert found.too_few.tolist() == [bool(high - low > width), True]
    assert np.isnan(found.low[1])
    for p, needed in ((k / n, found.n_needed[0]), (0.5, found.n_needed[1])):

        def wide(size: float, p: float = p) -> float:
            return float(np.subtract(*wilson(p * size, size)[::-1]))

        assert wide(needed) <= width + 1e-6
        assert needed == 1 or wide(needed - 1) > width - 1e-6
