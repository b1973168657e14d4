from __future__ import annotations

import copy
import itertools
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.testing import LongTailedGaussians, NearestNeighbor

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule

SMALL = {
    "inputs": [[0.0], [1.0], [9.0]],
    "labels": [1, 1, 0],
    "subpopulations": [0, 0, 1],
    "n_classes": 2,
    "frequencies": [0.7, 0.3],
    "test_inputs": [[0.0], [9.0]],
    "test_labels": [1, 0],
}


def right(problem: LongTailedGaussians, mask: np.ndarray) -> np.ndarray:
    """The naive nearest neighbour on every training example, in float64."""
    inputs = problem.inputs.astype(np.float64)
    if not mask.any():
        return problem.labels == 0
    squares = ((inputs[:, None] - inputs[None, mask]) ** 2).sum(axis=2)
    return problem.labels[mask][squares.argmin(axis=1)] == problem.labels


def weight_of(mask: np.ndarray, fraction: float, design: str) -> float:
    if design == "fixed_size":
        return float(mask.sum() == round(fraction * len(mask)))
    return fraction ** mask.sum() * (1 - fraction) ** (~mask).sum()


@pytest.mark.parametrize("design", ["fixed_size", "bernoulli"])
@pytest.mark.parametrize("fraction", [0.12, 0.5, 0.9])
@pytest.mark.parametrize(("separation", "label_noise"), [(100.0, 0.0), (1.0, 0.0), (3.0, 0.4)])
def test_exact_arms_agree_with_enumeration(design: str, fraction: float, separation: float, label_noise: float) -> None:
    n = 9
    problem = LongTailedGaussians.random(
        n_subpopulations=5,
        n_examples=n,
        n_classes=3,
        seed=8,
        n_features=2,
        separation=separation,
        label_noise=label_noise,
    )
    mass, hits = np.zeros((2, n)), np.zeros((2, n))
    for bits in itertools.product([False, True], repeat=n):
        mask = np.array(bits)
        if weight := weight_of(mask, fraction, design):
            correct = right(problem, mask)
            for arm, chosen in enumerate((mask, ~mask)):
                mass[arm] += weight * chosen
                hits[arm] += weight * chosen * correct
    expected = hits / mass
    actual = problem.exact_arms(subset_fraction=fraction, design=design)
    np.testing.assert_allclose(actual, expected, atol=1e-12, rtol=0)
    memorization = problem.exact_memorization(subset_fraction=fraction, design=design)
    np.testing.assert_allclose(memorization, expected[0] - expected[1], atol=1e-12, rtol=0)


def test_far_apart_an_example_is_right_when_its_subpopulation_was_seen_or_a_neighbour_agrees() -> None:
    problem = LongTailedGaussians.random(n_subpopulations=12, n_examples=80, n_classes=2000, seed=3, separation=1e3)
    assert len(np.unique(problem.test_labels)) == 12  # so a neighbour never agrees
    others = np.bincount(problem.subpopulations)[problem.subpopulations] - 1
    _, out_accuracy = problem.exact_arms(subset_fraction=0.5, design="bernoulli")
    np.testing.assert_allclose(out_accuracy, 1 - 0.5**others, atol=1e-12)


@pytest.mark.parametrize("design", ["fixed_size", "bernoulli"])
def test_a_trained_population_agrees_with_the_exact_arms(population: Callable[..., np.ndarray], design: str) -> None:
    problem = LongTailedGaussians.random(n_subpopulations=30, n_examples=60, n_classes=3, seed=1, label_noise=0.1)
    plan = SubsetPlan(60, subset_fraction=0.7, design=design, seed=5)
    masks = plan.masks(range(60))
    correct = population(problem.module, problem.datamodule(), plan, 60)
    np.testing.assert_array_equal(correct, [right(problem, mask) for mask in masks])
    assert correct[masks].all()
    out = ~masks
    exact = problem.exact_arms(subset_fraction=0.7, design=design)[1]
    count = out.sum(axis=0)
    z = ((correct & out).sum(axis=0) - exact * count) / np.sqrt(count * exact * (1 - exact) + 1e-9)
    assert np.abs(z).max() < 4.5


def test_later_epochs_batches_and_order_change_nothing(fit: Callable[..., LightningModule]) -> None:
    problem = LongTailedGaussians.random(n_subpopulations=8, n_examples=50, n_classes=3, seed=2, separation=1.0)
    one = fit(problem.module(), problem.datamodule(batch_size=50))
    many = fit(problem.module(), problem.datamodule(batch_size=7), max_epochs=3)
    assert len(many.targets) == 50
    assert float(many.scale.detach()) == 1.0
    queries = torch.tensor(problem.test_inputs)
    torch.testing.assert_close(one(queries), many(queries), rtol=0, atol=0)


def test_modules_and_data_can_be_copied_pickled_and_restored(fit: Callable[..., LightningModule]) -> None:
    problem = LongTailedGaussians.random(n_subpopulations=8, n_examples=50, n_classes=3, seed=2)
    module = fit(problem.module(), problem.datamodule())
    queries = torch.tensor(problem.test_inputs)
    restored = NearestNeighbor(**module.hparams)
    restored.load_state_dict(module.state_dict())
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), restored):
        assert bool((twin(queries) == module(queries)).all())
    assert len(pickle.loads(pickle.dumps(problem.module))().targets) == 0
    assert len(pickle.loads(pickle.dumps(problem.datamodule())).test_dataset) == 8


def test_nothing_seen_and_classes_unseen_have_finite_logits() -> None:
    module = NearestNeighbor(n_features=2, n_classes=4)
    queries = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert module(queries).argmax(1).tolist() == [0, 0]
    module.training_step((queries[:1], torch.tensor([2])), 0)
    logits = module(queries)
    assert logits[:, 2].tolist() == [0.0, -5.0]
    assert bool(logits.isfinite().all())
    assert logits.argmax(1).tolist() == [2, 2]


def test_groups_split_the_mass_in_thirds() -> None:
    problem = LongTailedGaussians.random(n_subpopulations=200, n_examples=6000, n_classes=3, seed=0)
    share = np.bincount(problem.groups) / 6000
    assert np.abs(share - 1 / 3).max() < 0.07
    assert problem.group_names == ("head", "torso", "tail")
    by_group = [problem.subpopulations[problem.groups == group] for group in range(3)]
    assert by_group[0].max() < by_group[1].min() <= by_group[1].max() < by_group[2].min()
    assert problem.frequencies.sum() == pytest.approx(1)
    np.testing.assert_allclose(problem.frequencies * np.arange(1, 201), problem.frequencies[0])
    memorization = LongTailedGaussians.random(
        n_subpopulations=200, n_examples=600, n_classes=3, seed=0
    ).exact_memorization(subset_fraction=0.7)
    assert memorization.shape == (600,)


def test_tail_is_memorized_and_head_is_not() -> None:
    problem = LongTailedGaussians.random(n_subpopulations=150, n_examples=400, n_classes=5, seed=0)
    memorization = problem.exact_memorization(subset_fraction=0.7)
    head, torso, tail = (memorization[problem.groups == group].mean() for group in range(3))
    assert head < 0.02 < torso < tail
    assert tail > 0.3


def test_test_examples_are_labelled_as_their_subpopulation(fit: Callable[..., LightningModule]) -> None:
    problem = LongTailedGaussians.random(
        n_subpopulations=6, n_examples=300, n_classes=4, seed=0, exponent=0, separation=1e3
    )
    module = fit(problem.module(), problem.datamodule())
    [(inputs, target)] = list(problem.datamodule().test_dataloader())
    assert module(inputs).argmax(1).tolist() == target.tolist()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"inputs": [[0.0], [0.0], [9.0]]}, "inputs"),
        ({"labels": [0, 1]}, "labels"),
        ({"labels": [0, 1, 2]}, "labels"),
        ({"subpopulations": [0, 1, 2]}, "subpopulations"),
        ({"n_classes": 1}, "n_classes"),
        ({"frequencies": [0.3, 0.7]}, "frequencies"),
        ({"frequencies": [0.3, 0.2]}, "frequencies"),
        ({"test_inputs": [[0.0]]}, "test_inputs"),
        ({"test_labels": [0]}, "test_labels"),
    ],
)
def test_errors_name_the_argument(arguments: dict[str, object], named: str) -> None:
    LongTailedGaussians(**SMALL)
    with pytest.raises(ArgumentError, match=named):
        LongTailedGaussians(**(SMALL | arguments))


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_subpopulations": 0},
        {"n_examples": 1},
        {"n_classes": 1},
        {"n_features": 0},
        {"separation": -1.0},
        {"label_noise": 1.1},
    ],
)
def test_random_refuses_numbers_out_of_range(wrong: dict[str, float]) -> None:
    name = {"n_subpopulations": "n_points"}.get(*wrong, *wrong)
    with pytest.raises(ArgumentError, match=name):
        LongTailedGaussians.random(**({"n_subpopulations": 3, "n_examples": 5, "n_classes": 2, "seed": 0} | wrong))
