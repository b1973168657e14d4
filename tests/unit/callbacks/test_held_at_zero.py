import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import optim

from lightning_memaudit.callbacks.held_at_zero import HeldAtZero
from tests.helpers import zoo

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def smallest_half(module):
    weight = module.net[0].weight
    return [(weight, weight.abs() < weight.abs().median())]


class Watches(Callback):
    def __init__(self):
        self.zeros = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.zeros.append(pl_module.net[0].weight == 0)


class Manual(zoo.Net):
    """Two steps a batch, and a look at the weights in between."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.zeros = []

    def training_step(self, batch, batch_idx):
        for _ in range(2):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()
            self.zeros.append(int((self.net[0].weight == 0).sum()))


MODULES = {
    "momentum": zoo.Net,
    "adam with decay": zoo.with_optimizer(optim.AdamW, 0.01, weight_decay=0.1),
    "own optimizer": zoo.with_optimizer(zoo.OwnOptimizer, 0.05),
    "lbfgs": zoo.with_optimizer(optim.LBFGS, 0.1, max_iter=3),
}


def fit(module, *callbacks, **options):
    trainer = Trainer(**{"max_epochs": 2, **QUIET, **options}, callbacks=list(callbacks))
    trainer.fit(module, datamodule=zoo.Data())
    return trainer


@pytest.mark.parametrize("kind", MODULES)
def test_the_chosen_weights_are_zero_after_every_step_and_the_others_train(kind):
    module = MODULES[kind]()
    before = module.net[0].weight.detach().clone()
    (_, mask), *_ = smallest_half(module)
    watch = Watches()
    trainer = fit(module, HeldAtZero(smallest_half), watch)
    assert trainer.global_step >= 12
    assert len(watch.zeros) == 12
    assert all(torch.equal(zeros, mask) for zeros in watch.zeros)
    assert bool((module.net[0].weight[~mask] != before[~mask]).all())


def test_between_two_steps_of_one_batch_too():
    module = Manual()
    (_, mask), *_ = smallest_half(module)
    fit(module, HeldAtZero(smallest_half))
    assert set(module.zeros) == {int(mask.sum())}
    assert len(module.zeros) == 24


def test_averages_of_weights_are_zero_where_the_weights_were():
    module = zoo.Net()
    (_, mask), *_ = smallest_half(module)
    held = HeldAtZero(smallest_half)
    fit(module, held, StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1), max_epochs=4)
    assert torch.equal(module.net[0].weight == 0, mask)


def test_weights_that_the_end_of_training_brings_are_set_to_zero():
    class Restores(Callback):
        def on_train_end(self, trainer, pl_module):
            torch.nn.init.ones_(pl_module.net[0].weight)

    module = zoo.Net()
    (_, mask), *_ = smallest_half(module)
    fit(module, HeldAtZero(smallest_half), Restores())
    assert torch.equal(module.net[0].weight, (~mask).float())


def test_no_hook_is_left_behind():
    held = HeldAtZero(smallest_half)
    trainer = fit(zoo.Net(), held)
    assert not trainer.optimizers[0]._optimizer_step_post_hooks
    assert held._held == []


def test_no_hook_is_left_behind_after_an_exception():
    class Fails(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            assert self.optimizer._optimizer_step_post_hooks
            raise RuntimeError("stop")

        def on_train_start(self, trainer, pl_module):
            self.optimizer = trainer.optimizers[0]

    held, fails = HeldAtZero(smallest_half), Fails()
    with pytest.raises(RuntimeError, match="stop"):
        fit(zoo.Net(), held, fails)
    assert not fails.optimizer._optimizer_step_post_hooks
    assert held._held == []
