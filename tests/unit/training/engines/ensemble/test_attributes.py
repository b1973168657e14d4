from __future__ import annotations

import copy
import itertools
import random
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_memaudit.training.engines.ensemble.attributes import attributes_of, first_difference
from lightning_memaudit.training.engines.in_memory.support import Unsupported
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


def closure(value: Any) -> Any:
    return lambda: value


class Slots:
    __slots__ = ("__private", "empty", "number")

    def __init__(self, number: Any) -> None:
        self.number = number
        self.__private = number


class Settings(dict[str, Any]):
    def __init__(self, number: Any) -> None:
        self.number = number


def keyword(*, value: Any = None) -> Any:
    return value


def counting(number: Any) -> Any:
    def function() -> None: ...

    function.calls = number
    return function


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (closure, "inner.x.value"),
        (lambda value: Holder(value).__init__, "inner.x.content"),
        (lambda value: partial(print, value), "inner.x.args[0]"),
        (lambda value: partial(keyword, value=value), "inner.x.keywords['value']"),
        (lambda value: partial(closure(value)), "inner.x.func.value"),
        (lambda value: eval("lambda value=value: value", {"value": value}), "inner.x.defaults[0]"),
        (counting, "inner.x.calls"),
        (Slots, "inner.x.number"),
        (Slots, "inner.x._Slots__private"),
        (Settings, "inner.x.number"),
    ],
)
def test_functions_and_objects_of_every_kind_are_looked_into(make, name) -> None:
    assert attributes_of(Holds(x=make(5)))[name] == 5
    assert first_difference([Holds(x=make(5)), Holds(x=make(6))]).startswith("inner.x")
    assert first_difference([Holds(x=make(5)), Holds(x=make(5))]) is None


def test_what_hooks_keep_is_found() -> None:
    module = Holds()
    module.inner[1].register_forward_pre_hook(Callable(), with_kwargs=True)
    found = attributes_of(module)
    assert (found["inner.0.forward_hook[0].number"], found["inner.1.forward_pre_hook[0].number"]) == (1, 1)
    other = Holds()
    other.inner.handle = other.inner[1].register_forward_pre_hook(Callable(), with_kwargs=True)
    module.inner.handle = None
    assert first_difference([other, module]) == "inner.handle"
    del module.inner.handle
    assert first_difference([module, other]) is None  # by whatever number torch knows the hook


@pytest.mark.parametrize(
    "make",
    [random.Random, np.random.default_rng, np.random.RandomState, lambda seed: torch.Generator().manual_seed(seed)],
)
def test_random_number_generators_are_their_states(make) -> None:
    assert first_difference([Holds(x=make(1)), Holds(x=make(1))]) is None
    assert first_difference([Holds(x=make(1)), Holds(x=make(2))]) == "inner.x"


def test_a_path_is_its_text() -> None:
    asked = Path("a")
    hash(asked)
    assert first_difference([Holds(x=asked), Holds(x=Path("a"))]) is None


@pytest.mark.parametrize("make", [itertools.count, lambda: iter([1]), lambda: (i for i in "ab")])
def test_nobody_knows_whether_iterators_are_alike(make) -> None:
    assert first_difference([Holds(x=make()), Holds(x=make())]) == "inner.x"


@pytest.mark.parametrize("make", [list, tuple, set, lambda words: {word: i for i, word in enumerate(words)}])
def test_a_vocabulary_hides_nothing(make) -> None:
    words = [f"word {i}" for i in range(30_000)]
    module = Holds(vocabulary=make(words), n=1)
    assert attributes_of(module)["inner.n"] == 1
    assert first_difference([module, Holds(vocabulary=make(list(words)), n=1)]) is None
    assert first_difference([module, Holds(vocabulary=make([*words[1:], "?"]), n=1)]) == "inner.vocabulary"


def test_nobody_is_looked_at_for_ever() -> None:
    with pytest.raises(Unsupported, match="a module that holds more than 20,000 values besides its tensors"):
        attributes_of(Holds(a=[(i,) for i in range(10**5)]))


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
