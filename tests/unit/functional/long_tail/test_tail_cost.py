import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.long_tail import marginal, tail_cost, tau, zipf
from lightning_memaudit.functional.long_tail._tail_cost import _seen_by_subsets, coupling


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any), st.data())
def test_rarefaction_is_the_mean_over_all_subsets(counts, data) -> None:
    atoms = np.repeat(np.arange(len(counts)), counts)
    size = data.draw(st.integers(0, len(atoms)))
    subsets = [
        np.bincount(atoms[list(s)], minlength=len(counts)) for s in itertools.combinations(range(len(atoms)), size)
    ]
    expected = [np.mean([(subset == ell).sum() for subset in subsets]) for ell in range(4)]
    found = _seen_by_subsets(np.array(counts), size, np.arange(4)).sum(axis=1)
    assert found == pytest.approx(expected)


def test_tau_of_a_subset_is_that_of_the_prior() -> None:
    """Unbiased ratios: their mean over samples from a known prior comes near the exact value."""
    rng, prior, n, size = np.random.default_rng(0), zipf(400), 1500, 1000
    frequencies = np.repeat(prior.frequencies, prior.multiplicity.astype(int))
    top, bottom = np.zeros(3), np.zeros(3)
    for _ in range(60):
        counts = np.bincount(rng.choice(400, size=n, p=frequencies))
        top += _seen_by_subsets(counts, size + 1, np.array([2, 3, 4])).sum(axis=1)
        bottom += _seen_by_subsets(counts, size, np.array([1, 2, 3])).sum(axis=1)
    found = np.array([2, 3, 4]) / (size + 1) * top / bottom
    assert found == pytest.approx(tau(marginal(prior), size, [1, 2, 3]), rel=0.03)


def test_coupling_by_counting_pairs() -> None:
    rng = np.random.default_rng(0)
    answers, mask = rng.integers(0, 3, (3, 12)), rng.random((3, 12)) < 0.6
    atoms = np.arange(12) % 4
    rare = rng.random((3, 4)) < 0.8
    alike, chance = [], []
    for k in range(3):
        for atom in range(4):
            pairs = [
                answers[k, i] == answers[k, j]
                for i in range(12)
                for j in range(12)
                if mask[k, i] and not mask[k, j] and atoms[i] == atoms[j] == atom
            ]
            if rare[k, atom] and pairs:
                alike.append(np.mean(pairs))
        chance += [
            answers[k, i] == answers[k, j]
            for i in range(12)
            for j in range(12)
            if mask[k, i] and not mask[k, j] and atoms[i] != atoms[j]
        ]
    expected = max(0.0, (np.mean(alike) - np.mean(chance)) / (1 - np.mean(chance)))
    assert coupling(answers, mask, atoms, rare=rare) == (pytest.approx(expected), len(alike))


def test_without_a_pair_there_is_no_coupling() -> None:
    found, n = coupling(np.zeros((1, 3), dtype=int), np.ones((1, 3), dtype=bool), [0, 1, 2], rare=np.ones((1, 3), bool))
    assert np.isnan(found)
    assert n == 0


class World:
    """Subpopulations with one label each, and learners that copy the answer to a seen member with probability λ."""

    def __init__(self, rng: np.random.Generator, *, copies: float, n_atoms: int = 300, n: int = 500, n_models: int = 8):
        self.alpha = 1 / np.arange(1.0, n_atoms + 1)
        self.alpha /= self.alpha.sum()
        drawn = rng.choice(n_atoms, size=n, p=self.alpha)
        self.known, self.atoms = np.unique(drawn, return_inverse=True)
        self.mask = np.zeros((n_models, n), dtype=bool)
        for row in self.mask:
            row[rng.choice(n, size=round(0.7 * n), replace=False)] = True
        labels = rng.integers(0, 10, len(self.known))
        self.base, self.treated, self.prediction = (np.zeros((n_models, n), dtype=np.int64) for _ in range(3))
        self.excess = np.zeros(n_models)
        for k, inside in enumerate(self.mask):
            seen = np.bincount(self.atoms[inside], minlength=len(labels))
            dropped = (seen > 0) & (seen <= 3) & (rng.random(len(labels)) < 0.7)
            answer = np.where(dropped, (labels + rng.integers(1, 10, len(labels))) % 10, labels)
            copied = inside | ((seen > 0)[self.atoms] & (rng.random(n) < copies))
            guess = rng.integers(0, 10, n)
            self.prediction[k] = np.where(copied, answer[self.atoms], guess)
            self.treated[k] = self.prediction[k] == labels[self.atoms]
            self.base[k] = np.where(copied, labels[self.atoms], guess) == labels[self.atoms]
            self.excess[k] = copies * self.alpha[self.known] @ dropped  # a guess is as good with either learner

    def predicted(self, **options):
        return tail_cost(self.base, self.treated, self.mask, self.atoms, prediction=self.prediction, **options)


@pytest.mark.parametrize("copies", [1.0, 0.5])
def test_the_prediction_is_the_excess_that_a_known_learner_has(copies: float) -> None:
    rng = np.random.default_rng(1)
    worlds = [World(rng, copies=copies) for _ in range(60)]
    found = [world.predicted(n_bootstrap=60) for world in worlds]
    truth = [world.excess.mean() for world in worlds]
    gaps = np.array([one.total.cost for one in found]) - truth
    assert abs(gaps.mean()) < 3 * gaps.std() / np.sqrt(len(gaps)) + 0.02 * np.mean(truth)
    assert np.mean([one.coupling for one in found]) == pytest.approx(copies, abs=0.04)
    covered = np.mean([one.total.low <= t <= one.total.high for one, t in zip(found, truth, strict=True)])
    assert covered >= 0.9
    assert all(one.rest == 0 for one in found)


def test_parts_add_up_and_what_is_common_is_apart() -> None:
    world = World(np.random.default_rng(0), copies=1.0)
    parts = (np.bincount(world.atoms) > 4).astype(int)
    found = world.predicted(parts=parts, ell_max=2)
    assert found.by_part.cost.sum() == pytest.approx(found.rare.cost + found.rest)
    assert found.rest > 0
    common = [
        ((world.base - world.treated)[k] * world.mask[k] * (seen[world.atoms] > 2)).sum() / 350
        for k, seen in enumerate(
            np.bincount(world.atoms[inside], minlength=world.atoms.max() + 1) for inside in world.mask
        )
    ]
    assert found.rest == pytest.approx(np.mean(common))
    assert (found.by_part.low <= found.by_part.cost).all()
    assert (found.by_part.cost <= found.by_part.high).all()
    assert found.total.cost <= found.total.high


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16), st.integers(2, 4), st.integers(2, 60), st.integers(1, 6))
def test_a_prediction_never_exceeds_one(seed, n_models, n, ell_max) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((n_models, n)) < 0.6
    mask[:, 0], mask[:, -1] = True, False
    atoms = rng.integers(0, n, n) if seed % 2 else np.arange(n)
    found = tail_cost(
        np.ones((n_models, n)), np.zeros((n_models, n)), mask, atoms, prediction=rng.integers(0, 3, (n_models, n)),
        ell_max=ell_max, n_bootstrap=50,
    )  # fmt: skip
    assert 0 <= found.total.cost <= 1
    assert found.total.high <= 1
    assert np.isfinite([found.total.cost, found.total.low, found.total.high]).all()


def test_one_model_has_no_interval() -> None:
    world = World(np.random.default_rng(0), copies=1.0, n_models=1)
    found = world.predicted()
    assert np.isfinite(found.total.cost)
    assert np.isnan([found.total.low, found.total.high, found.rare.low]).all()


def test_a_bad_size_is_named() -> None:
    with pytest.raises(ArgumentError, match="size=5: a subset of the 4 examples"):
        _seen_by_subsets(np.array([2, 2]), 5, np.array([1]))
