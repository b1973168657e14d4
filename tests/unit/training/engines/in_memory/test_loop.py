"""The loop in memory gives Lightning's weights, buffers and scores bit for bit, by the same calls."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch

from lightning_memaudit.callbacks.passive import InternalCallback
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.engines.in_memory.loop import InMemoryLoop, without_logging
from lightning_memaudit.training.engines.in_memory.support import CALLED_HOOKS, StoppedEarly, Unsupported
from lightning_memaudit.training.task import fit
from tests.helpers import zoo
from tests.helpers.engines import (
    REPEATABLE,
    assert_identical,
    by_trainer,
    difference,
    in_memory,
    reference,
    run_of,
)


@pytest.mark.parametrize("name", REPEATABLE)
def test_the_same_bits(name) -> None:
    assert_identical(in_memory(run_of(**REPEATABLE[name])), reference(name, 0))


def test_other_models_are_other_models() -> None:
    assert difference(reference("mlp", 0), reference("mlp", 1)) > 0.1


def fingerprint(thing: Any) -> Any:
    if isinstance(thing, torch.Tensor):
        return thing.dtype, thing.requires_grad, thing.detach().clone().tolist()
    if isinstance(thing, dict):
        return {key: fingerprint(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [fingerprint(part) for part in thing]
    return type(thing)


class Recorded(zoo.ReturnsDict):
    """Keeps every call of a hook, with what it was given and what the Trainer and the module said at that time."""

    outputs: str = "dict"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.timing = {"interval": "step", "frequency": 2}

    def note(self, name: str, *arguments: Any) -> None:
        trainer = self.trainer
        gradients = [None if p.grad is None else float(p.grad.norm()) for p in self.parameters()]
        state = torch.get_rng_state().sum().item(), torch.is_grad_enabled(), self.training, gradients
        time = self.current_epoch, self.global_step, trainer.is_last_batch, trainer.fit_loop.batch_idx
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        weight = float(next(self.parameters()).detach().sum())
        self.calls.append((name, fingerprint(arguments), state, time, rate, weight))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.note("training_step", batch, batch_idx)
        found = super().training_step(batch, batch_idx)
        found["extra"] = found["loss"] * 2
        if self.outputs == "none":
            return None if batch_idx == 1 else found
        return found["loss"] if self.outputs == "tensor" else found

    def configure_optimizers(self) -> Any:
        return zoo.Halving.configure_optimizers(self)

    scheduler = zoo.Halving.scheduler


def add_hook(module: type[Recorded], name: str) -> None:
    def hook(self: Recorded, *arguments: Any) -> None:
        self.note(name, *arguments)
        torch.rand(1)  # at the same point in the stream of random numbers

    setattr(module, name, hook)


for _name in (*CALLED_HOOKS, "on_fit_start", "on_train_end", "on_fit_end"):
    add_hook(Recorded, _name)


class RecordedTensor(Recorded):
    outputs = "tensor"


class RecordedNone(Recorded):
    outputs = "none"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("module", [Recorded, RecordedTensor, RecordedNone])
def test_hooks_are_called_in_the_same_order_with_the_same_arguments(module, workers) -> None:
    run = run_of(module, data=lambda: zoo.Data(num_workers=workers), max_epochs=2, gradient_clip_val=0.3)
    expected, found = by_trainer(run), in_memory(run)
    assert {call[0] for call in expected.module.calls} >= set(CALLED_HOOKS)
    assert len(expected.module.calls) > 60
    assert found.module.calls == expected.module.calls
    assert_identical(found, expected)


class Projects(zoo.Net):
    """Changes its weights in every hook that there is."""


def add_change(name: str) -> None:
    def hook(self: Projects, *arguments: Any) -> None:
        for parameter in self.parameters():
            parameter.data.mul_(1.001).clamp_(-1, 1)
            if parameter.grad is not None:
                parameter.grad.mul_(0.99)

    setattr(Projects, name, hook)


for _name in CALLED_HOOKS:
    add_change(_name)


def test_hooks_may_change_weights_and_gradients() -> None:
    run = run_of(Projects)
    assert_identical(in_memory(run), by_trainer(run))


class Transfers(zoo.Net):
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] + 1, batch[1]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] * 2 + torch.rand(1), batch[1]

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return [part.to(device) for part in batch]


class TransferringData(zoo.Data):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] / 3, batch[1]


@pytest.mark.parametrize("options", [{"model": Transfers}, {"model": zoo.Net, "data": TransferringData}])
def test_transfer_hooks_of_module_and_data_module(options) -> None:
    run = run_of(**options)
    trained = in_memory(run)
    assert_identical(trained, by_trainer(run))
    assert difference(trained, reference("mlp", 0)) > 0.01


def test_a_run_of_some_steps_stops_before_the_next_one() -> None:
    run = run_of(Recorded)
    modules = []

    class Keeps(InternalCallback):
        def on_exception(self, trainer, pl_module, exception) -> None:
            modules.append(pl_module)

    with pytest.raises(StoppedEarly):
        fit(run, 0, [Keeps(), InMemoryLoop(read_into_memory(run.population).train, n_steps=5)], validate=False)
    assert [call[0] for call in modules[0].calls].count("training_step") == 5
    assert [call[0] for call in modules[0].calls][-2:] == ["on_train_epoch_end", "on_train_epoch_start"]


class Terminated(zoo.Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        assert self.global_step < 9
        return super().training_step(batch, batch_idx)


def test_a_process_that_is_asked_to_end_ends_as_by_ctrl_c() -> None:
    """Lightning keeps SIGTERM to itself during a fit, and heeds it between steps."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        in_memory(run_of(Terminated))
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_was_logged_cannot_be_asked_for() -> None:
    run = run_of(zoo.ReadsMetrics)
    by_trainer(run)
    with pytest.raises(Unsupported, match=r"trainer\.callback_metrics, since subset models do not log"):
        in_memory(run)


def test_logging_is_put_back() -> None:
    module = by_trainer(run_of(zoo.Net)).module
    connector = module.trainer._logger_connector
    with without_logging(module):
        assert module.log("loss", 1.0) is None
        assert module.log_dict({"loss": 1.0}) is None
        assert module.trainer._logger_connector is not connector
    assert module.trainer._logger_connector is connector
    assert "log" not in vars(module)
    assert "log_dict" not in vars(module)
