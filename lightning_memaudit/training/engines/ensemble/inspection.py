"""What one training step of one model tells about training many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric, MetricCollection

from lightning_memaudit.compat.torch import dropouts, has_gradient_hooks, tensor_version
from lightning_memaudit.data.randomness import preserved_randomness, random_state
from lightning_memaudit.training.engines.ensemble.attributes import PLAIN, attributes_of
from lightning_memaudit.training.engines.in_memory.loop import training_step_of, without_logging
from lightning_memaudit.training.engines.in_memory.support import Unsupported

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

__all__ = ["Inspection", "inspect_step", "loss_of", "without_dropout", "without_metrics"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a training step does besides its loss.

    Attributes:
        unused: Parameters that get no gradient, which an optimizer leaves alone.
        activation_bytes: What one model keeps for its backward pass.
        draws_random: Whether it draws random numbers (dropout).
        steady: Whether it is the same computation at every step: it looks neither at the batch number nor at the
            Trainer (epoch, step), changes no attribute of the module, and has no optimizer or scheduler at hand.
    """

    unused: frozenset[str]
    activation_bytes: int
    draws_random: bool
    steady: bool


def inspect_step(pl_module: LightningModule, batch: Any) -> Inspection:
    """Take one training step with a module that is used for nothing else.

    Args:
        pl_module: A fresh module, attached to a Trainer and in training mode; its optimizers are configured here.
        batch: Any batch.

    Raises:
        Unsupported: Training keeps something between steps that stacked models would get wrong.
    """
    with preserved_randomness():
        pl_module.configure_optimizers()
    attributes = attributes_of(pl_module)
    if iterators := [name for name, value in attributes.items() if isinstance(value, Iterator)]:
        raise Unsupported(f"the attribute {iterators[0]}, an iterator")
    for name, parameter in pl_module.named_parameters():
        if has_gradient_hooks(parameter):
            raise Unsupported(f"a hook on the gradient of {name}")
    driven = any(isinstance(value, Optimizer | LRScheduler) for value in attributes.values())
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with without_logging(pl_module), without_metrics(pl_module):
        before, state = _versions(attributes), random_state()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = loss_of(training_step_of(pl_module)(batch, 0))
        after = random_state()
        if after[1:] != state[1:]:
            raise Unsupported("training_step, which draws random numbers of numpy or Python")
        torch.autograd.backward(loss)
        attributes = attributes_of(pl_module)
        now = _versions(attributes)
        changed = [name for name in {**before, **now} if before.get(name, _GONE) != now.get(name, _GONE)]
        if held := [name for name in changed if not isinstance(attributes.get(name), PLAIN)]:
            raise Unsupported(f"training_step, which changes the attribute {held[0]}")
        unused = {name for name, p in pl_module.named_parameters() if p.requires_grad and p.grad is None}
        steady = not changed and not driven and _is_steady(pl_module, batch)
    return Inspection(frozenset(unused), kept, after != state, steady)


def loss_of(output: Any) -> torch.Tensor:
    """The loss in what ``training_step`` returned.

    Raises:
        Unsupported: It is no scalar tensor.
    """
    loss = output["loss"] if isinstance(output, Mapping) and "loss" in output else output
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        raise Unsupported("training_step, which returns no scalar loss")
    return loss


@contextmanager
def without_metrics(pl_module: nn.Module) -> Iterator[None]:
    """Metrics in ``training_step`` count nothing, for they cannot count several models; their values may be logged."""
    metrics = [module for module in pl_module.modules() if isinstance(module, Metric | MetricCollection)]
    before = [dict(vars(metric)) for metric in metrics]
    for metric in metrics:
        answer: Any = {} if isinstance(metric, MetricCollection) else _NotCounted()
        vars(metric).update(forward=_constant(answer), update=_constant(None), compute=_constant(answer))
    try:
        yield
    finally:
        for metric, attributes in zip(metrics, before, strict=True):
            for name in ("forward", "update", "compute"):
                vars(metric).pop(name)
                vars(metric).update({name: attributes[name]} if name in attributes else {})


def without_dropout(pl_module: LightningModule) -> LightningModule:
    """The module with every dropout layer at probability 0."""
    for module in pl_module.modules():
        if isinstance(module, dropouts()):
            module.p = 0.0  # type: ignore[assignment]
    return pl_module


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _used(*_: Any, **__: Any) -> Any:
    raise Unsupported("training_step, which uses the value of a metric")


def _uncounted(self: _NotCounted, *others: Any) -> Any:
    return _used() if any(isinstance(other, torch.Tensor) for other in others) else self


class _NotCounted:
    """Stands for the value of a metric: what can be made of it for a log stands for itself, and nothing else is."""

    __torch_function__ = classmethod(_used)
    __bool__ = __index__ = __int__ = __float__ = __len__ = __iter__ = __eq__ = __ne__ = __hash__ = _used
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __array__ = _used
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _uncounted
    __pow__ = __rpow__ = __neg__ = __abs__ = __round__ = __getitem__ = _uncounted

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def __format__(self, spec: str) -> str:
        return "nan"


def _is_steady(pl_module: LightningModule, batch: Any) -> bool:
    trainer = pl_module.trainer
    pl_module.trainer = _Watched()  # type: ignore[assignment]
    try:
        training_step_of(pl_module)(batch, _Watched())  # type: ignore[arg-type]
    except Exception:  # the step went well with the real ones, so it used one of these
        return False
    finally:
        pl_module.trainer = trainer
    return True


def _raise(*_: Any, **__: Any) -> Any:
    raise TypeError


class _Watched:
    """Stands for the batch number or the Trainer, and raises when it is used for anything."""

    __getattr__ = __setattr__ = __bool__ = __index__ = __int__ = __float__ = __eq__ = __ne__ = __hash__ = _raise
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _raise
    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = _raise
    __str__ = __repr__ = __format__ = _raise


_GONE = object()


def _versions(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Something for each attribute that is equal as long as it is not changed."""
    return {name: _version(value) for name, value in attributes.items()}


def _version(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return id(value), tensor_version(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype, value.shape, value.tobytes()
    return value if isinstance(value, PLAIN) else id(value)
