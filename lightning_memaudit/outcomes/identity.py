"""Descriptions of a model, its optimisation and its scoring, by which a store knows them again."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import functools
import hashlib
import json
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_memaudit.compat.lightning import arguments_of, hyperparameters
from lightning_memaudit.compat.torch import inner_schedulers, scheduler_settings

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from torch.utils.data import DataLoader

    from lightning_memaudit.outcomes.scoring import ScoreFunction

__all__ = ["canonical", "describe_model", "describe_optimisation", "describe_scoring", "fixed_weights_digest"]

_LONG = 100  # entries; longer sequences enter by their digest
_SPEED_ONLY = {"foreach", "fused", "capturable", "differentiable"}
_TRAINER_ARGUMENTS = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "limit_train_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "reload_dataloaders_every_n_epochs",
)
_VALIDATION_ARGUMENTS = ("limit_val_batches", "val_check_interval", "check_val_every_n_epoch")


def canonical(value: Any) -> Any:
    """A JSON-ready form of a setting that is the same in every process: no addresses, no device, sorted keys.

    Long sequences and arrays enter by their digest; functions by their name, defaults and what they close over; objects
    of other kinds by the name of their class.

    Example:
        >>> canonical({"lr": torch.tensor(0.5), "betas": (0.9, 0.99), "f": len})
        {'betas': [0.9, 0.99], 'f': 'builtins.len', 'lr': 0.5}
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray) and value.size > _LONG and value.dtype != object:
        content = np.ascontiguousarray(value).tobytes()
        return {
            "shape": list(value.shape),
            "dtype": value.dtype.str,
            "sha256": hashlib.sha256(content).hexdigest()[:16],
        }
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, enum.Enum):
        return f"{_name(type(value))}.{value.name}"
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray):
        return hashlib.sha256(value).hexdigest()[:16]
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {without_addresses(str(key)): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, set | frozenset):
        return _shortened(sorted((canonical(item) for item in value), key=str))
    if isinstance(value, Sequence):
        return _shortened([canonical(item) for item in value])
    if isinstance(value, functools.partial):
        return {"function": canonical(value.func), "args": canonical(value.args), **canonical(value.keywords)}
    if isinstance(value, types.FunctionType):
        return _describe_function(value)
    if isinstance(value, torch.dtype):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": _name(type(value)), **canonical(fields)}
    return _name(value if isinstance(value, type | Callable) else type(value))


def describe_model(pl_module: LightningModule, *, initial_weights: str | None = None) -> dict[str, Any]:
    """Class, hyperparameters, layers and parameter shapes of a module.

    Args:
        pl_module: The module, before or after training.
        initial_weights: Digest of the weights that do not depend on the seed (pretrained, constant), where it is known.
    """
    return {
        "class": _name(type(pl_module)),
        "hparams": {name: canonical(value) for name, value in hyperparameters(pl_module).items()},
        "layers": {
            name: without_addresses(module.extra_repr())
            for name, module in pl_module.named_modules()
            if name and not list(module.children())
        },
        "types": {name: type(module).__name__ for name, module in pl_module.named_modules() if name},
        "parameters": {
            name: [*(["lazy"] if is_lazy(tensor) else tensor.shape), str(tensor.dtype), bool(tensor.requires_grad)]
            for name, tensor in pl_module.named_parameters()
        },
        "initial_weights": initial_weights,
    }


def fixed_weights_digest(first: nn.Module, second: nn.Module) -> str:
    """Digest of the weights that two modules built under different seeds have in common: pretrained and constant ones.

    Randomly initialised weights are left out, since their last bits may differ between machines.
    """
    content = hashlib.sha256()
    other = second.state_dict()
    for name, tensor in sorted(first.state_dict().items()):
        twin = other.get(name)
        if (
            not isinstance(tensor, torch.Tensor)
            or not isinstance(twin, torch.Tensor)
            or is_lazy(tensor)
            or is_lazy(twin)
        ):
            continue
        if torch.equal(tensor, twin):
            flat = tensor.detach().cpu().contiguous().flatten()
            content.update(name.encode() + flat.view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:32]


def describe_optimisation(
    trainer: Trainer,
    loader: DataLoader[Any] | None,
    *,
    with_step_counts: bool,
    ignore: tuple[type, ...] = (),
    full_loader: DataLoader[Any] | None = None,
) -> dict[str, Any]:
    """Optimizers, schedulers, loader settings and the Trainer arguments that change what is learned.

    Args:
        trainer: A Trainer whose optimizers were configured (from ``on_fit_start`` on).
        loader: The training loader, if there is one.
        with_step_counts: Whether whole numbers in scheduler states enter. They often derive from the number of steps,
            which differs between models when subsets differ in size.
        ignore: Callback classes that do not change training.
        full_loader: The training loader over all examples, where it is known: number of draws and weights are taken
            from it, since those of a subset differ between models.

    Note:
        In a fit that goes on from a checkpoint, optimizers, schedulers and callbacks are in mid-course and stay unknown
        (None); the checkpoint brought their settings along.
    """
    resumed = trainer.global_step > 0
    callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, ignore)]  # type: ignore[attr-defined]
    arguments = list(_TRAINER_ARGUMENTS)
    if _monitors(trainer, callbacks):  # else validation changes nothing, and an audit leaves it out
        arguments += _VALIDATION_ARGUMENTS
    return {
        "optimizers": None if resumed else [_describe_optimizer(optimizer) for optimizer in trainer.optimizers],
        "schedulers": None
        if resumed
        else [
            _describe_scheduler(config.scheduler, with_step_counts)
            | {"interval": config.interval, "frequency": config.frequency, "monitor": config.monitor}
            for config in trainer.lr_scheduler_configs
        ],
        "trainer": canonical({name: getattr(trainer, name, None) for name in arguments})
        | {"precision": str(trainer.precision), "processes": trainer.world_size},
        "loader": None
        if loader is None
        else {
            "batch_size": loader.batch_size,
            "drop_last": loader.drop_last,
            "sampler": type(loader.sampler).__name__,
        },
        "draws": None if full_loader is None else _describe_draws(full_loader.sampler),
        "callbacks": None if resumed else sorted((_describe_callback(callback) for callback in callbacks), key=str),
    }


def describe_scoring(score_fn: ScoreFunction, splits: Sequence[str]) -> dict[str, Any]:
    """The score function and the splits that it is applied to."""
    return {"score_fn": canonical(score_fn), "splits": sorted(splits)}


def _describe_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "class": type(optimizer).__name__,
        "groups": [
            {
                key: canonical(value)
                for key, value in group.items()
                if key not in _SPEED_ONLY | {"params", "param_names"}
            }
            | {"n_parameters": len(group["params"])}
            for group in optimizer.param_groups
        ],
    }


def _monitors(trainer: Trainer, callbacks: Sequence[Callback]) -> bool:
    """Whether training goes by a logged metric."""
    return any(getattr(callback, "monitor", None) is not None for callback in callbacks) or any(
        config.reduce_on_plateau for config in trainer.lr_scheduler_configs
    )


def _describe_draws(sampler: Any) -> dict[str, Any]:
    weights = getattr(sampler, "weights", None)
    return {
        "num_samples": getattr(sampler, "num_samples", None),
        "replacement": getattr(sampler, "replacement", None),
        "weights": None if weights is None else canonical(torch.as_tensor(weights).float()),
    }


def _describe_scheduler(scheduler: Any, with_step_counts: bool) -> dict[str, Any]:
    state = scheduler_settings(scheduler, with_step_counts=with_step_counts)
    inner = [_describe_scheduler(part, with_step_counts) for part in inner_schedulers(scheduler) or ()]
    return {"class": type(scheduler).__name__, "state": canonical(state)} | ({"schedulers": inner} if inner else {})


def _describe_callback(callback: Callback) -> dict[str, Any]:
    """Class and key; of Lightning's own callbacks the arguments too (a user's may hold paths, times or run names)."""
    described = {"class": _name(type(callback)), "key": without_addresses(callback.state_key)}
    if not type(callback).__module__.startswith("lightning."):
        return described
    return described | {"arguments": canonical(arguments_of(callback))}


def _describe_function(function: types.FunctionType) -> Any:
    held = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            content = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        held[name] = _name(content) if isinstance(content, types.FunctionType) else canonical(content)
    defaults = canonical({"defaults": function.__defaults__, **(function.__kwdefaults__ or {})})
    if not held and not any(defaults.values()):
        return _name(function)
    return {"function": _name(function), "held": held, **defaults}


def _shortened(items: list[Any]) -> Any:
    if len(items) <= _LONG:
        return items
    return {"length": len(items), "sha256": hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16]}


def without_addresses(text: str) -> str:
    """``text`` without the memory addresses that a default ``repr`` shows."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"
