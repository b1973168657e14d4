"""Descriptions of a model, its optimisation and its scoring, by which a store knows them again."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader

    from lightning_memaudit.outcomes.scoring import ScoreFunction

__all__ = ["canonical", "describe_model", "describe_optimisation", "describe_scoring", "fixed_weights_digest"]

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


def canonical(value: Any) -> Any:
    """A JSON-ready form of a setting that is the same in every process: no addresses, no device, sorted keys.

    Example:
        >>> canonical({"lr": torch.tensor(0.5), "betas": (0.9, 0.99), "f": len})
        {'betas': [0.9, 0.99], 'f': 'builtins.len', 'lr': 0.5}
    """
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, set | frozenset):
        return sorted((canonical(item) for item in value), key=str)
    if isinstance(value, Sequence):
        return [canonical(item) for item in value]
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
        "hparams": canonical(dict(getattr(pl_module, "hparams_initial", {}))),
        "layers": {
            name: module.extra_repr()
            for name, module in pl_module.named_modules()
            if name and not list(module.children())
        },
        "types": {name: type(module).__name__ for name, module in pl_module.named_modules() if name},
        "parameters": {
            name: [*map(int, tensor.shape), str(tensor.dtype), bool(tensor.requires_grad)]
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
        if isinstance(tensor, torch.Tensor) and isinstance(twin, torch.Tensor) and torch.equal(tensor, twin):
            flat = tensor.detach().cpu().contiguous().flatten()
            content.update(name.encode() + flat.view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:32]


def describe_optimisation(
    trainer: Trainer, loader: DataLoader[Any] | None, *, with_step_counts: bool, ignore: tuple[type, ...] = ()
) -> dict[str, Any]:
    """Optimizers, schedulers, loader settings and the Trainer arguments that change what is learned.

    Args:
        trainer: A Trainer whose optimizers were configured (from ``on_fit_start`` on).
        loader: The training loader, if there is one.
        with_step_counts: Whether whole numbers in scheduler states enter. They often derive from the number of steps, which
            differs between models when subsets differ in size.
        ignore: Callback classes that do not change training.
    """
    return {
        "optimizers": [_describe_optimizer(optimizer) for optimizer in trainer.optimizers],
        "schedulers": [_describe_scheduler(config, with_step_counts) for config in trainer.lr_scheduler_configs],
        "trainer": canonical({name: getattr(trainer, name, None) for name in _TRAINER_ARGUMENTS})
        | {"precision": str(trainer.precision)},
        "loader": None
        if loader is None
        else {
            "batch_size": loader.batch_size,
            "drop_last": loader.drop_last,
            "sampler": type(loader.sampler).__name__,
        },
        "callbacks": sorted(
            f"{_name(type(callback))}:{callback.state_key}"
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if not isinstance(callback, ignore)
        ),
    }


def describe_scoring(score_fn: ScoreFunction, splits: Sequence[str]) -> dict[str, Any]:
    """The score function and the splits that it is applied to."""
    return {"score_fn": canonical(score_fn), "splits": list(splits)}


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


def _describe_scheduler(config: Any, with_step_counts: bool) -> dict[str, Any]:
    state = {
        key: value
        for key, value in config.scheduler.state_dict().items()
        if not key.startswith("_") and (with_step_counts or isinstance(value, bool) or not isinstance(value, int))
    }
    return {
        "class": type(config.scheduler).__name__,
        "state": canonical(state),
        "interval": config.interval,
        "frequency": config.frequency,
        "monitor": config.monitor,
    }


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"
