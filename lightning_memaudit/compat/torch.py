"""What the package needs of torch beyond its documented interface; names as of torch 2.13."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import batchnorm, dropout, instancenorm
from torch.optim.lr_scheduler import ChainedScheduler, LRScheduler, OneCycleLR, SequentialLR

from lightning_memaudit.compat import names
from lightning_memaudit.compat.names import absent, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "batch_norms",
    "compile_graph",
    "compiler_cache",
    "containers_missing",
    "dispatch_mode",
    "dropouts",
    "flatten",
    "forget_compiled",
    "has_gradient_hooks",
    "has_step_hooks",
    "inner_schedulers",
    "instance_norms",
    "int8_product",
    "leaves_of",
    "map_leaves",
    "missing_from_tensors",
    "own_attributes",
    "scale_scheduler",
    "scheduler_settings",
    "talkative_loggers",
    "tensor_version",
    "unflatten",
]


def containers_missing() -> str | None:
    """What keeps batches from being taken apart into tensors, in words; None where nothing does.

    ``torch.utils._pytree`` is behind ``flatten``, ``leaves_of``, ``unflatten`` and ``map_leaves``. Without it no
    example is read into memory, and the Trainer goes through the user's loader.
    """
    return absent("torch", torch.utils, "_pytree") or absent("torch", torch.utils._pytree, *_TREE)


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of nested containers, and how they are nested: ``torch.utils._pytree.tree_flatten``."""
    leaves, spec = _pytree().tree_flatten(tree)
    return leaves, spec


def leaves_of(tree: Any) -> list[Any]:
    """The leaves of nested containers: ``torch.utils._pytree.tree_leaves``."""
    return list(_pytree().tree_leaves(tree))


def unflatten(leaves: Sequence[Any], spec: Any) -> Any:
    """Nested containers from what ``flatten`` gave: ``torch.utils._pytree.tree_unflatten``."""
    return _pytree().tree_unflatten(leaves, spec)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same containers with ``function`` of each leaf: ``torch.utils._pytree.tree_map``."""
    return _pytree().tree_map(function, tree)


def batch_norms() -> tuple[type[nn.Module], ...]:
    """The layers that normalise over a batch: ``_BatchNorm``, or its kinds in ``torch.nn`` where it is missing.

    A user's own subclass of ``_BatchNorm`` is not known in the second case.
    """
    if names.has(batchnorm, "_BatchNorm"):
        return (batchnorm._BatchNorm,)
    lazy = nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d
    return nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, *lazy


def instance_norms() -> tuple[type[nn.Module], ...]:
    """The layers that normalise within an example: ``_InstanceNorm``, or its kinds in ``torch.nn``."""
    if names.has(instancenorm, "_InstanceNorm"):
        return (instancenorm._InstanceNorm,)
    lazy = nn.LazyInstanceNorm1d, nn.LazyInstanceNorm2d, nn.LazyInstanceNorm3d
    return nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, *lazy


def dropouts() -> tuple[type[nn.Module], ...]:
    """The layers that drop values at random: ``_DropoutNd``, or its kinds in ``torch.nn`` where it is missing."""
    if names.has(dropout, "_DropoutNd"):
        return (dropout._DropoutNd,)
    return nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout


def int8_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of two int8 matrices in int32: ``torch._int_mm`` (torch 2.1).

    Raises:
        RuntimeError: torch has none, or not for these sizes; a product of floats is exact up to 2^24 as well.
    """
    if not names.has(torch, "_int_mm"):
        raise RuntimeError(str(absent("torch", torch, "_int_mm")))
    product: torch.Tensor = torch._int_mm(a, b)
    return product


def forget_compiled() -> None:
    """Have nets that were compiled before traced anew, since they do not notice hooks that come or go.

    ``torch._dynamo`` is looked for only to spare its import, of a second, where nothing was compiled.
    """
    if "torch._dynamo" in sys.modules or importlib.util.find_spec("torch._dynamo") is None:
        torch.compiler.reset()


def compile_graph(
    graph: Any, tensors: Sequence[torch.Tensor], options: Mapping[str, Any]
) -> Callable[..., Sequence[torch.Tensor]]:
    """Compile a traced function without Dynamo, which guards every call: ``torch._inductor.compile``.

    Args:
        graph: A ``GraphModule`` of tensors in, tensors out.
        tensors: What it is called with.
        options: Of ``torch._inductor.config``.

    Raises:
        ConfigurationError: torch has no such compiler; the step is run as it was traced.
    """
    require("torch", torch, "_inductor", purpose="compiling the training step")
    inductor = importlib.import_module("torch._inductor")
    require("torch", inductor, "compile", purpose="compiling the training step")
    compiled: Callable[..., Sequence[torch.Tensor]] = inductor.compile(graph, [*tensors], options=dict(options))
    return compiled


def compiler_cache() -> Path | None:
    """The folder where the compiler keeps what it made: ``torch._inductor.runtime.cache_dir_utils.cache_dir``.

    None where that name is missing: then nothing counts as compiled before.
    """
    try:
        found = importlib.import_module("torch._inductor.runtime.cache_dir_utils")
    except ImportError:
        return None
    return Path(found.cache_dir()) if names.has(found, "cache_dir") else None


def missing_from_tensors(optimizer: torch.optim.Optimizer) -> str | None:
    """What training many models at once needs of torch and does not find, in words; None where all is there.

    The names are those of ``tensor_version``, ``has_gradient_hooks`` and ``has_step_hooks``: without them the engine
    could not tell what a step changes besides gradients. It leaves the models to be trained one by one then.
    """
    return absent("torch", torch.Tensor, *_TENSOR) or absent("torch", optimizer, *_OPTIMIZER)


def tensor_version(tensor: torch.Tensor) -> int:
    """How often a tensor was written to: ``Tensor._version``.

    Raises:
        ConfigurationError: torch has no such name.
    """
    require("torch", torch.Tensor, "_version", purpose="training many models at once")
    return tensor._version


def has_gradient_hooks(parameter: torch.Tensor) -> bool:
    """Whether hooks see a parameter's gradient: ``Tensor._backward_hooks``, ``_post_accumulate_grad_hooks``.

    Raises:
        ConfigurationError: torch has no such name.
    """
    require("torch", torch.Tensor, *_TENSOR[1:], purpose="training many models at once")
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


def has_step_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether hooks see an optimizer's steps: ``_optimizer_step_pre_hooks``, ``_optimizer_step_post_hooks``.

    Raises:
        ConfigurationError: torch has no such name.
    """
    require("torch", optimizer, *_OPTIMIZER, purpose="training many models at once")
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def dispatch_mode() -> type[Any]:
    """The base class of what takes operators in hand: ``torch.utils._python_dispatch.TorchDispatchMode``.

    Where it is missing, a class that does nothing: the operators run as they are, with equal values, only slower.
    """
    try:
        found = importlib.import_module("torch.utils._python_dispatch")
    except ImportError:
        return _Nothing
    kind: type[Any] = found.TorchDispatchMode if names.has(found, "TorchDispatchMode") else _Nothing
    return kind


def own_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What ``vars`` of a module holds besides its parameters, buffers, submodules and mode.

    Of hooks on its forward pass only the functions are given, under the attribute's name without underscores, since
    their keys are running numbers; other hooks (``_..._hooks``) are left out. Attributes that another torch names
    otherwise are given like those of the user: models that differ in them are trained one by one.
    """
    for name, value in vars(module).items():
        if name in ("_forward_pre_hooks", "_forward_hooks"):
            yield name[1:-1], list(value.values())
        elif name not in ("_parameters", "_buffers", "_modules", "training") and not (
            name.startswith("_") and "_hooks" in name
        ):
            yield name, value


def inner_schedulers(scheduler: Any) -> tuple[Any, ...] | None:
    """The schedulers that one runs: ``_schedulers`` of ``SequentialLR`` and ``ChainedScheduler``.

    None where one of those does not show them.
    """
    if isinstance(scheduler, SequentialLR | ChainedScheduler) and not names.has(scheduler, "_schedulers"):
        return None
    return tuple(scheduler._schedulers) if names.has(scheduler, "_schedulers") else ()


def scheduler_settings(scheduler: Any, *, with_step_counts: bool) -> dict[str, Any]:
    """What a scheduler was made with, as far as it keeps it, before its first step.

    ``state_dict`` has it but for ``lr_lambdas``, ``SequentialLR._milestones`` and ``OneCycleLR._schedule_phases``.
    Where a scheduler lacks one of these, all its state is taken, so that no setting goes unseen.

    Args:
        scheduler: A scheduler.
        with_step_counts: Whether whole numbers, and what is counted in steps, belong to it.
    """
    state: dict[str, Any] = scheduler.state_dict()
    shown = inner_schedulers(scheduler) is not None and all(
        names.has(scheduler, name) for kind, name in _COUNTED.items() if isinstance(scheduler, kind)
    )
    found = {
        key: value
        for key, value in state.items()
        if not (shown and key.startswith("_"))
        and (with_step_counts or isinstance(value, bool) or not isinstance(value, int))
    }
    if with_step_counts:
        kept = [name for name in ("lr_lambdas", *_COUNTED.values()) if names.has(scheduler, name)]
        found |= {name: getattr(scheduler, name) for name in kept}
    return found


def scale_scheduler(scheduler: Any, factors: Sequence[float]) -> None:
    """Multiply the learning rates that a scheduler, and those that it runs, start from or aim at.

    ``_last_lr`` is only what ``get_last_lr`` answers until the next step.

    Args:
        scheduler: A scheduler before its first step.
        factors: One for each parameter group.

    Raises:
        ConfigurationError: It runs others, and torch does not show them.
    """
    inner = inner_schedulers(scheduler)
    if inner is None:
        require("torch", scheduler, "_schedulers", purpose=f"another lr under {type(scheduler).__name__}")
    for part in (scheduler, *(inner or ())):
        if isinstance(part, LRScheduler):
            for name in ("base_lrs", "max_lrs", "_last_lr"):
                if names.has(part, name):
                    rates = [rate * factor for rate, factor in zip(getattr(part, name), factors, strict=True)]
                    setattr(part, name, rates)


def talkative_loggers() -> tuple[str, ...]:
    """Names of loggers that report old spellings while another library registers its containers with torch."""
    return ("torch.utils._pytree",)


_TREE = ("tree_flatten", "tree_leaves", "tree_unflatten", "tree_map")
_TENSOR = ("_version", "_backward_hooks", "_post_accumulate_grad_hooks")
_OPTIMIZER = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_COUNTED: dict[type, str] = {SequentialLR: "_milestones", OneCycleLR: "_schedule_phases"}


class _Nothing:
    """A dispatch mode that leaves every operator alone."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _pytree() -> Any:
    require("torch", torch.utils, "_pytree", purpose="taking batches apart")
    return torch.utils._pytree
