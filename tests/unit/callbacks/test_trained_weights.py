import copy

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lightning_memaudit.callbacks.trained_weights import TrainedWeights, load_tensors, tensors_of
from lightning_memaudit.exceptions import ConfigurationError
from tests.helpers import zoo

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Lazy(zoo.Net):
    def layers(self) -> nn.Module:
        return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Tanh(), nn.LazyLinear(zoo.CLASSES))


class Unsaved(zoo.Net):
    """A buffer that no state_dict holds, and on which answers depend."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(zoo.FEATURES), persistent=False)

    def forward(self, x):
        if self.training:
            self.mean += 0.1 * (x.detach().mean(0) - self.mean)
        return super().forward(x - self.mean)


class BoundLate(zoo.Net):
    """A buffer that is None before training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", None)

    def forward(self, x):
        if self.mean is None:
            self.mean = x.detach().mean(0)
        return super().forward(x - self.mean)


class Registers(zoo.Net):
    """A buffer that is not even named before training."""

    def forward(self, x):
        if not hasattr(self, "mean"):
            self.register_buffer("mean", x.detach().mean(0))
        return super().forward(x - self.mean)


class Grows(zoo.Net):
    """A memory of all batches that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0, zoo.FEATURES))

    def forward(self, x):
        if self.training:
            self.seen = torch.cat([self.seen, x.detach().mean(0, keepdim=True)])
        return super().forward(x - self.seen.mean(0))


class AddsLayer(zoo.Net):
    def on_train_batch_start(self, batch, batch_idx):
        self.extra = nn.Linear(2, 2)


class ExtraState(zoo.Net):
    def get_extra_state(self):
        return {"n": 3}

    def set_extra_state(self, state):
        self.n = state["n"]


MODULES = {
    "linear": zoo.Net,
    "batch norm": zoo.BatchNorm,
    "tied": zoo.Tied,
    "weight norm": zoo.WeightNorm,
    "two precisions": zoo.TwoPrecisions,
    "recurrent": zoo.Recurrent,
    "lazy": Lazy,
    "buffer that is not saved": Unsaved,
    "buffer bound late": BoundLate,
    "buffer registered late": Registers,
    "buffer that grows": Grows,
}


def fit(module, *callbacks, max_epochs=2):
    trainer = Trainer(max_epochs=max_epochs, callbacks=list(callbacks), **QUIET)
    trainer.fit(module, datamodule=zoo.Data(generator=torch.Generator().manual_seed(0)))
    return trainer


def answers(module):
    x, _ = zoo.examples(20)
    with torch.no_grad():
        return module.eval()(x)


@pytest.mark.parametrize("kind", MODULES)
def test_a_fresh_module_becomes_the_trained_one(kind):
    torch.manual_seed(0)
    trained = MODULES[kind]()
    fit(trained)
    kept = {name: tensor.clone() for name, tensor in tensors_of(trained).items()}
    torch.manual_seed(1)
    other = MODULES[kind]()
    trainer = fit(other, TrainedWeights(kept))
    assert trainer.global_step == 0
    assert torch.equal(answers(other), answers(trained))
    found = tensors_of(other)
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    assert not any(parameter.data_ptr() == kept[name].data_ptr() for name, parameter in other.named_parameters())


def test_tied_weights_stay_tied():
    trained, other = zoo.Tied(), zoo.Tied()
    load_tensors(other, tensors_of(trained))
    assert other.out.weight is other.second.weight
    assert torch.equal(other.out.weight, trained.out.weight)


def test_training_goes_on_from_the_trained_weights_as_if_the_module_had_had_them():
    torch.manual_seed(0)
    trained = zoo.BatchNorm()
    fit(trained)
    kept = {name: tensor.clone() for name, tensor in tensors_of(trained).items()}
    reference = copy.deepcopy(trained)
    torch.manual_seed(5)
    fit(reference)
    other = zoo.BatchNorm()
    torch.manual_seed(5)
    trainer = fit(other, TrainedWeights(kept, goes_on=True))
    assert trainer.global_step == 12
    assert torch.equal(answers(other), answers(reference))
    assert not torch.equal(answers(other), answers(trained))


def test_the_module_hooks_at_the_end_of_training_do_not_act_twice():
    class Doubles(zoo.Net):
        def on_train_end(self):
            with torch.no_grad():
                self.net[0].weight.mul_(2)

    trained = Doubles()
    fit(trained)
    kept = {name: tensor.clone() for name, tensor in tensors_of(trained).items()}
    other = Doubles()
    fit(other, TrainedWeights(kept))
    assert torch.equal(other.net[0].weight, kept["net.0.weight"])


def test_callbacks_after_it_find_the_trained_model_at_the_end():
    class Looks(Callback):
        def on_fit_end(self, trainer: Trainer, pl_module: LightningModule):
            self.found = pl_module.net[0].weight.clone()

    kept, looks = tensors_of(zoo.Net()), Looks()
    fit(zoo.Net(), TrainedWeights(kept), looks)
    assert torch.equal(looks.found, kept["net.0.weight"])


def test_state_that_is_no_tensor_is_refused():
    with pytest.raises(ConfigurationError, match=r"ExtraState keeps state that is neither .*\(_extra_state\)"):
        tensors_of(ExtraState())


def test_layers_that_come_in_training_are_refused():
    trained = AddsLayer()
    fit(trained)
    with pytest.raises(ConfigurationError, match=r"AddsLayer gets 'extra\.\w+' only in training"):
        load_tensors(AddsLayer(), tensors_of(trained))


def test_parameters_that_the_trained_model_did_not_have_are_refused():
    with pytest.raises(ConfigurationError, match=r"Unused has a parameter 'spare\.bias'"):
        load_tensors(zoo.Unused(), tensors_of(zoo.Net()))
