"""What one step of one model tells, and what it refuses."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from lightning_memaudit.data.randomness import random_state
from lightning_memaudit.training.engines.ensemble.inspection import (
    inspect_step,
    loss_of,
    without_dropout,
    without_metrics,
)
from lightning_memaudit.training.engines.in_memory.support import Unsupported
from lightning_memaudit.training.task import silenced
from tests.helpers import zoo

BATCH = zoo.examples(8)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    with silenced():
        return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


def inspected(module: LightningModule, trainer: Trainer, batch: Any = BATCH):
    module.trainer = trainer
    return inspect_step(module, batch)


@pytest.mark.parametrize("module", [zoo.Net, zoo.BatchNorm, zoo.Tied, zoo.Metrics, zoo.WithoutIndex, zoo.ReturnsDict])
def test_a_step_that_is_the_same_every_time(module, trainer) -> None:
    found = inspected(module(), trainer)
    assert found.steady
    assert not found.draws_random
    assert found.unused == frozenset()


def test_the_memory_of_activations_grows_with_the_batch(trainer) -> None:
    few, many = (inspected(zoo.Net(), trainer, zoo.examples(n)).activation_bytes for n in (10, 1000))
    assert many - few == pytest.approx((1000 - 10) * 4 * (zoo.FEATURES + 8 + zoo.CLASSES), rel=0.5)


def test_parameters_without_a_gradient(trainer) -> None:
    assert inspected(zoo.Unused(), trainer).unused == {"spare.weight", "spare.bias"}
    assert inspected(zoo.Frozen(), trainer).unused == frozenset()


@pytest.mark.parametrize("module", [zoo.Dropout, zoo.FunctionalDropout])
def test_random_numbers_of_torch(module, trainer) -> None:
    assert inspected(module(), trainer).draws_random
    assert not inspected(without_dropout(zoo.Dropout()), trainer).draws_random


def test_dropout_layers_of_every_kind_are_switched_off() -> None:
    layers = (nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5))
    module = without_dropout(nn.Sequential(*layers))
    x = torch.rand(4, 3, 5, 5)
    state = random_state()
    assert torch.equal(module(x), x)
    assert random_state() == state


class Step(zoo.Net):
    """Does something besides its loss."""

    def __init__(self, besides: Any) -> None:
        super().__init__()
        self.besides = besides
        self.number, self.table, self.array, self.flag = 1.0, {"n": 0}, np.zeros(2), None

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        weight = self.besides(self, batch_idx)
        return self.loss(batch) * (1.0 if weight is None else weight)


class Outer(zoo.Net):
    """Holds another LightningModule, which looks at the epoch."""

    def layers(self) -> nn.Module:
        return Inner()


class Inner(zoo.Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (1 + self.current_epoch)


class HooksOnAccumulation(zoo.Net):
    def __init__(self) -> None:
        super().__init__()
        for parameter in self.parameters():
            parameter.register_post_accumulate_grad_hook(lambda parameter: None)


class Iterates(zoo.Net):
    def __init__(self) -> None:
        super().__init__()
        self.lines = iter([1.0] * 13 + [2.0] * 100)


class DrawsTensors(zoo.Net):
    """Of which ``vmap`` would draw others for each model."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)

    def loss(self, batch: Any) -> torch.Tensor:
        return super().loss(batch) * torch.rand((), generator=self.generator)


def assigned(name: str, value: Any) -> Any:
    return lambda module, _: setattr(module, name, value)


@pytest.mark.parametrize(
    "besides",
    [
        lambda module, i: i,
        lambda module, i: 1 / (1 + i),
        lambda module, i: 1.0 if i % 2 else 2.0,
        lambda module, i: bool(i),
        lambda module, i: float(torch.tensor(i)),
        lambda module, i: [1.0, 2.0][min(i, 1)],
        lambda module, i: f"{i}" and None,
        lambda module, i: {0: 1.0}.get(i),
        lambda module, i: -i,
        lambda module, i: abs(i),
        lambda module, i: module.current_epoch,
        lambda module, i: module.global_step,
        lambda module, i: module.trainer.max_epochs and None,
        lambda module, i: setattr(module.trainer, "mine", 1),
        assigned("number", 2.0),
        assigned("flag", True),
        assigned("fresh", "text"),
        lambda module, i: module.table.update(n=module.table["n"] + 1),
        lambda module, i: module.table.update(more=1),
        lambda module, i: module.table.pop("n") and None,
    ],
)
def test_a_step_that_may_be_another_one_next_time(besides, trainer) -> None:
    assert not inspected(Step(besides), trainer).steady


@pytest.mark.parametrize(
    "besides",
    [
        lambda module, i: None,
        lambda module, i: module.log("i", i),
        lambda module, i: module.lr,
        assigned("number", 1.0),
        lambda module, i: module.table["n"] + 1,
    ],
)
def test_a_step_that_only_seems_to(besides, trainer) -> None:
    assert inspected(Step(besides), trainer).steady


def test_modules_inside_are_watched_too(trainer) -> None:
    module = Outer()
    assert not inspected(module, trainer).steady
    assert module.trainer is trainer
    assert module.net.trainer is trainer


@pytest.mark.parametrize(
    ("besides", "message"),
    [
        (assigned("latest", torch.ones(2)), "changes the attribute latest"),
        (lambda module, i: module.array.__iadd__(1) is None, "changes the attribute array"),
        (lambda module, i: module.table.update(x=torch.ones(1)), r"changes the attribute table\['x'\]"),
        (lambda module, i: np.random.rand() * 0, "draws random numbers of numpy or Python"),  # noqa: NPY002
    ],
)
def test_what_stacked_models_would_get_wrong(besides, message, trainer) -> None:
    with pytest.raises(Unsupported, match=message):
        inspected(Step(besides), trainer)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (zoo.Collects, r"changes the attribute outputs\[0\]"),
        (zoo.PythonChoice, "draws random numbers of numpy or Python"),
        (zoo.NumpyMix, "draws random numbers of numpy or Python"),
        (partial(Step, lambda module, i: torch.ones(2)), "returns no scalar loss"),
        (zoo.RunningScale, "training_step, which uses the value of a metric"),
        (zoo.HooksOnGradients, "a hook on the gradient of net.0.weight"),
        (HooksOnAccumulation, "a hook on the gradient of net.0.weight"),
        (Iterates, "the attribute lines, an iterator"),
        (DrawsTensors, "changes the attribute generator"),
    ],
)
def test_modules_that_are_refused(module, message, trainer) -> None:
    with pytest.raises(Unsupported, match=message):
        inspected(module(), trainer)


def test_the_loss_of_an_output() -> None:
    loss = torch.tensor(1.0)
    assert loss_of(loss) is loss
    assert loss_of({"loss": loss, "x": 1}) is loss
    for output in (None, {"x": loss}, torch.ones(1), 1.0, {"loss": None}):
        with pytest.raises(Unsupported, match="no scalar loss"):
            loss_of(output)


@pytest.mark.parametrize("module", [zoo.CountsInClosure, zoo.OwnRandomNumbers, zoo.LooksAtItsScheduler])
def test_what_may_change_besides_attributes(module, trainer) -> None:
    assert not inspected(module(), trainer).steady


def test_optimizers_are_configured_without_a_trace_in_the_random_numbers(trainer) -> None:
    class Draws(zoo.Net):
        def configure_optimizers(self) -> Any:
            torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
            return super().configure_optimizers()

    module, state = Draws(), random_state()
    assert inspected(module, trainer).steady
    assert random_state() == state


@pytest.mark.parametrize(
    "logged",
    [
        lambda value: 100 * value,
        lambda value: 1 - value / 2,
        lambda value: value.detach().cpu().item(),
        lambda value: round(value.item(), 3),
        lambda value: -value[0].mean(),
        lambda value: f"{value:.3f} {value}",
    ],
)
def test_the_value_of_a_metric_may_be_logged(logged, trainer) -> None:
    class Logs(zoo.Metrics):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("train", logged(self.accuracy(self(batch[0]), batch[1])), on_epoch=True)
            return self.loss(batch)

    assert inspected(Logs(), trainer).steady


@pytest.mark.parametrize(
    "used",
    [
        lambda value, loss: loss * value,
        lambda value, loss: value * loss,
        lambda value, loss: torch.add(loss, value),
        lambda value, loss: torch.stack([loss, value]).sum(),
        lambda value, loss: loss if value > 0.5 else 2 * loss,
        lambda value, loss: loss if value.item() <= 0.5 else 2 * loss,
        lambda value, loss: loss if value else 2 * loss,
        lambda value, loss: loss * float(value),
        lambda value, loss: loss * np.asarray(value),
        lambda value, loss: loss * sum(value),
    ],
)
def test_the_value_of_a_metric_may_not_be_used(used, trainer) -> None:
    class Uses(zoo.Metrics):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return used(self.accuracy(self(batch[0]), batch[1]), self.loss(batch))

    with pytest.raises(Unsupported, match="training_step, which uses the value of a metric"):
        inspected(Uses(), trainer)


def test_metrics_count_nothing_and_are_put_back() -> None:
    module = zoo.Metrics()
    prediction, target = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2])
    before = {
        name: dict(vars(metric)) for name, metric in module.named_modules() if isinstance(metric, torchmetrics.Metric)
    }
    with without_metrics(module):
        module.accuracy(prediction, target)
        assert module.others(prediction, target) == {}
        module.accuracy.update(prediction, target)
        module.accuracy.compute()
    for name, attributes in before.items():
        assert vars(module.get_submodule(name)).keys() == attributes.keys()
    module.accuracy.update(prediction, target)
    assert module.accuracy.compute() == pytest.approx(2 / 3)
