"""How many examples or models would decide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lightning_memaudit.functional.impact import accuracy_drop, decision_size, group_size

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "impact.json").read_text())["group_size"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: f"{c['margin']}-{c['n_groups']}")
def test_group_size_golden(case) -> None:
    assert group_size(case["margin"], case["discordance"], n_groups=case["n_groups"]) == case["n"]


def test_group_size_gives_the_power_asked_for() -> None:
    margin, discordance, drop = 0.05, 0.1, 0.01
    n = group_size(margin, discordance, drop=drop)
    rng = np.random.default_rng(0)
    lost, gained = (discordance + drop) / 2, (discordance - drop) / 2
    counts = rng.multinomial(n, [lost, gained, 1 - discordance], size=20000)
    mean = (counts[:, 0] - counts[:, 1]) / n
    error = np.sqrt(((counts[:, 0] + counts[:, 1]) / n - mean**2) / n)
    assert (mean + stats.norm.ppf(0.95) * error <= margin).mean() == pytest.approx(0.8, abs=0.015)


def test_examples_that_were_predicted_decide_as_often_as_asked() -> None:
    rng, small, repeats = np.random.default_rng(1), 60, 200

    def draw(n: int):
        arms = (rng.random((8, n * repeats)) < p for p in (0.8, 0.75))
        return accuracy_drop(*arms, np.repeat(np.arange(repeats), n))

    # A small sample whose estimates are the true values.
    found = draw(small)
    one = np.array([1.0])
    truth = replace(
        found.two_way,
        n=one * small,
        estimate=one * 0.05,
        example_variance=one * (0.8 * 0.2 + 0.75 * 0.25) / 8 / small,
        between=np.zeros((2, 1)),
        within=np.zeros((2, 1)),
        models_df=np.full((2, 1), 7.0),
        score=np.array([False]),
        skewness=one * 0,
    )
    sample = replace(found, n=np.array([small]), drop=one * 0.05, low=-one, high=one, two_way=truth)
    needed = int(decision_size(sample).n_needed[0])
    power = {n: decision_size(draw(n)).decided.mean() for n in (needed // 3, needed)}
    print(f"predicted {needed}; decided {power}")
    # What the models are wrongly credited with costs a little of it.
    assert 0.7 < power[needed] < 0.9
    assert power[needed // 3] < 0.5


def test_more_models_help_where_models_are_what_varies() -> None:
    base = np.ones((4, 400))
    treated = np.ones((4, 400))
    for k, wrong in enumerate((0, 40, 80, 120)):
        treated[k, :wrong] = 0
    found = accuracy_drop(base, treated, np.zeros(400, int))
    size = decision_size(found)
    assert not size.decided[0]
    assert np.isnan(size.n_needed[0])
    assert size.models_needed[0] > 4
    z = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2
    models = found.two_way.model_variance[0] * (stats.t.ppf(0.975, 3) / stats.norm.ppf(0.975)) ** 2
    tail = np.array(0.025)
    whole = found.two_way.example_squares(tail)[0][0] + found.two_way.model_squares(tail)[0]
    down = whole / stats.norm.ppf(0.975) ** 2 - models
    assert size.models_needed[0] == np.ceil(4 * z * models / (found.drop[0] ** 2 - z * down))
    assert size.factor_needed[0] == pytest.approx(z * (models + down) / found.drop[0] ** 2)


def test_what_is_decided_needs_no_more_and_what_cannot_be_is_not_promised() -> None:
    base, treated = np.ones((3, 100)), np.zeros((3, 100))
    size = decision_size(accuracy_drop(base, treated, np.zeros(100, int), n_groups=2))
    assert size.decided.tolist() == [True, False]
    assert (size.n_needed[0], size.models_needed[0], size.factor_needed[0]) == (100, 3, 1)
    assert np.isnan([size.n_needed[1], size.models_needed[1], size.factor_needed[1]]).all()
    at_margin = decision_size(accuracy_drop(base, base, np.zeros(100, int)))
    assert np.isnan([at_margin.n_needed[0], at_margin.models_needed[0]]).all()
    assert at_margin.factor_needed[0] == np.inf
    below = decision_size(accuracy_drop(base, base, np.zeros(100, int)), margin=0.02)
    assert 100 < below.n_needed[0] < 2000
    single = decision_size(accuracy_drop(base[:1], base[:1], np.zeros(100, int)), margin=0.02)
    assert np.isnan(single.models_needed[0])
