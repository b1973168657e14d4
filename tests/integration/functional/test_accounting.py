import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.accounting import (
    NOISE_RANGE,
    NoisySteps,
    affordable_steps,
    epsilon_spent,
    noise_multiplier,
)
from tests.helpers.forked import finished

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "pld.json").read_text())["cases"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: str(case["history"]))
def test_agrees_with_the_privacy_loss_distributions_of_dp_accounting(case):
    ours = epsilon_spent(case["history"], case["delta"])
    assert case["epsilon"] - 1e-4 <= ours <= case["epsilon"] + 0.0125


def gaussian_epsilon(noise, steps, delta):
    """Exact for full batches (Balle and Wang 2018, Theorem 8)."""
    mu = math.sqrt(steps) / noise

    def excess(epsilon):
        return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - delta

    return brentq(excess, 0, 500) if excess(0) > 0 else 0.0


@settings(max_examples=15, deadline=None)
@given(st.floats(3.0, 2000.0), st.integers(1, 100), st.sampled_from([1e-2, 1e-3, 1e-5, 1e-7]))
def test_full_batches_are_the_gaussian_mechanism(noise, steps, delta):
    exact = gaussian_epsilon(noise, steps, delta)
    ours = epsilon_spent([(noise, 1.0, steps)], delta)
    assert exact <= ours <= max(exact + 0.0115, exact * 1.01 + 0.0115)


def test_large_epsilons_fall_back_to_a_bound_that_is_not_below():
    for noise in (0.3, 0.5):
        assert gaussian_epsilon(noise, 20, 1e-5) <= epsilon_spent([(noise, 1.0, 20)], 1e-5) < math.inf
    assert epsilon_spent([(1e-9, 0.05, 400)], 1e-5) > 1e15


def test_epsilon_grows_with_steps_and_falls_with_noise():
    by_steps = [epsilon_spent([(1.0, 0.05, steps)], 1e-5) for steps in (1, 19, 20, 33, 400, 4000)]
    by_noise = [epsilon_spent([(noise, 0.05, 400)], 1e-5) for noise in (0.06, 0.2, 0.3, 0.5, 1, 5, 50, 1e4)]
    assert all(low < high for low, high in itertools.pairwise(by_steps))
    assert all(low > high > 0 for low, high in itertools.pairwise(by_noise))


def test_the_order_and_the_cutting_of_a_history_do_not_matter():
    parts = [NoisySteps(1.0, 0.05, 100), NoisySteps(2.0, 0.03, 300)]
    assert epsilon_spent(parts, 1e-5) == pytest.approx(epsilon_spent(parts[::-1], 1e-5), abs=1e-6)
    cut = [(1.0, 0.05, 60), (1.0, 0.05, 40), (2.0, 0.03, 300), (3.0, 0.5, 0)]
    assert epsilon_spent(cut, 1e-5) == pytest.approx(epsilon_spent(parts, 1e-5), abs=1e-3)


def test_no_steps_cost_nothing_and_steps_without_noise_everything():
    assert epsilon_spent([], 1e-5) == 0
    assert epsilon_spent([(0.0, 0.5, 0)], 1e-5) == 0
    assert epsilon_spent([(1.0, 0.05, 10), (0.0, 0.05, 1)], 1e-5) == math.inf


@pytest.mark.parametrize("target", [0.05, 1.0, 30.0])
@pytest.mark.parametrize(("rate", "steps"), [(0.05, 400), (0.002, 3000)])
def test_the_noise_spends_the_budget_and_no_more(target, rate, steps):
    noise = noise_multiplier(target, 1e-5, sample_rate=rate, steps=steps)
    assert 0.98 * target <= epsilon_spent([(noise, rate, steps)], 1e-5) <= target


def test_the_noise_counts_what_is_spent_before():
    before = [(1.0, 0.05, 100)]
    noise = noise_multiplier(6.0, 1e-5, sample_rate=0.05, steps=300, history=before)
    assert noise > noise_multiplier(6.0, 1e-5, sample_rate=0.05, steps=300)
    assert 5.9 <= epsilon_spent([*before, (noise, 0.05, 300)], 1e-5) <= 6.0


@pytest.mark.parametrize("target", [0.5, 3.0, 6.7])
def test_one_step_more_than_affordable_exceeds_the_budget(target):
    steps = affordable_steps(target, 1e-5, noise_multiplier=1.0, sample_rate=0.05, at_most=1000)
    assert epsilon_spent([(1.0, 0.05, steps)] if steps else [], 1e-5) <= target
    assert epsilon_spent([(1.0, 0.05, steps + 1)], 1e-5) > target


def test_affordable_steps_at_the_ends():
    options = {"noise_multiplier": 1.0, "sample_rate": 0.05}
    assert affordable_steps(50.0, 1e-5, at_most=40, **options) == 40
    assert affordable_steps(0.01, 1e-5, at_most=40, **options) == 0
    assert affordable_steps(3.0, 1e-5, at_most=0, **options) == 0
    assert affordable_steps(3.0, 1e-5, at_most=40, history=[(0.0, 0.5, 1)], **options) == 0
    less = affordable_steps(3.0, 1e-5, at_most=400, history=[(2.0, 0.05, 100)], **options)
    assert 0 < less < affordable_steps(3.0, 1e-5, at_most=400, **options)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (1e-6, {}, rf"target_epsilon=1e-06: no noise_multiplier up to {NOISE_RANGE[1]:g}.*raise target_epsilon"),
        (2.0, {"history": [(1.0, 0.05, 400)]}, r"target_epsilon=2.* since 6\.71 is spent already"),
        (1e7, {}, r"target_epsilon=1e\+07: 400 steps spend only .* set noise_multiplier yourself"),
    ],
)
def test_a_budget_that_no_noise_meets_is_refused(target, options, message):
    with pytest.raises(ArgumentError, match=message):
        noise_multiplier(target, 1e-5, **({"sample_rate": 0.05, "steps": 400} | options))


def test_importing_opacus_leaves_the_root_logger_alone():
    code = (
        "import logging, sys; from lightning_memaudit.functional.accounting import epsilon_spent as e; "
        "known = 'opacus' in sys.modules; e([(1.0, 0.05, 3)], 1e-5); "
        "print(known, 'opacus' in sys.modules, logging.root.handlers)"
    )
    assert finished(code) == "False True []\n"
