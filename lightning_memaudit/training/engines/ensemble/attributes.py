"""What a module holds besides parameters, buffers and submodules: plain values and tensors, by name."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Iterator
from functools import partial
from io import IOBase
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.hooks import RemovableHandle
from torchmetrics import Metric, MetricCollection

from lightning_memaudit.compat.lightning import is_link
from lightning_memaudit.compat.torch import own_attributes
from lightning_memaudit.data.equality import equal
from lightning_memaudit.training.engines.in_memory.support import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PLAIN", "attributes_of", "first_difference"]

_VALUES = (bool, int, float, complex, str, bytes, type(None))
PLAIN = (*_VALUES, tuple)  # a tuple stands for a long collection of values
_LEAVES = (*_VALUES, torch.Tensor, np.ndarray, np.generic, Optimizer, LRScheduler)
_NOT_LOOKED_INTO = (type, ModuleType, IOBase, logging.Logger, RemovableHandle)
_LONG = 1_000
_MOST = 20_000  # values that are looked at


def attributes_of(root: nn.Module) -> dict[str, Any]:
    """Plain values, tensors and arrays that ``root`` and its submodules hold, however deep in containers and objects.

    Objects are looked into, and functions for what they keep between calls. The state of random number generators is
    among the values; iterators, optimizers and schedulers stand for themselves.

    Args:
        root: A module; its parameters, buffers and submodules are left out, and its Trainer and metrics.

    Raises:
        Unsupported: It holds too many to be looked at.
    """
    seen = {id(module) for module in root.modules()}
    todo = deque(_held_by_modules(root))
    found: dict[str, Any] = {}
    while todo:
        name, value = todo.popleft()
        leaf = _leaf(value)
        if leaf is not _NO_LEAF:
            found[name] = leaf
        elif id(value) not in seen and not isinstance(value, _NOT_LOOKED_INTO):
            seen.add(id(value))
            todo.extend((name + rest, part) for rest, part in _parts(value))
        if len(found) + len(todo) > _MOST:
            raise Unsupported(f"a module that holds more than {_MOST:,} values besides its tensors")
    return found


def first_difference(modules: Sequence[nn.Module]) -> str | None:
    """The name of an attribute that is not the same in all modules; None where all are alike."""
    first, *others = [attributes_of(module) for module in modules]
    for other in others:
        for name in [*first, *other]:
            if name not in first or name not in other or not equal(first[name], other[name]):
                return name
    return None


def _held_by_modules(root: nn.Module) -> Iterator[tuple[str, Any]]:
    for prefix, module in root.named_modules():
        if isinstance(module, Metric | MetricCollection):
            continue
        for name, value in own_attributes(module):
            if not is_link(name):
                yield f"{prefix}.{name}".lstrip("."), value


_NO_LEAF = object()


def _leaf(value: Any) -> Any:
    """What stands for a value that is not looked into."""
    if isinstance(value, _LEAVES) or (isinstance(value, Iterator) and not isinstance(value, IOBase)):
        return value
    if isinstance(value, PurePath):  # which keeps its hash when it is asked for it
        return str(value)
    if isinstance(value, random.Random):
        return str(value.getstate())
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return str(value.get_state(legacy=False))
    if isinstance(value, torch.Generator):
        return value.get_state().numpy()
    if isinstance(value, dict | list | tuple | set | frozenset) and len(value) > _LONG:
        values = value.values() if isinstance(value, dict) else value
        if all(isinstance(part, _VALUES) for part in values):
            pairs = value.items() if isinstance(value, dict) else value
            return tuple(sorted(pairs, key=repr) if isinstance(value, set | frozenset) else pairs)
    return _NO_LEAF


def _parts(value: Any) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        parts = [(f"[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, list | tuple | deque):
        parts = [(f"[{i}]", part) for i, part in enumerate(value)]
    elif isinstance(value, set | frozenset):
        parts = [(f"[{i}]", part) for i, part in enumerate(sorted(value, key=repr))]
    elif isinstance(value, MethodType):
        return [("", value.__self__)]
    elif isinstance(value, partial):
        parts = [(".func", value.func), (".args", value.args), (".keywords", value.keywords)]
    elif isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        parts = [(f".{name}", part) for name, cell in cells for part in _content(cell)]
        parts += [(".defaults", value.__defaults__), (".kwdefaults", value.__kwdefaults__)]
    parts += [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items() if not is_link(name)]
    return parts + [(f".{name}", getattr(value, name)) for name in _slots(type(value)) if hasattr(value, name)]


def _content(cell: Any) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # of a variable that has no value yet
        return []


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            private = name.startswith("__") and not name.endswith("__")
            yield f"_{base.__name__.lstrip('_')}{name}" if private else name
