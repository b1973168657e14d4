from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_memaudit.training.engines.ensemble.stack import Stack
from lightning_memaudit.training.engines.in_memory.support import Unsupported
from tests.helpers import zoo

CPU = torch.device("cpu")


def test_parameters_and_buffers_are_copies_of_those_of_the_modules() -> None:
    modules = [zoo.FrozenStatistics() for _ in range(3)]
    stack = Stack.of(modules, CPU)
    assert len(stack) == 3
    for k, module in enumerate(modules):
        member = stack.member(k)
        expected = dict(module.named_parameters()) | dict(module.named_buffers())
        assert set(member) == set(expected)
        assert all(
            torch.equal(member[name], tensor) and not member[name].requires_grad for name, tensor in expected.items()
        )
    with torch.no_grad():
        modules[0].net[0].weight.zero_()
        modules[0].net[1].running_mean.zero_()
    assert stack.parameters["net.0.weight"][0].any()
    assert stack.buffers["net.1.running_mean"][0].any()
    assert stack.buffers["net.1.num_batches_tracked"].dtype == torch.int64


def test_what_is_trained_can_be_stepped_and_the_rest_has_no_gradient() -> None:
    stack = Stack.of([zoo.Frozen(), zoo.Frozen()], CPU)
    assert set(stack.trained) == {"net.2.weight", "net.2.bias"}
    assert set(stack.fixed) == {"net.0.weight", "net.0.bias"}
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in stack.trained.values())
    assert not any(tensor.requires_grad for tensor in stack.fixed.values())


def test_tied_weights_are_there_once() -> None:
    assert "out.weight" not in Stack.of([zoo.Tied(), zoo.Tied()], CPU).parameters


def wider() -> nn.Module:
    module = zoo.Net()
    module.net[0] = nn.Linear(zoo.FEATURES, 9)
    return module


def deeper() -> nn.Module:
    module = zoo.Net()
    module.more = nn.Linear(1, 1)
    return module


def with_longer_buffer() -> nn.Module:
    module = zoo.Rebound()
    module.register_buffer("mean", torch.zeros(3), persistent=False)
    return module


def freezes() -> nn.Module:
    module = zoo.Net()
    module.net[0].weight.requires_grad_(requires_grad=False)
    return module


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (zoo.Net, wider),
        (zoo.Net, deeper),
        (deeper, zoo.Net),
        (zoo.Net, lambda: zoo.Net().double()),
        (zoo.Net, freezes),
        (zoo.Rebound, with_longer_buffer),
    ],
)
def test_models_must_be_alike(first, second) -> None:
    with pytest.raises(Unsupported, match="models of different shapes"):
        Stack.of([first(), second()], CPU)
