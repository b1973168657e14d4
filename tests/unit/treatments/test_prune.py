import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule
from torch import nn

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.treatments import Prune, Regime


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.first = nn.Linear(6 * 4, 16)
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        return self.last(self.first(self.norm(self.conv(x)).flatten(1)).relu())


def weights(module):
    return [module.conv.weight, module.first.weight, module.last.weight]


@pytest.mark.parametrize(("amount", "which"), [(1e-9, "none"), (1 - 1e-9, "all")])
@pytest.mark.parametrize("options", [{}, {"scope": "layer"}])
def test_an_amount_that_prunes_none_or_all_is_refused(amount, which, options):
    with pytest.raises(ConfigurationError, match=rf"amount={amount!r} of \d+ weights is \d+, which prunes {which}"):
        Prune(amount, **options).transform(Net())


@settings(max_examples=25, deadline=None)
@given(amount=st.floats(0.01, 0.99), seed=st.integers(0, 100))
def test_global_sparsity_is_exact_and_takes_the_least(amount, seed):
    torch.manual_seed(seed)
    module = Net()
    pruned = Prune(amount).transform(module)
    before = torch.cat([weight.detach().abs().flatten() for weight in weights(module)])
    after = torch.cat([weight.detach().flatten() for weight in weights(pruned)])
    assert int((after == 0).sum()) == round(amount * len(before))
    if bool((after == 0).any()) and bool((after != 0).any()):
        assert before[after == 0].max() <= before[after != 0].min()


@pytest.mark.parametrize("amount", [0.25, 0.5, 0.9])
def test_layer_sparsity_is_exact_in_every_layer(amount):
    pruned = Prune(amount, scope="layer").transform(Net())
    assert [int((w == 0).sum()) for w in weights(pruned)] == [round(amount * w.numel()) for w in weights(pruned)]


def test_equal_weights_are_pruned_in_their_order():
    module = Net()
    for weight in weights(module):
        nn.init.ones_(weight)
    pruned = Prune(0.5, scope="layer").transform(module)
    flat = pruned.last.weight.flatten()
    assert bool((flat[:24] == 0).all())
    assert bool((flat[24:] == 1).all())


def test_whole_units_of_least_norm_go_and_the_classes_stay():
    module = Net()
    pruned = Prune(0.5, scope="layer", structured=True).transform(module)
    for name, width in (("conv", 6), ("first", 16)):
        gone = pruned.get_submodule(name).weight.flatten(1).abs().sum(1) == 0
        norms = module.get_submodule(name).weight.flatten(1).norm(dim=1)
        assert int(gone.sum()) == width // 2
        assert norms[gone].max() <= norms[~gone].min()
    assert torch.equal(pruned.last.weight, module.last.weight)


def test_biases_and_norms_stay_bit_for_bit():
    module = Net()
    before = module.state_dict()
    pruned = Prune(0.9).transform(module).state_dict()
    kept = [name for name in before if not name.endswith("weight") or name.startswith("norm")]
    assert len(kept) > 4
    assert all(torch.equal(before[name], pruned[name]) for name in kept)


def test_tied_weights_are_pruned_once():
    module = Net()
    module.second = nn.Linear(16, 16)
    module.twin = nn.Linear(16, 16)
    module.twin.weight = module.second.weight
    pruned = Prune(0.5).transform(module)
    assert pruned.twin.weight is pruned.second.weight
    every = torch.cat([p.flatten() for n, p in pruned.named_parameters() if n.endswith("weight") and "norm" not in n])
    assert int((every == 0).sum()) == round(0.5 * len(every))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"amount": 0.0}, "amount=0.0"),
        ({"amount": 1.0}, "amount=1.0"),
        ({"amount": float("nan")}, "amount=nan"),
        ({"amount": 0.5, "scope": "all"}, "scope='all'"),
        ({"amount": 0.5, "structured": True}, "structured=True"),
        ({"amount": "0.5"}, "amount='0.5'"),
        ({"amount": True}, "amount=True"),
        ({"amount": 0.5, "finetune_epochs": -1}, "finetune_epochs=-1"),
        ({"amount": 0.5, "finetune_epochs": 1.5}, r"finetune_epochs=1\.5"),
        ({"amount": 0.5, "finetune_epochs": True}, "finetune_epochs=True"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ArgumentError, match=match):
        Prune(**options)


def test_nothing_to_prune():
    class Empty(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(3, 3)

    with pytest.raises(ConfigurationError, match="Empty has no Linear or Conv"):
        Prune(0.5).transform(Empty())


def test_a_parametrized_weight_becomes_a_plain_one_in_the_copy():
    module = Net()
    nn.utils.parametrizations.weight_norm(module.first)
    before = copy.deepcopy(module.state_dict())
    pruned = Prune(0.9).transform(module)
    zeros = sum(int((weight == 0).sum()) for weight in weights(pruned))
    assert zeros == round(0.9 * sum(weight.numel() for weight in weights(pruned)))
    assert isinstance(pruned.first.weight, nn.Parameter)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_weight_that_cannot_be_set_is_named():
    module = Net()
    del module.first.weight
    module.first.weight = torch.ones(16, 24)
    with pytest.raises(ConfigurationError, match=r"layer 'first' \(Linear\) computes its weight"):
        Prune(0.9).transform(module)


def test_fine_tuning_trains_from_the_pruned_copy():
    tuned, regime = Prune(0.9, finetune_epochs=2), Regime(100, 10, 20)
    (held,) = tuned.callbacks(regime)
    module = Net()
    once = [weight == 0 for weight in weights(Prune(0.9).transform(module))]
    assert [id(weight) for weight, _ in held.choose(module)] == [id(weight) for weight in weights(module)]
    assert all(torch.equal(mask, zero) for (_, mask), zero in zip(held.choose(module), once, strict=True))
    assert tuned.transform(module) is module
