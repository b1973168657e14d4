"""False discovery rates under noise and with planted pairs; near-duplicates."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_memaudit.functional.influence import (
    _false_discovery as false_discovery,
)
from lightning_memaudit.functional.influence import (
    _influence as influence,
)
from tests.helpers.counting import counting


@pytest.fixture(autouse=True, scope="module", params=[True, False], ids=["bits", "products"])
def engine(request):
    """Everything is tested with either way to count."""
    with counting(bits=request.param):
        yield


def audit(n_models: int, n: int, *, seed: int, duplicates=(), fraction: float = 0.7):
    """Every example is memorized in part; listed pairs are exact duplicates."""
    rng = np.random.default_rng(seed)
    mask = rng.random((n_models, n)) < fraction
    seen = mask.copy()
    for i, j in duplicates:
        seen[:, i] = seen[:, j] = mask[:, i] | mask[:, j]
    # Models differ in quality, so that columns depend on each other.
    shift = rng.uniform(-0.1, 0.1, (n_models, 1))
    correct = rng.random(mask.shape) < np.where(seen, 0.97, rng.uniform(0.2, 0.8, n) + shift)
    for i, j in duplicates:
        correct[:, [i, j]] = seen[:, [i, j]]
    return correct, mask


@pytest.mark.parametrize("statistic", ["influence", "given-out", "mutual"])
def test_observed_counts_are_plain_counts(statistic) -> None:
    correct, mask = audit(60, 25, seed=0)
    labels = np.arange(25) % 2
    function = influence.influence if statistic == "influence" else influence.influence_given_out
    matrix = function(correct, mask).astype(np.float64)
    if statistic == "mutual":
        matrix = np.where(np.triu(np.ones((25, 25)), 1) > 0, np.minimum(matrix, matrix.T), np.nan)
    matrix[labels[:, None] != labels] = np.nan
    found = false_discovery.false_discovery_rate(
        correct,
        mask,
        thresholds=[0.11, 0.303],
        statistic=statistic,
        labels_train=labels,
        labels_test=labels,
        n_permutations=3,
        block=6,
    )
    assert found.observed.tolist() == [(matrix >= t).sum() for t in (0.11, 0.303)]


@pytest.mark.parametrize("statistic", ["influence", "given-out"])
def test_noise_has_a_rate_near_one(statistic) -> None:
    rng = np.random.default_rng(1)
    mask = rng.random((80, 60)) < 0.7
    correct = rng.random((80, 60)) < 0.5
    found = false_discovery.false_discovery_rate(correct, mask, thresholds=[0.05, 0.1, 0.15], statistic=statistic)
    print(f"noise, {statistic}: {found.rate.round(3)}")
    assert (found.rate > 0.85).all()
    assert np.isnan(false_discovery.threshold_for_fdr(found))


def test_expected_false_pairs_match_fresh_noise_with_self_memorization() -> None:
    correct, mask = audit(100, 60, seed=2)
    found = false_discovery.false_discovery_rate(correct, mask, thresholds=[0.3, 0.4], statistic="given-out")
    # There is no influence between different examples here, so all that is observed is false.
    print(f"expected false {found.expected_false}, observed {found.observed}")
    np.testing.assert_allclose(found.expected_false, found.observed, rtol=0.3, atol=5)


def test_the_realized_share_of_false_pairs_is_near_the_level() -> None:
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(10):
        mask = rng.random((150, 80)) < 0.7
        correct = rng.random((150, 40)) < 0.5
        for j in range(20):
            correct[:, j] = rng.random(150) < np.where(mask[:, j], 0.8, 0.3)
        rates = false_discovery.false_discovery_rate(correct, mask, seed=4, n_permutations=10)
        threshold = false_discovery.threshold_for_fdr(rates, level=0.2)
        pairs = influence.influence(correct, mask, threshold=threshold)
        shares.append(np.mean((pairs.train_index != pairs.test_index) | (pairs.test_index >= 20)))
    print(f"realized false share at level .2: {np.mean(shares):.3f}")
    assert np.mean(shares) <= 0.25


def test_rows_columns_and_blocks() -> None:
    rng = np.random.default_rng(5)
    half = rng.random((20, 30)) < 0.5
    mask = np.stack([half, ~half], axis=1).reshape(40, 30)
    correct = rng.random((40, 50)) < 0.5
    found = false_discovery.false_discovery_rate(
        correct, mask, rows=[3, 1, 1], max_columns=10, blocks=np.arange(40) // 2, thresholds=[-1.0], n_permutations=2
    )
    assert found.observed.tolist() == [20]
    assert found.expected_false.tolist() == [20.5]
    assert found.n_columns == 10


def test_dealing_anew_keeps_pairs() -> None:
    blocks = np.array([0, 1, 2, 0, 1, 2])
    order = false_discovery._dealt_anew(6, blocks, np.random.default_rng(0))
    assert sorted(order) == list(range(6))
    assert all(len(set(blocks[order[blocks == b]])) == 1 for b in range(3))


def test_duplicates_are_found_and_noise_gives_none() -> None:
    planted = [(3, 40), (17, 18)]
    found = false_discovery.near_duplicates(*audit(200, 100, seed=6, duplicates=planted))
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == planted
    assert found.score.tolist() == [1.0, 1.0]
    assert found.threshold >= 0.5
    assert found.false_discovery_rate <= 0.05
    for n_models in (30, 200):
        nothing = false_discovery.near_duplicates(*audit(n_models, 100, seed=7))
        assert len(nothing.first) == 0


def test_labels_limit_the_search() -> None:
    correct, mask = audit(200, 40, seed=8, duplicates=[(0, 1), (2, 4)])
    labels = np.arange(40) % 2
    found = false_discovery.near_duplicates(correct, mask, labels=labels)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(2, 4)]
