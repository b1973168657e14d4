import pytest
import torch
from opacus.layers import DPGRU, DPLSTM, DPMultiheadAttention
from torch import nn

from lightning_memaudit.callbacks.dp.modules import check_module, fix_module
from lightning_memaudit.exceptions import ConfigurationError


def net(*layers):
    return nn.Sequential(nn.Linear(6, 6), nn.Sequential(*layers), nn.Linear(6, 2))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm1d(6), r"'1\.0' \(BatchNorm1d\) makes the output.*fix_modules=True"),
        (nn.BatchNorm1d(6, affine=False), r"'1\.0' \(BatchNorm1d\)"),
        (nn.BatchNorm2d(6).requires_grad_(False), r"\(BatchNorm2d\)"),
        (nn.BatchNorm1d(6).eval(), r"\(BatchNorm1d\)"),
        (nn.BatchNorm1d(6, track_running_stats=False).requires_grad_(False).eval(), r"\(BatchNorm1d\)"),
        (nn.InstanceNorm1d(6, track_running_stats=True), r"\(InstanceNorm1d\).*track_running_stats=False"),
        (nn.LSTM(6, 6), r"'1\.0' \(LSTM\) has no per-example gradients.*fix_modules=True"),
        (nn.GRU(6, 6), r"\(GRU\)"),
        (nn.MultiheadAttention(6, 2), r"\(MultiheadAttention\)"),
        (nn.LazyLinear(6), r"\(LazyLinear\) has no shape"),
    ],
)
def test_layers_that_cannot_be_private_are_named(layer, message):
    with pytest.raises(ConfigurationError, match=message):
        check_module(net(layer))


def test_all_of_them_are_named():
    with pytest.raises(ConfigurationError, match=r"BatchNorm1d.*; '1\.1' \(LSTM\)"):
        check_module(net(nn.BatchNorm1d(6), nn.LSTM(6, 6)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(2, 6),
        nn.InstanceNorm1d(6),
        nn.LSTM(6, 6).requires_grad_(False),
        nn.BatchNorm1d(6).requires_grad_(False).eval(),
    ],
)
def test_other_layers_and_frozen_ones_pass_and_are_not_replaced(layer):
    module = net(layer)
    check_module(module)
    assert fix_module(module) == []
    assert module[1][0] is layer


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.BatchNorm1d(6), nn.GroupNorm),
        (nn.BatchNorm2d(64, affine=False), nn.GroupNorm),
        (nn.LSTM(6, 6), DPLSTM),
        (nn.GRU(6, 6), DPGRU),
        (nn.MultiheadAttention(6, 2), DPMultiheadAttention),
        (nn.InstanceNorm1d(6, track_running_stats=True), nn.InstanceNorm1d),
    ],
)
def test_replacements_pass(layer, kind):
    module = net(layer.double())
    replaced = fix_module(module)
    assert replaced == [f"1.0: {type(layer).__name__} by {kind.__name__}"]
    assert type(module[1][0]) is kind
    assert module[1][0] is not layer
    assert all(
        tensor.dtype == torch.float64 for tensor in module[1].state_dict().values() if tensor.is_floating_point()
    )
    check_module(module)


def test_a_shared_layer_stays_shared_and_keeps_its_weights_and_mode():
    lstm = nn.LSTM(6, 6).eval()
    module = nn.ModuleDict({"first": lstm, "second": nn.Sequential(lstm)})
    fix_module(module)
    assert module["first"] is module["second"][0]
    assert not module["first"].training
    assert all(torch.equal(lstm.state_dict()[name], value) for name, value in module["first"].state_dict().items())


def test_features_go_on_through_what_replaces_batchnorm1d():
    """With Opacus's own number of groups the output would be constant."""
    module = nn.Sequential(nn.BatchNorm1d(32))
    fix_module(module)
    assert module(torch.randn(5, 32)).std(0).min() > 0.1
