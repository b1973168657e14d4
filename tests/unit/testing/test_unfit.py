from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.memorization import memorization_score
from lightning_memaudit.testing import ConstantLearner, LookupProblem

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch import LightningModule


def test_a_trained_population_memorizes_nothing_and_does_not_fit(population: Callable[..., np.ndarray]) -> None:
    problem = LookupProblem.random(n_points=30, n_examples=60, n_classes=4, seed=0)
    majority = int(np.bincount(problem.labels).argmax())
    plan = SubsetPlan(60, subset_fraction=0.5)
    correct = population(lambda: ConstantLearner(4, prediction=majority), problem.datamodule(), plan, 12)
    np.testing.assert_array_equal(correct, np.tile(problem.labels == majority, (12, 1)))
    scores = memorization_score(correct, plan.masks(range(12)))
    assert (scores.score[np.isfinite(scores.score)] == 0).all()
    assert np.nanmean(scores.in_accuracy) < 0.6


def test_with_a_learning_rate_it_learns_the_most_frequent_class(fit: Callable[..., LightningModule]) -> None:
    problem = LookupProblem([0] * 30, [2] * 20 + [0] * 10, n_classes=3)
    module = fit(ConstantLearner(3, lr=0.5), problem.datamodule(), max_epochs=30)
    assert module(torch.zeros(2, 3, 4)).argmax(1).tolist() == [2, 2]


def test_it_can_be_copied_pickled_and_rebuilt() -> None:
    module = ConstantLearner(5, prediction=3)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), ConstantLearner(**module.hparams)):
        assert twin(torch.zeros(1, 1)).argmax(1).tolist() == [3]


@pytest.mark.parametrize("arguments", [{"n_classes": 1}, {"n_classes": 3, "prediction": 3}])
def test_a_class_that_does_not_exist_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match="n_classes"):
        ConstantLearner(**arguments)
