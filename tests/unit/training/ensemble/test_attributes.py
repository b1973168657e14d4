from __future__ import annotations

import copy
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_memaudit.training.ensemble.attributes import attributes_of, first_difference
from tests.helpers import zoo


class Holder:
    def __init__(self, content: Any) -> None:
        self.content = content


class Holds(nn.Module):
    def __init__(self, **content: Any) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.inner[0].register_forward_hook(Callable())
        for name, value in content.items():
            setattr(self.inner, name, value)


class Callable:
    def __init__(self) -> None:
        self.number = 1

    def __call__(self, *_: Any) -> None:
        pass


def test_values_are_found_however_deep() -> None:
    ring = Holder(7)
    ring.ring = ring
    hidden = nn.Linear(1, 1)
    module = Holds(
        a=1,
        b=[2.5, {"x": torch.ones(2)}],
        c=Holder(deque([Holder("text")])),
        d=ring,
        e=[hidden],
        f={3},
        g=print,
        h=(None,),
    )
    found = attributes_of(module)
    expected = {
        "inner.a": 1,
        "inner.b[0]": 2.5,
        "inner.c.content[0].content": "text",
        "inner.d.content": 7,
        "inner.f[0]": 3,
    }
    assert (
        expected.items()
        <= {name: value for name, value in found.items() if not isinstance(value, torch.Tensor)}.items()
    )
    assert found["inner.b[1]['x']"] is module.inner.b[1]["x"]
    assert found["inner.e[0]._parameters['weight']"] is hidden.weight
    assert found["inner.0.in_features"] == 2
    assert found["inner.h[0]"] is None
    assert not any("weight" in name for name in found if "inner.e" not in name)
    assert not any("running_mean" in name or "hooks" in name or name.startswith("inner.g") for name in found)


def test_nobody_is_looked_at_for_ever() -> None:
    assert len(attributes_of(Holds(a=list(range(10**6))))) <= 20_000


@pytest.mark.parametrize("module", [zoo.Net, zoo.Metrics, zoo.BatchNorm, zoo.CountsElsewhere, zoo.Attention])
def test_fresh_modules_of_a_class_are_alike(module) -> None:
    modules = [module() for _ in range(3)]
    assert first_difference(modules) is None
    assert first_difference(modules[:1]) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 2),
        (1, 1.0),
        (1.0, None),
        ("relu", "tanh"),
        ([1, 2], [1, 3]),
        ([1, 2], [1]),
        ({"a": 1}, {"a": 1, "b": 2}),
        (torch.zeros(2), torch.ones(2)),
        (torch.zeros(2), torch.zeros(3)),
        (np.zeros(2), np.ones(2)),
        (Holder(1), Holder(2)),
        ([nn.Linear(1, 1)], [nn.Linear(1, 1)]),
    ],
)
def test_a_difference_is_found_in_whichever_module(first, second) -> None:
    found = first_difference([Holds(x=first), Holds(x=copy.deepcopy(first)), Holds(x=second)])
    assert found is not None
    assert found.startswith("inner.x")
    assert first_difference([Holds(x=second), Holds(x=first)]) is not None
    assert first_difference([Holds(x=second), Holds(x=copy.deepcopy(second))]) is None
