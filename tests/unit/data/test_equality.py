from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_memaudit.data.equality import equal

Pair = namedtuple("Pair", "x y")


class Own:
    def __init__(self, value) -> None:
        self.value = value

    def __eq__(self, other) -> bool:
        return self.value == other.value

    __hash__ = None


def nested(depth: int) -> SimpleNamespace:
    return SimpleNamespace(inner=Opaque(nested(depth - 1)) if depth else 1)


class Opaque:
    def __init__(self, content) -> None:
        self.content = content


def ring() -> Opaque:
    first = Opaque(None)
    first.content = first
    return first


ALIKE = {
    "numbers": lambda: (1, 2.5, "a", None, b"x", True),
    "nan": lambda: float("nan"),
    "tensors with NaN": lambda: torch.tensor([1.0, torch.nan]),
    "arrays with NaN": lambda: np.array([1.0, np.nan]),
    "arrays of text": lambda: np.array(["a", "b"]),
    "numpy numbers": lambda: np.float32("nan"),
    "containers": lambda: {"x": [torch.arange(3), Pair(1, np.arange(2))]},
    "objects": lambda: Opaque(Opaque(torch.arange(3))),
    "objects with ==": lambda: Own([1, 2]),
}
UNLIKE = {
    "numbers": (1.0, 2.0),
    "kinds of number": (1, 1.0),
    "text": ("a", "b"),
    "nan and a number": (float("nan"), 1.0),
    "tensors": (torch.tensor([1.0]), torch.tensor([2.0])),
    "types of tensor": (torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
    "shapes of tensor": (torch.ones(1), torch.ones(1, 1)),
    "arrays": (np.array([1, 2]), np.array([1, 3])),
    "types of array": (np.array([1, 2]), np.array([1.0, 2.0])),
    "shapes of array": (np.ones(2), np.ones((1, 2))),
    "tensor and array": (torch.ones(2), np.ones(2, dtype=np.float32)),
    "numpy numbers": (np.float64(1), np.float64(2)),
    "keys": ({"x": 1}, {"y": 1}),
    "lengths": ([1], [1, 2]),
    "objects": (Opaque(1), Opaque(2)),
    "objects with ==": (Own(1), Own(2)),
    "objects without content": (object(), object()),
    "what lies too deep": (nested(9), nested(9)),
    "rings": (ring(), ring()),
}


@pytest.mark.parametrize("name", ALIKE)
def test_the_same_made_twice_is_the_same(name) -> None:
    assert equal(ALIKE[name](), ALIKE[name]())


@pytest.mark.parametrize("name", UNLIKE)
def test_another_is_not(name) -> None:
    first, second = UNLIKE[name]
    assert not equal(first, second)
    assert equal(first, first)
