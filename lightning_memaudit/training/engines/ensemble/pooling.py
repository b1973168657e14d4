"""Operators inside ``vmap``: max pooling in its vectorised memory format, and those that run one model at a time."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from lightning_memaudit.compat.torch import dispatch_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ChannelsLastPooling", "fallbacks_allowed"]

_POOL = torch.ops.aten.max_pool2d_with_indices.default


class ChannelsLastPooling(dispatch_mode()):  # type: ignore[misc]
    """Computes ``max_pool2d`` of tensors on the CPU in channels-last format, with equal values and indices.

    PyTorch's kernel for contiguous tensors goes through them one value after the other, which takes longer than small
    convolutions do; that for channels-last tensors is vectorised (``aten/src/ATen/native/cpu/MaxPoolKernel.cpp``).

    Example:
        >>> x = torch.randn(2, 3, 4, 4)
        >>> with ChannelsLastPooling():
        ...     found = torch.nn.functional.max_pool2d(x, 2)
        >>> torch.equal(found, torch.nn.functional.max_pool2d(x, 2))
        True
    """

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Pass every other operator on as it is."""
        if func is _POOL and args[0].device.type == "cpu" and args[0].ndim == 4:
            images = args[0].contiguous(memory_format=torch.channels_last)
            values, indices = func(images, *args[1:], **(kwargs or {}))
            return values.contiguous(), indices.contiguous()
        return func(*args, **(kwargs or {}))


@contextmanager
def fallbacks_allowed() -> Iterator[None]:
    """No warning of operators without a batching rule: whether they are too slow is measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop because")
        yield
