"""What a module holds besides parameters, buffers and submodules: plain values and tensors, by name."""

from __future__ import annotations

from collections import deque
from itertools import islice
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torchmetrics import Metric, MetricCollection

from lightning_memaudit.data.sameness import same

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["PLAIN", "attributes_of", "first_difference"]

PLAIN = (bool, int, float, complex, str, bytes, type(None))
_OF_TORCH = {"_parameters", "_buffers", "_modules", "_trainer", "_fabric", "training"}
_MOST = 20_000  # values that are looked at


def attributes_of(root: nn.Module) -> dict[str, Any]:
    """Plain values, tensors and arrays that ``root`` and its submodules hold, however deep in containers and objects.

    Args:
        root: A module; its parameters, buffers and submodules are left out, and its Trainer and metrics.
    """
    seen = {id(module) for module in root.modules()}
    found = islice(
        (
            (f"{prefix}.{name}".lstrip(".") + rest, leaf)
            for prefix, module in root.named_modules()
            if not isinstance(module, Metric | MetricCollection)
            for name, value in vars(module).items()
            if name not in _OF_TORCH and not name.endswith("_hooks")  # whose keys are numbers of no meaning
            for rest, leaf in _leaves(value, seen)
        ),
        _MOST,
    )
    return dict(found)


def first_difference(modules: Sequence[nn.Module]) -> str | None:
    """The name of an attribute that is not the same in all modules; None where all are alike."""
    first, *others = [attributes_of(module) for module in modules]
    for other in others:
        for name in [*first, *other]:
            if name not in first or name not in other or not same(first[name], other[name]):
                return name
    return None


def _leaves(value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (*PLAIN, torch.Tensor, np.ndarray, np.generic)):
        yield "", value
        return
    if id(value) in seen or isinstance(value, type | FunctionType | MethodType | ModuleType):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        parts = [(f"[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, list | tuple | deque):
        parts = [(f"[{i}]", part) for i, part in enumerate(value)]
    elif isinstance(value, set | frozenset):
        parts = [(f"[{i}]", part) for i, part in enumerate(sorted(value, key=repr))]
    else:
        parts = [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items() if name != "_trainer"]
    for name, part in parts:
        for rest, leaf in _leaves(part, seen):
            yield name + rest, leaf
