"""Every executor does what the table of tests/helpers/conformance.py says, Ray's part of which is in test_ray.py.

That parameters agree to 1e-5 after 20 steps is in tests/unit/training/engines/ensemble/test_loop.py, for the same
recipes.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn, optim
from torch.utils.data import TensorDataset

from lightning_memaudit import OutcomeStore
from lightning_memaudit.outcomes.scoring import ExampleScores, multiclass_scores
from lightning_memaudit.training.executors import EXECUTORS, Auto, Ensemble, PlainTrainer, Process, Sequential
from lightning_memaudit.training.timing import Thresholds
from lightning_memaudit.training.workers import dispatch
from lightning_memaudit.training.workers.session import train_lease
from tests.helpers import zoo
from tests.helpers.conformance import CHECKS, IN_THIS_PROCESS, assert_agree, audit, by_trainers
from tests.helpers.engines import STACKABLE
from tests.helpers.workers import shards, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lightning_memaudit.training.executors import Executor

EVERY: dict[str, Executor] = {
    "trainer": PlainTrainer(),
    "sequential": Sequential(),
    "ensemble": Ensemble(),
    "ensemble, no tuning": Ensemble(tuning="off"),
    "auto": Auto(),
    "auto, no tuning": Auto(tuning="off"),
    "auto, all cores": Auto(thresholds=Thresholds(use_workers=0.0)),
    "process": Process(n_workers=2),
    "process, trainer": Process(n_workers=2, engine="trainer"),
    "process, ensemble, no tuning": Process(n_workers=2, engine="ensemble", tuning="off"),
}
ENGINES = {"trainer": "trainer", "sequential": "in-memory", "ensemble": "ensemble"}
ONE_ULP = {"up": (1.0,), "down": (-1.0,), "up or down": (1.0, -1.0)}
RECIPES = (
    "mlp",
    "cnn",
    "batch norm",
    "layer norm",
    "groups and one-cycle per step",
    "cosine per epoch",
    "clipping by norm",
    "dict batches",
    "decay of what has two dimensions",
)


def test_every_executor_that_there_is_is_in_the_table() -> None:
    assert {type(executor) for executor in EVERY.values()} == {*EXECUTORS.values()} - {EXECUTORS["ray"]}


@pytest.mark.parametrize("check", [*CHECKS, *IN_THIS_PROCESS], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", EVERY)
def test_an_executor(name, check, tmp_path: Path) -> None:
    check(EVERY[name], tmp_path)


@pytest.mark.parametrize(
    ("name", "executor"),
    [*product(RECIPES[1:], ["ensemble"]), *product(RECIPES[1:3], ["sequential"]), ("dict batches", "auto")],
)
def test_the_same_store_of_other_recipes(name, executor, tmp_path: Path) -> None:
    store = audit(tmp_path, executor, **STACKABLE[name]).train(progress=False)
    assert_agree(store, by_trainers(name), exactly=store.manifest.execution["engine"] != "ensemble")
    assert store.manifest.execution["engine"] == ENGINES.get(executor, "in-memory")
    assert store.manifest.executor == executor


@pytest.mark.parametrize(("name", "engine"), [("groups and one-cycle per step", "ensemble"), ("cnn", "in-memory")])
def test_the_same_store_from_several_processes(name, engine, tmp_path: Path, monkeypatch) -> None:
    def after_a_worker(*arguments: Any, **options: Any) -> Iterator[int]:
        wait_for(lambda: shards(arguments[0].store))
        return train_lease(*arguments, **options)

    monkeypatch.setattr(dispatch, "train_lease", after_a_worker)
    store = audit(tmp_path, Process(n_workers=2, engine=engine), **STACKABLE[name]).train(progress=False)
    assert_agree(store, by_trainers(name), exactly=engine == "in-memory")
    execution = store.manifest.execution
    assert (execution["engine"], execution["processes"], store.manifest.executor) == (engine, 2, "process")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (zoo.with_optimizer(optim.Adafactor), "optimizer Adafactor"),
        (zoo.Recurrent, "recurrent"),
        (zoo.Branches, "data-dependent control flow"),
        (zoo.FunctionalDropout, "draws random numbers besides its dropout layers"),
        (zoo.HooksOnGradients, "a hook on the gradient of net.0.weight"),
    ],
)
def test_what_a_stack_would_get_wrong_is_trained_by_itself(model, reason, tmp_path: Path) -> None:
    expected = audit(tmp_path / "trainer", "trainer", model=model).train(progress=False)
    store = audit(tmp_path / "ensemble", "ensemble", model=model).train(progress=False)
    assert store.manifest.execution["engine"] == "in-memory"
    assert reason in store.manifest.execution["reason"]
    assert_agree(store, expected, exactly=True)


def test_what_shows_late_is_trained_by_itself_from_then_on(tmp_path: Path, caplog) -> None:
    recipe = {"model": zoo.WeighsByAMetric}
    expected = audit(tmp_path / "trainer", "trainer", **recipe).train(progress=False)
    store = audit(tmp_path / "ensemble", "ensemble", **recipe).train(progress=False)
    assert "3 models are trained one after the other: training_step, which uses the value of a metric" in caplog.text
    assert_agree(store, expected, exactly=True)


class Chaotic(zoo.Net):
    """Half of its labels are noise, and in fitting them rounding grows until it decides some outcomes."""

    def layers(self) -> nn.Module:
        hidden = [nn.Linear(zoo.FEATURES, 32), nn.ReLU()]
        for _ in range(2):
            hidden += [nn.Linear(32, 32), nn.ReLU()]
        return nn.Sequential(*hidden, nn.Linear(32, zoo.CLASSES))


def noisy_data() -> zoo.Data:
    x, y = zoo.examples()
    noise = torch.randint(0, zoo.CLASSES, y.shape, generator=torch.Generator().manual_seed(0))
    return zoo.Data(TensorDataset(x, torch.where(torch.arange(len(y)) % 2 == 0, y, noise)))


def nudged(signs: tuple[float, ...]) -> nn.Module:
    """Every initial weight is the next float in one of these directions."""
    module, generator = Chaotic(), np.random.default_rng(0)
    with torch.no_grad():
        for parameter in module.parameters():
            towards = np.inf * generator.choice(signs, parameter.shape)
            parameter.copy_(torch.from_numpy(np.nextafter(parameter.numpy(), towards.astype(np.float32))))
    return module


def blurred(share: float) -> nn.Module:
    module = Chaotic()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + share * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return module


def more_than_an_ulp(flips: npt.NDArray[np.int64], of_an_ulp: npt.NDArray[np.int64]) -> float:
    """Flips [model] beyond those of perturbations [draw, model] in the mean, in standard errors over the models."""
    excess = flips - of_an_ulp.mean(axis=0)
    return float(excess.mean() / (excess.std(ddof=1) / np.sqrt(len(excess))))


def test_on_a_chaotic_recipe_the_ensemble_flips_no_more_than_one_ulp_does(tmp_path: Path) -> None:
    """Three standard errors over 12 models; an error of 1e-4 in the weights, for a control, is beyond them."""

    def trained(name: str, executor: str, model: Any) -> OutcomeStore:
        recipe = {"model": model, "data": noisy_data, "max_epochs": 32}
        return audit(tmp_path / name, executor, n_models=12, **recipe).train(progress=False)

    def n_flips(name: str, executor: str, model: Any) -> npt.NDArray[np.int64]:
        store = trained(name, executor, model)
        pairs = [(store.load(split=split), reference.load(split=split)) for split in reference.splits()]
        return np.sum([(ours.correct != theirs.correct).sum(axis=1) for ours, theirs in pairs], axis=0)

    reference = trained("reference", "sequential", Chaotic)
    of_an_ulp = np.array([n_flips(way, "sequential", partial(nudged, signs)) for way, signs in ONE_ULP.items()])
    assert (of_an_ulp.sum(axis=1) > 10).all()  # chaotic it is
    found = n_flips("ensemble", "ensemble", Chaotic)
    assert OutcomeStore(tmp_path / "ensemble").manifest.execution["engine"] == "ensemble"
    assert more_than_an_ulp(found, of_an_ulp) < 3
    assert more_than_an_ulp(n_flips("control", "sequential", partial(blurred, 1e-4)), of_an_ulp) > 3


@pytest.mark.parametrize(
    ("first", "second"), [("ensemble", "trainer"), ("trainer", "ensemble"), ("sequential", "ensemble")]
)
def test_executors_may_take_turns_on_one_store(first, second, tmp_path: Path) -> None:
    for n_models, executor in ((2, first), (3, second)):
        store = audit(tmp_path, executor, **STACKABLE["mlp"]).train(n_models, progress=False)
        assert store.model_ids() == list(range(n_models))
        assert store.manifest.execution["engine"] == ENGINES[executor]
    assert_agree(store, by_trainers("mlp"), exactly=False)


def scaled(pl_module: Any, batch: Any) -> ExampleScores:
    """Asks the module for more than its answer to the inputs."""
    return multiclass_scores(pl_module.net(batch[0]) / pl_module.lr, batch[1])


@pytest.mark.parametrize("executor", ["sequential", "ensemble"])
def test_score_functions_of_the_users_own(executor, tmp_path: Path) -> None:
    recipe = {"model": zoo.Net, "score_fn": scaled}
    expected = audit(tmp_path / "trainer", "trainer", **recipe).train(progress=False)
    store = audit(tmp_path / "other", executor, **recipe).train(progress=False)
    assert store.manifest.execution["engine"] == ENGINES[executor]
    assert_agree(store, expected, exactly=executor == "sequential")
    assert not np.allclose(store.load(split="train").margin, by_trainers("mlp").load(split="train").margin)
