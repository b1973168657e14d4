"""Groups: golden mixtures, and the exact binomial size against a sum over sizes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lightning_memaudit.functional.long_tail import (
    Group,
    cost_of_dp,
    cost_of_limited_memorization,
    dirichlet,
    disparate_cost,
    disparate_dp_cost,
    marginal,
    optimal_error,
    uniform,
    zipf,
)

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "long_tail.json").read_text())
SMALL, LARGE = marginal(zipf(5000)), marginal(zipf(25_000))
OPTIONS = {"n_classes": 10, "gamma": 0.5}


def test_golden_mixtures() -> None:
    unequal = {"many": Group(5 / 6, SMALL), "few": Group(1 / 6, SMALL)}
    found = disparate_cost(unequal, 60_000, group_size="fixed", **OPTIONS)
    assert found.total_cost == pytest.approx(GOLDEN["ratios"]["cost_mixture_5_6_P1_1_6_P2"], rel=1e-9)
    assert found.cost[1] / found.cost[0] == pytest.approx(GOLDEN["ratios"]["cost_P2_over_P1"], rel=1e-9)
    assert found.n_samples.tolist() == [50_000, 10_000]
    harder = {"easy": Group(0.5, SMALL), "hard": Group(0.5, LARGE)}
    found = disparate_cost(harder, 100_000, group_size="fixed", **OPTIONS)
    assert found.total_cost == pytest.approx(GOLDEN["ratios"]["cost_mixture_half_P1_P3"], rel=1e-9)
    assert found.cost[1] / found.cost[0] == pytest.approx(GOLDEN["ratios"]["cost_P3_over_P1"], rel=1e-9)
    assert found.total_optimal_error == pytest.approx(found.share @ found.optimal_error)
    found = disparate_cost(unequal, 60_000, **OPTIONS)
    exact = [GOLDEN["binomial_size"]["P1_in_60000"], GOLDEN["binomial_size"]["P2_in_60000"]]
    assert found.cost == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("law", [marginal(zipf(12)), marginal(dirichlet(30, 0.4), mode="iid")])
def test_binomial_size_is_the_mean_over_sizes(law) -> None:
    n, share = 25, 0.2
    sizes = np.arange(n + 1)
    chances = stats.binom.pmf(sizes, n, share)
    missing = [law.n_points * math.exp(law.log_moment(1, size)) for size in sizes.tolist()]
    once = [0.0] + [cost_of_limited_memorization(law, size, n_classes=4, gamma=0.1) for size in sizes.tolist()[1:]]
    groups = {"small": Group(share, law), "rest": Group(1 - share, marginal(uniform(3)))}
    found = disparate_cost(groups, n, n_classes=4, gamma=0.1)
    assert found.optimal_error[0] == pytest.approx(0.75 * float(chances @ missing))
    assert found.cost[0] == pytest.approx(float(chances @ once))
    fixed = disparate_cost(groups, n, n_classes=4, gamma=0.1, group_size="fixed")
    assert fixed.cost[0] == pytest.approx(cost_of_limited_memorization(law, 5, n_classes=4, gamma=0.1))
    assert abs(fixed.cost[0] / found.cost[0] - 1) > 0.005  # why the size of a small group must be random


def test_privacy_by_group() -> None:
    groups = {"all": Group(1.0, SMALL)}
    options = {"n_classes": 10, "epsilon": 1.0, "delta": 1e-5, "bound": "sharp", "adjacency": "label"}
    found = disparate_dp_cost(groups, 10_000, **options)
    assert found.total_cost == pytest.approx(cost_of_dp(SMALL, 10_000, **options))
    assert found.total_optimal_error == pytest.approx(optimal_error(SMALL, 10_000, n_classes=10))


def test_edges() -> None:
    tiny = {"a": Group(1e-3, SMALL), "b": Group(0.999, SMALL)}
    assert disparate_cost(tiny, 10, group_size="fixed", **OPTIONS).cost[0] == 0.0  # no sample, so no singleton
    assert disparate_cost(tiny, 10, group_size="fixed", **OPTIONS).optimal_error[0] == pytest.approx(0.9)
    assert not disparate_cost(tiny, 10, n_classes=2, gamma=0.5).cost.any()
    with pytest.warns(RuntimeWarning, match="does not resolve"):
        found = disparate_cost({"a": Group(1.0, marginal(zipf(5000), mode="iid"))}, 10**8, **OPTIONS)
    assert math.isnan(found.total_cost)
