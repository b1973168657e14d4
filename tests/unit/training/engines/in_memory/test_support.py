"""What our loops do not do goes to Lightning's own, and the manifest says what it was."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import SingleDeviceStrategy

from lightning_memaudit.callbacks.passive import InternalCallback
from lightning_memaudit.training.engines.choice import ChosenEngine
from lightning_memaudit.training.engines.in_memory.support import Unsupported, overridden_transfer_hooks, unsupported
from lightning_memaudit.training.executors import find_executor
from lightning_memaudit.training.population import silenced
from lightning_memaudit.training.task import fit
from tests.helpers import zoo
from tests.helpers.engines import (
    assert_identical,
    assert_same_scores,
    by_trainer,
    in_memory,
    run_of,
    run_probed,
    stored,
)

QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}


class Watches(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        with torch.no_grad():
            next(pl_module.parameters()).mul_(0.99)


class OwnPrecision(Precision):
    def pre_backward(self, tensor: Any, module: Any) -> Any:
        return super().pre_backward(2 * tensor, module)


class StopsAtTheEnd(zoo.Net):
    def on_train_epoch_end(self) -> None:
        if self.current_epoch == 2:
            self.trainer.should_stop = True


class SkipsTheRest(zoo.Net):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
        return -1 if batch_idx == 2 else None


class UsesHooks(zoo.Net):
    def on_train_start(self) -> None:
        with torch.no_grad():
            self.net[0].weight.mul_(2)


class Backward(zoo.Net):
    def backward(self, loss: Any) -> None:
        (3 * loss).backward()


class Steps(zoo.Net):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any) -> None:
        closure()
        if batch_idx % 2 == 0:
            optimizer.step()


class Zeroes(zoo.Net):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if batch_idx % 2:
            optimizer.zero_grad()


class Clips(zoo.Net):
    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=0.05, gradient_clip_algorithm="value")


class ClipsItself(zoo.Net):
    def clip_gradients(self, *_: Any, **__: Any) -> None:
        torch.nn.utils.clip_grad_norm_(self.parameters(), 0.05)


class SchedulesItself(zoo.Scheduled):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step()
        scheduler.step()


class Validated(zoo.Data):
    def val_dataloader(self) -> Any:
        return self.test_dataloader()


class Validates(zoo.Plateau):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("train_loss", self.loss(batch))


def made(**arguments: Any) -> Any:
    return partial(Trainer, **{"max_epochs": 2, "logger": False, "enable_checkpointing": False} | QUIET | arguments)


FALLS_BACK: dict[str, tuple[dict[str, Any], str]] = {
    "callback": ({"model": zoo.Net, "callbacks": [Watches()]}, "the callback Watches"),
    "manual": ({"model": zoo.Manual}, "manual optimization"),
    "several optimizers": ({"model": zoo.TwoOptimizers}, "manual optimization"),
    "accumulation": ({"model": zoo.Net, "accumulate_grad_batches": 2}, "accumulate_grad_batches=2"),
    "precision": ({"model": zoo.Net, "precision": "bf16-mixed"}, "precision='bf16-mixed'"),
    "double precision": ({"model": zoo.Net, "precision": "64-true"}, "precision='64-true'"),
    "precision plugin": ({"model": zoo.Net, "plugins": [OwnPrecision()]}, "the plugin OwnPrecision"),
    "plateau": ({"model": zoo.Plateau}, "a scheduler that monitors a metric"),
    "plateau of validation": ({"model": Validates, "data": Validated}, "a scheduler that monitors a metric"),
    "reload": ({"model": zoo.Net, "reload_dataloaders_every_n_epochs": 1}, "reload_dataloaders_every_n_epochs"),
    "anomalies": ({"model": zoo.Net, "detect_anomaly": True, "max_epochs": 1}, "detect_anomaly"),
    "no end": ({"model": StopsAtTheEnd, "max_epochs": -1}, r"no end \(max_epochs=-1\)"),
    "on_train_start": ({"model": UsesHooks}, "the hook on_train_start"),
    "backward": ({"model": Backward}, "the hook backward"),
    "optimizer_step": ({"model": Steps}, "the hook optimizer_step"),
    "optimizer_zero_grad": ({"model": Zeroes}, "the hook optimizer_zero_grad"),
    "configure_gradient_clipping": ({"model": Clips}, "the hook configure_gradient_clipping"),
    "clip_gradients": ({"model": ClipsItself, "gradient_clip_val": 9.0}, "the hook clip_gradients"),
    "lr_scheduler_step": ({"model": SchedulesItself}, "the hook lr_scheduler_step"),
    "should_stop": ({"model": zoo.Stops}, r"trainer\.should_stop, set during training"),
    "skips the rest": ({"model": SkipsTheRest}, "on_train_batch_start that skips the rest of an epoch"),
    "reads metrics": ({"model": zoo.ReadsMetrics}, r"trainer\.callback_metrics, since subset models do not log"),
}


@pytest.mark.parametrize("name", FALLS_BACK)
def test_the_trainer_does_it_and_the_manifest_says_why(name) -> None:
    options, reason = FALLS_BACK[name]
    run = run_probed(**options)
    store = run.store
    assert list(find_executor("sequential").train(run, [1], ChosenEngine())) == [1]
    execution = store.manifest.execution
    assert execution["engine"] == "trainer"
    assert re.match(f"the faster loops do not go with ({reason})", execution["reason"])
    assert_same_scores(stored(store, 1), by_trainer(run, 1).scores)


def test_a_logger_of_a_callable_trainer(tmp_path) -> None:
    run = run_of(zoo.Net, trainer=made(logger=CSVLogger(tmp_path)))
    with pytest.raises(Unsupported, match="a logger"):
        in_memory(run)


def test_validation_of_a_callable_trainer() -> None:
    class Plain(zoo.Net):
        validation_step = Validates.validation_step

    with pytest.raises(Unsupported, match="validation during training"):
        in_memory(run_of(Plain, data=Validated, trainer=made()))


def test_callbacks_that_only_watch_are_no_obstacle(tmp_path) -> None:
    with silenced():
        watching = made(callbacks=[ModelCheckpoint(tmp_path)], enable_checkpointing=True)
        run = run_of(zoo.Net, trainer=watching)
        assert_identical(in_memory(run), by_trainer(run))


class Decays(ModelCheckpoint):
    """A stock callback that only watches, and more."""

    on_train_batch_end = Watches.on_train_batch_end


class Named(ModelCheckpoint):
    def format_checkpoint_name(self, *arguments: Any, **options: Any) -> str:
        return super().format_checkpoint_name(*arguments, **options)


def test_a_callback_with_hooks_of_its_own_is_no_stock_one(tmp_path) -> None:
    with silenced():
        decays = run_of(zoo.Net, trainer=made(callbacks=[Decays(tmp_path)], enable_checkpointing=True))
        with pytest.raises(Unsupported, match="the callback Decays"):
            in_memory(decays)
        named = run_of(zoo.Net, trainer=made(callbacks=[Named(tmp_path)], enable_checkpointing=True))
        assert_identical(in_memory(named), by_trainer(named))


class _Asks(InternalCallback):
    """Changes something in a Trainer that is set up, and asks."""

    def __init__(self, change: Any) -> None:
        self.change = change
        self.answers: list[str | None] = []

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            self.change(patch, trainer)
            self.answers.append(unsupported(trainer, pl_module))


class OwnStrategy(SingleDeviceStrategy):
    pass


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda patch, trainer: None, None),
        (lambda patch, trainer: patch.setattr(trainer.fit_loop, "max_batches", float("inf")), "of no fixed length"),
        (lambda patch, trainer: patch.setattr(trainer.strategy, "_optimizers", []), "0 optimizers"),
        (lambda patch, trainer: patch.setattr(trainer.strategy, "__class__", OwnStrategy), "strategy OwnStrategy"),
    ],
)
def test_what_a_trainer_of_ours_never_has(change, answer) -> None:
    asks = _Asks(change)
    fit(run_of(zoo.Net, max_epochs=1), 0, [asks], validate=False)
    assert asks.answers == [None] if answer is None else answer in asks.answers[0]


def test_transfer_hooks_are_found_in_module_and_data_module() -> None:
    class Module(zoo.Net):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch

    class Data(zoo.Data):
        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            return batch

    assert overridden_transfer_hooks(zoo.Net(), zoo.Data()) == []
    assert overridden_transfer_hooks(Module(), Data()) == ["on_before_batch_transfer", "transfer_batch_to_device"]
