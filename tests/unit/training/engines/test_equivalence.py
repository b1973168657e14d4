"""A loop that would be wrong is caught on a few models and steps, and rounding is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn import functional

from lightning_memaudit.exceptions import TrainingError, UnsupportedDataError
from lightning_memaudit.training.engines import equivalence
from lightning_memaudit.training.engines.equivalence import check_ensemble, check_in_memory, steps_to_compare
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.engines.in_memory.support import CALLED_HOOKS, Unsupported
from tests.helpers import zoo
from tests.helpers.engines import REPEATABLE, STACKABLE, by_trainer, in_memory, run_of, together

STEPS = 8  # of five in an epoch


def in_memory_is_right(run: Any, n_steps: int = STEPS) -> float:
    return check_in_memory(run, 0, read_into_memory(run.population), n_steps=n_steps)


def ensemble_is_right(run: Any, n_steps: int = STEPS, **options: Any) -> None:
    check_ensemble(run, (0, 1), read_into_memory(run.population), n_steps=n_steps, **options)


@pytest.mark.parametrize(("n_batches", "steps"), [(1, 4), (5, 8), (30, 33), (31, 12), (10_000, 12), (None, 12)])
def test_the_turn_of_an_epoch_is_seen_where_it_is_near(n_batches, steps) -> None:
    assert steps_to_compare(n_batches) == steps


@pytest.mark.parametrize("name", ["mlp", "dropout", "gru", "collate that centres the batch", "max_steps in mid-epoch"])
@pytest.mark.parametrize("n_steps", [5, 8, 1000])
def test_the_loop_in_memory_passes_and_is_timed(name, n_steps) -> None:
    assert 0 < in_memory_is_right(run_of(**REPEATABLE[name]), n_steps) < 1


class ChangesInEveryHook(zoo.Net):
    """The last hook of a step has its say before weights are compared."""


def scale(self: Any, *_: Any) -> None:
    for parameter in self.parameters():
        parameter.data.mul_(0.9)


for _name in CALLED_HOOKS:
    setattr(ChangesInEveryHook, _name, scale)


@pytest.mark.parametrize("n_steps", [4, 5, 8])
def test_hooks_at_the_end_of_a_step_are_part_of_it(n_steps) -> None:
    in_memory_is_right(run_of(ChangesInEveryHook), n_steps)


class CountsWithTheLoop(zoo.Net):
    """Looks at a number that only Lightning's own loop keeps."""

    def loss(self, batch: Any) -> torch.Tensor:
        loop = self.trainer.fit_loop.epoch_loop
        return super().loss(batch) * (1 + loop.batch_progress.total.completed)


class AsksTheLoop(zoo.Net):
    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss(batch) * (1 / self.trainer.fit_loop._data_fetcher.fetched)


class FailsLate(zoo.Net):
    def loss(self, batch: Any) -> torch.Tensor:
        if self.global_step == 3:
            raise ValueError("a row too many")
        return super().loss(batch)


def test_a_loop_that_gives_other_weights_is_caught() -> None:
    with pytest.raises(Unsupported, match=r"weights that differ by \d\.\de[-+]\d+ from those of the Trainer after 8"):
        in_memory_is_right(run_of(CountsWithTheLoop))


def test_a_module_that_needs_lightnings_loop_is_caught() -> None:
    with pytest.raises(Unsupported, match="ZeroDivisionError"):
        in_memory_is_right(run_of(AsksTheLoop))


def test_an_error_of_the_users_code_is_told_as_such() -> None:
    with pytest.raises(TrainingError, match="model 0 failed in your code: ValueError: a row too many"):
        in_memory_is_right(run_of(FailsLate))


# Many models at once


@pytest.mark.parametrize(
    "name", ["mlp", "batch norm", "groups and one-cycle per step", "metrics", "layers that come and go"]
)
def test_stacks_that_are_right_pass(name) -> None:
    ensemble_is_right(run_of(**STACKABLE[name]))


def test_a_check_may_be_longer_than_training() -> None:
    ensemble_is_right(run_of(zoo.Counts), 1000)


@pytest.mark.parametrize("workers", [0, 1])
def test_dropout_layers_are_switched_off_for_the_comparison(workers) -> None:
    run = run_of(zoo.Dropout, data=lambda: zoo.Data(num_workers=workers))
    ensemble_is_right(run)
    assert run.population.recipe.model().net[2].p == 0.5


class KnowsThatItIsStacked(zoo.Net):
    """Does something else inside ``vmap``, where tensors have no memory of their own."""

    def loss(self, batch: Any) -> torch.Tensor:
        try:
            batch[0].data_ptr()
        except RuntimeError:
            return 1.01 * super().loss(batch)
        return super().loss(batch)


class CountsForAll(zoo.Net):
    """Its counter is one for all models, so that none is trained the same way twice."""

    steps = 0

    def loss(self, batch: Any) -> torch.Tensor:
        CountsForAll.steps += 1
        return super().loss(batch) * (1 + CountsForAll.steps % 3)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (KnowsThatItIsStacked, "weights that differ by .* after 8 steps$"),
        (CountsForAll, "other weights when it is trained again"),
        (zoo.RunningScale, "training_step, which uses the value of a metric"),
        (zoo.Rebound, "binds or thaws mean"),
        (zoo.FunctionalDropout, "weights that differ by .* since it draws random numbers besides its dropout layers"),
        (zoo.ReadsTheLoss, r"RuntimeError: vmap: It looks like you're calling \.item\(\)"),
        (zoo.Branches, "RuntimeError: vmap: .* data-dependent control flow"),
        (zoo.BooleanMask, "RuntimeError: vmap: We do not support batching operators that can support dynamic shape"),
        (zoo.with_optimizer(optim.Adafactor), "optimizer Adafactor"),
        (zoo.Recurrent, r"recurrent\._flat_weights"),
        (zoo.PythonChoice, "draws random numbers of numpy or Python"),
        (zoo.Collects, "changes the attribute outputs"),
    ],
)
def test_stacks_that_are_wrong_are_caught(model, reason) -> None:
    with pytest.raises(Unsupported, match=reason):
        ensemble_is_right(run_of(model))


class Chaotic(zoo.Net):
    def layers(self) -> nn.Module:
        return nn.Sequential(nn.Linear(zoo.FEATURES, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 3))

    def configure_optimizers(self) -> Any:
        return optim.SGD(self.parameters(), lr=5.0, momentum=0.9)


def test_rounding_that_grows_is_measured_against_one_ulp() -> None:
    run = run_of(Chaotic, max_epochs=20)
    ensemble_is_right(run, 60)
    with pytest.raises(Unsupported, match="weights that differ"):
        ensemble_is_right(run, 60, times_one_ulp=0.0)


class Diverges(zoo.Net):
    def loss(self, batch: Any) -> torch.Tensor:
        return self(batch[0]).pow(4).sum()


def test_a_diverged_recipe_is_the_same_where_it_is_nan_in_both() -> None:
    run = run_of(Diverges)
    assert all(tensor.isnan().any() for tensor in by_trainer(run).weights.values())
    in_memory_is_right(run)
    ensemble_is_right(run)


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(1.0, 1.5, 0.5), (torch.nan, torch.nan, 0.0), (torch.inf, torch.inf, 0.0)]
)
def test_differences_of_weights(a, b, expected) -> None:
    first, second = ({"x": torch.tensor([x, 1.0]), "n": torch.tensor(3), "none": torch.zeros(0)} for x in (a, b))
    assert equivalence._difference(first, second) == expected


@pytest.mark.parametrize("other", [1.0, torch.inf])
def test_nan_in_one_of_them_is_a_difference(other) -> None:
    assert equivalence._difference({"x": torch.tensor(torch.nan)}, {"x": torch.tensor(other)}) == float("inf")
    assert equivalence._difference({"x": torch.tensor(other)}, {"x": torch.tensor(torch.nan)}) == float("inf")


class ScoredInContext(zoo.Net):
    """In evaluation its answer depends on the other examples of the batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if self.training else functional.batch_norm(x, None, None, training=True))


class ScoredByValue(zoo.Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return logits if self.training or float(logits.detach().sum()) < 1e9 else -logits


@pytest.mark.parametrize("batch_size", [8, 48])
def test_scores_that_depend_on_the_batch_are_caught(batch_size) -> None:
    run = run_of(ScoredInContext, data=lambda: zoo.Data(batch_size=batch_size))
    with pytest.raises(Unsupported, match="scores on 'train' that differ when models are scored at once"):
        ensemble_is_right(run)


def test_scoring_that_vmap_cannot_do_is_caught() -> None:
    with pytest.raises(Unsupported, match="scoring: RuntimeError: vmap"):
        ensemble_is_right(run_of(ScoredByValue))


def test_wrong_labels_are_told_as_such() -> None:
    x, y = zoo.examples()
    run = run_of(zoo.Net, data=lambda: zoo.Data(torch.utils.data.TensorDataset(x, y)))
    data = read_into_memory(run.population)
    spoilt = copy.deepcopy(data)
    spoilt.scoring["test"].rows.leaves[1][3] = 7
    with pytest.raises(UnsupportedDataError, match=r"targets range over 0\.\.7"):
        check_ensemble(run, (0, 1), spoilt, n_steps=3)


def test_nothing_is_left_of_a_check() -> None:
    run = run_of(zoo.Dropout)
    before = in_memory(run)
    state = torch.get_rng_state()
    ensemble_is_right(run)
    in_memory_is_right(run)
    assert torch.equal(torch.get_rng_state(), state)
    after = in_memory(run)
    assert all(torch.equal(tensor, after.weights[name]) for name, tensor in before.weights.items())
    assert len(together(run)) == 2
