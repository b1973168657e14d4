from __future__ import annotations

import copy
import itertools
import math
import pickle
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, seed_everything

from lightning_memaudit.data.datamodule import SubsetDataModule
from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.outcomes.scoring import Multiclass
from lightning_memaudit.testing import LookupProblem, LookupTable

Fit = Callable[..., LightningModule]
DESIGNS = ("fixed_size", "bernoulli")


def answers(problem: LookupProblem, mask: np.ndarray) -> np.ndarray:
    """The naive learner, in words other than the package's: count, and take the first of the most frequent."""
    said = []
    for point in range(problem.n_points):
        seen = [
            int(y) for p, y, inside in zip(problem.points, problem.labels, mask, strict=True) if inside and p == point
        ]
        said.append(min(seen, key=lambda y: (-seen.count(y), y)) if seen else 0)
    return np.array(said)


def brute_force(problem: LookupProblem, fraction: float, design: str) -> tuple[np.ndarray, np.ndarray]:
    n = problem.n_examples
    mass, right = np.zeros((2, n)), np.zeros((2, n))
    for bits in itertools.product([False, True], repeat=n):
        mask = np.array(bits)
        if design == "fixed_size":
            weight = float(mask.sum() == round(fraction * n))
        else:
            weight = fraction ** mask.sum() * (1 - fraction) ** (~mask).sum()
        if not weight:
            continue
        correct = answers(problem, mask)[problem.points] == problem.labels
        for arm, chosen in enumerate((mask, ~mask)):
            mass[arm] += weight * chosen
            right[arm] += weight * chosen * correct
    accuracy = (1 - problem.noise) * right / mass + problem.noise / problem.n_classes
    return accuracy[0], accuracy[1]


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("fraction", [0.12, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_exact_arms_agree_with_enumeration_of_all_subsets(design: str, fraction: float, seed: int) -> None:
    n_examples, n_points, n_classes = [(9, 3, 3), (8, 1, 2), (9, 2, 4), (9, 9, 2), (9, 1, 5)][seed]
    problem = LookupProblem.random(
        n_points=n_points,
        n_examples=n_examples,
        n_classes=n_classes,
        seed=seed,
        label_noise=0.6,
        noise=0.3 * (seed % 2),
    )
    expected = brute_force(problem, fraction, design)
    actual = problem.exact_arms(subset_fraction=fraction, design=design)
    np.testing.assert_allclose(actual, expected, atol=1e-12, rtol=0)
    memorization = problem.exact_memorization(subset_fraction=fraction, design=design)
    np.testing.assert_allclose(memorization, expected[0] - expected[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("design", DESIGNS)
def test_exact_arms_agree_with_simulated_plans(design: str) -> None:
    problem = LookupProblem.random(n_points=25, n_examples=120, n_classes=3, seed=4, label_noise=0.3)
    masks = SubsetPlan(120, subset_fraction=0.6, design=design, seed=1).masks(range(2000))
    correct = np.stack([answers(problem, mask)[problem.points] == problem.labels for mask in masks])
    arms = problem.exact_arms(subset_fraction=0.6, design=design)
    for arm, chosen in zip(arms, (masks, ~masks), strict=True):
        count = chosen.sum(axis=0)
        estimate = (correct & chosen).sum(axis=0) / count
        certain = (arm < 1e-12) | (arm > 1 - 1e-12)
        np.testing.assert_allclose(estimate[certain], arm[certain], atol=1e-12)
        z = (estimate - arm)[~certain] * np.sqrt(count[~certain] / (arm * (1 - arm))[~certain])
        assert np.abs(z).max() < 4.5


@pytest.mark.parametrize("design", DESIGNS)
def test_large_problems_stay_probabilities(design: str) -> None:
    problem = LookupProblem.random(n_points=200, n_examples=4000, n_classes=10, seed=0)
    start = time.perf_counter()
    in_accuracy, out_accuracy = problem.exact_arms(subset_fraction=0.7, design=design)
    assert time.perf_counter() - start < 30
    assert np.isfinite([in_accuracy, out_accuracy]).all()
    assert (out_accuracy >= 0).all()
    assert (in_accuracy <= 1).all()
    assert (in_accuracy >= out_accuracy - 1e-12).all()
    lone = np.bincount(problem.points)[problem.points] == 1
    assert lone.any()
    np.testing.assert_allclose(in_accuracy[lone], 1, atol=1e-12)
    np.testing.assert_allclose(out_accuracy[lone], problem.labels[lone] == 0, atol=1e-12)


@pytest.mark.parametrize("max_epochs", [1, 3])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_trained_module_answers_as_the_naive_learner(fit: Fit, max_epochs: int, noise: float) -> None:
    problem = LookupProblem.random(n_points=20, n_examples=100, n_classes=4, seed=2, label_noise=0.4, noise=noise)
    plan = SubsetPlan(100, seed=3)
    datamodule = problem.datamodule(batch_size=16)
    for model_id in range(3):
        seed_everything(plan.model_seed(model_id), verbose=False)
        module = problem.module()
        fit(module, SubsetDataModule(datamodule, plan, model_id), max_epochs=max_epochs)
        mask, guess = plan.mask(model_id), module.guess.numpy()
        said = np.where(guess >= 0, guess, answers(problem, mask))
        inputs, labels = datamodule.train_dataset.tensors
        scores = Multiclass()(module, (inputs, labels))
        np.testing.assert_array_equal(scores.prediction, said[problem.points])
        assert bool(scores.loss.isfinite().all())
        np.testing.assert_array_equal(module(torch.arange(20)).argmax(1), said)
        if max_epochs == 1:
            expected = np.zeros((20, 4))
            np.add.at(expected, (problem.points[mask], problem.labels[mask]), 1)
            np.testing.assert_array_equal(module.counts.detach(), expected)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_trained_population_agrees_with_the_exact_arms(population: Callable[..., np.ndarray], noise: float) -> None:
    problem = LookupProblem.random(n_points=12, n_examples=50, n_classes=3, seed=5, label_noise=0.3, noise=noise)
    plan = SubsetPlan(50, subset_fraction=0.6, seed=2)
    correct, masks = population(problem.module, problem.datamodule(), plan, 60), plan.masks(range(60))
    for arm, chosen in zip(problem.exact_arms(subset_fraction=0.6), (masks, ~masks), strict=True):
        count = chosen.sum(axis=0)
        z = ((correct & chosen).sum(axis=0) - arm * count) / np.sqrt(count * arm * (1 - arm) + 1e-9)
        assert np.abs(z).max() < 4.5


def test_noise_is_drawn_at_the_stated_rate_and_by_seed() -> None:
    problem = LookupProblem([0, 1], [0, 1], 4, point_labels=np.zeros(20000, dtype=int), noise=0.25)
    seed_everything(5, verbose=False)
    guess = problem.module().guess
    assert abs(float((guess >= 0).double().mean()) - 0.25) < 0.02
    assert abs(float((guess == 3).double().mean()) - 0.0625) < 0.01
    seed_everything(5, verbose=False)
    assert bool((problem.module().guess == guess).all())
    in_accuracy, out_accuracy = problem.exact_arms(subset_fraction=0.5)
    assert ((out_accuracy > 0) & (in_accuracy < 1)).all()


def test_modules_and_data_can_be_copied_pickled_and_rebuilt(fit: Fit) -> None:
    problem = LookupProblem.random(n_points=6, n_examples=40, n_classes=3, seed=0, noise=0.2)
    module = fit(problem.module(), problem.datamodule())
    points = torch.arange(6)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert bool((twin(points) == module(points)).all())
    rebuilt = LookupTable(**module.hparams)
    rebuilt.load_state_dict(module.state_dict())
    assert bool((rebuilt(points) == module(points)).all())
    assert pickle.loads(pickle.dumps(problem.module))().counts.shape == (6, 3)
    assert len(pickle.loads(pickle.dumps(problem.datamodule())).train_dataset) == 40


def test_datamodule_has_one_test_example_a_point() -> None:
    problem = LookupProblem.random(n_points=7, n_examples=30, n_classes=3, seed=1)
    [(inputs, target)] = list(problem.datamodule().test_dataloader())
    assert inputs.tolist() == [[float(point)] for point in range(7)]
    np.testing.assert_array_equal(target, problem.point_labels)
    inputs, target = next(iter(problem.datamodule().train_dataloader()))
    assert inputs.shape == (30, 1)
    assert target.dtype == torch.int64


def test_true_labels_default_to_the_most_frequent() -> None:
    problem = LookupProblem([0, 0, 0, 3, 3], [2, 1, 1, 2, 1], n_classes=3)
    assert problem.point_labels is not None
    assert problem.point_labels.tolist() == [1, 0, 0, 1]


def test_zipf_points_and_label_noise() -> None:
    problem = LookupProblem.random(n_points=10, n_examples=20000, n_classes=5, seed=0, exponent=1.0, label_noise=0.25)
    frequency = np.bincount(problem.points) / 20000
    np.testing.assert_allclose(frequency, (1 / np.arange(1, 11)) / (1 / np.arange(1, 11)).sum(), atol=0.015)
    assert problem.point_labels is not None
    assert abs((problem.labels != problem.point_labels[problem.points]).mean() - 0.25 * 0.8) < 0.01


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"points": [0, -1]}, "points"),
        ({"points": [0.0, 1.0]}, "points"),
        ({"points": [0, 1, 2]}, "labels=int64\\[2\\]: length 3 is needed"),
        ({"labels": [0, 2]}, "labels"),
        ({"n_classes": 1}, "n_classes"),
        ({"noise": 1.5}, "noise"),
        ({"point_labels": [0]}, "point_labels"),
    ],
)
def test_errors_name_the_argument(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        LookupProblem(**({"points": [0, 1], "labels": [0, 1], "n_classes": 2} | arguments))


def test_designs_that_cannot_be_enumerated_are_refused() -> None:
    problem = LookupProblem([0, 1], [0, 1], n_classes=2)
    with pytest.raises(ArgumentError, match="design='paired'"):
        problem.exact_arms(subset_fraction=0.5, design="paired")
    with pytest.raises(ArgumentError, match="subset_fraction"):
        problem.exact_arms(subset_fraction=0.9)
    for wrong in ({"n_points": 0}, {"n_examples": 1}, {"n_classes": 1}, {"exponent": -1.0}, {"label_noise": 2.0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            LookupProblem.random(**({"n_points": 3, "n_examples": 5, "n_classes": 2, "seed": 0} | wrong))


def test_rounding_stays_small_with_thousands_of_examples() -> None:
    """One point of two labels among 3000 examples, summed in exact fractions."""
    ones, zeros, n = 40, 30, 3000
    points = np.r_[np.zeros(ones + zeros, dtype=int), np.arange(1, n - ones - zeros + 1)]
    problem = LookupProblem(points, np.r_[np.ones(ones, dtype=int), np.zeros(n - ones, dtype=int)], n_classes=2)
    arms = problem.exact_arms(subset_fraction=0.7)
    size, rest = round(0.7 * n), n - ones - zeros
    for itself, arm in ((1, arms[0]), (0, arms[1])):
        ways = sum(
            math.comb(ones - 1, a) * math.comb(zeros, b) * math.comb(rest, size - itself - a - b)
            for a in range(ones)
            for b in range(min(zeros + 1, a + itself))  # fewer zeros than ones
        )
        assert arm[0] == pytest.approx(float(Fraction(ways, math.comb(n - 1, size - itself))), abs=1e-12, rel=0)
