"""Gradients of many models at once are those of each, laid out as its parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils import _pytree as pytree

from lightning_memaudit.training.engines.ensemble.gradients import EnsembleGradients, Traces
from lightning_memaudit.training.engines.ensemble.inspection import inspect_step
from lightning_memaudit.training.engines.ensemble.stack import Stack
from lightning_memaudit.training.engines.in_memory.loop import without_logging
from lightning_memaudit.training.task import silenced
from tests.helpers import zoo

CPU = torch.device("cpu")
K = 3


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    with silenced():
        return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


class Batches:
    """One batch for each of K models, and the gradients of both ways."""

    def __init__(self, kind: type[zoo.Net], trainer: Trainer, *, steady: bool | None = None) -> None:
        torch.manual_seed(0)
        self.modules = [kind() for _ in range(K)]
        self.template = kind()
        spare = kind()
        for module in (self.template, spare, *self.modules):
            module.trainer = trainer
        inspection = inspect_step(spare, zoo.examples(8))
        assert steady is None or inspection.steady == steady
        self.stack = Stack.of(self.modules, CPU)
        spec = pytree.tree_structure(zoo.examples(8))
        self.traces = Traces()
        self.gradients = EnsembleGradients(self.template, spec, inspection, traces=self.traces, batch_size=8)
        x, y = zoo.examples(K * 20)
        self.x, self.y = x.view(K, 20, -1), y.view(K, 20)

    def step(self, size: int = 8, index: int = 0) -> None:
        with without_logging(self.template):
            self.gradients(self.stack, [self.x[:, :size], self.y[:, :size]], index)

    def expected(self, size: int = 8, index: int = 0) -> list[dict[str, torch.Tensor | None]]:
        for k, module in enumerate(self.modules):
            module.zero_grad()
            with without_logging(module):
                module.training_step((self.x[k, :size], self.y[k, :size]), index).backward()
        return [{name: p.grad for name, p in module.named_parameters()} for module in self.modules]

    def check(self, size: int = 8, index: int = 0) -> None:
        self.step(size, index)
        for k, gradients in enumerate(self.expected(size, index)):
            for name, gradient in gradients.items():
                found = self.stack.parameters[name].grad
                if gradient is None:
                    assert found is None
                else:
                    torch.testing.assert_close(found[k], gradient, rtol=1e-4, atol=1e-6)
        for k, module in enumerate(self.modules):
            for name, buffer in module.named_buffers():
                torch.testing.assert_close(self.stack.buffers[name][k], buffer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kind", [zoo.Net, zoo.Cnn, zoo.BatchNorm, zoo.FrozenStatistics, zoo.Frozen, zoo.Unused, zoo.Tied, zoo.Penalty]
)
def test_steady_steps_are_traced_once_for_full_batches_and_for_others_that_come_up_often(kind, trainer) -> None:
    batches = Batches(kind, trainer, steady=True)
    for size in (8, 8, 5, 8, 5):
        batches.check(size)
    assert [[leaf[1] for leaf in shapes] for shapes in batches.traces.steps] == [[8, 8]]
    for _ in range(6):
        batches.check(5)
    assert len(batches.traces.steps) == 1
    batches.check(5)
    batches.check(5)
    assert [[leaf[1] for leaf in shapes] for shapes in batches.traces.steps] == [[8, 8], [5, 5]]


def test_other_steps_are_run_anew(trainer) -> None:
    class Alternates(zoo.Unused):
        """A layer takes part in every second batch."""

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch) * (1 + batch_idx)
            return loss + self.spare.weight.square().sum() if batch_idx % 2 else loss

    batches = Batches(Alternates, trainer, steady=False)
    for index in (0, 1, 2, 1):
        batches.check(index=index)
    assert batches.traces == Traces()


@pytest.mark.parametrize("kind", [zoo.Net, zoo.Cnn, zoo.LayerNorm, zoo.Penalty, zoo.Counts])
def test_gradients_lie_in_memory_as_parameters_do(kind, trainer) -> None:
    """Fused optimizers go through both as they lie, and would mix up elements."""
    batches = Batches(kind, trainer)
    batches.step()
    for parameter in batches.stack.trained.values():
        assert parameter.grad.stride() == parameter.stride()
        parameter.grad.mul_(2.0)


def test_traces_serve_other_models_of_the_same_kind(trainer) -> None:
    first, second = Batches(zoo.Net, trainer), Batches(zoo.Net, trainer)
    first.step()
    traced = dict(first.traces.steps)
    second.gradients._traces = first.traces
    second.check()
    assert first.traces.steps == traced


def test_tracing_leaves_buffers_and_random_numbers_alone(trainer) -> None:
    batches = Batches(zoo.BatchNorm, trainer)
    state = torch.get_rng_state()
    batches.step()
    assert torch.equal(torch.get_rng_state(), state)
    assert batches.stack.buffers["net.1.num_batches_tracked"].tolist() == [1] * K


def test_masks_of_dropout_differ_between_models_and_steps(trainer) -> None:
    class Masks(zoo.Dropout):
        """The gradient of its parameter is the mask."""

        def __init__(self) -> None:
            super().__init__()
            self.ones = torch.nn.Parameter(torch.ones(2000))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.net[2](self.ones).sum()

    batches = Batches(Masks, trainer, steady=True)
    masks = []
    for _ in range(3):
        batches.step()
        masks += [mask > 0 for mask in batches.stack.parameters["ones"].grad]
    assert len(masks) == 9
    for i, mask in enumerate(masks):
        assert float(mask.float().mean()) == pytest.approx(0.5, abs=0.06)
        for other in masks[:i]:
            assert float((mask == other).float().mean()) == pytest.approx(0.5, abs=0.06)
