"""Fresh modules, data modules and Trainers out of whatever the user handed over."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.trainer.states import TrainerStatus

from lightning_memaudit.callbacks.passive import PASSIVE_CALLBACKS
from lightning_memaudit.data.source import check_datamodule
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError

__all__ = ["Init", "TrainerRecipe", "as_given", "data_factory", "model_factory", "trainer_recipe"]

Init = Literal["rebuild", "copy"]

_OURS: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
    "num_sanity_val_steps": 0,
}
_WHY = {
    "logger": "subset models do not log",
    "enable_checkpointing": "weights at the end of training are scored, not those of a checkpoint",
    "devices": "each model trains on one device",
    "num_nodes": "each model trains on one device",
    "strategy": "each model trains on one device",
}
_REFUSED = {
    "fast_dev_run": "it trains on one batch",
    "overfit_batches": "it trains on a handful of batches",
    "barebones": "it leaves out callbacks, which record the outcomes",
    "max_time": "how far a model gets would depend on how busy the machine is; use max_epochs or max_steps",
}


@dataclass(frozen=True, slots=True)
class TrainerRecipe:
    """How to make the Trainer of each model.

    Attributes:
        make: ``make(extra=callbacks, validate=bool, changes=arguments) -> Trainer``; ``changes`` is optional.
        notes: What was left out of the user's arguments, and why.
    """

    make: Callable[..., Trainer]
    notes: tuple[str, ...]


def model_factory(model: Any, init: Init | None) -> Callable[[], LightningModule]:
    """A callable that gives a fresh module each time.

    Raises:
        ArgumentError: Neither a module nor a callable; an instance without ``init``, or a callable with one.
        ConfigurationError: ``init="rebuild"`` of a module that its ``hparams`` do not rebuild.
    """
    if isinstance(model, torch.nn.Module):
        model = _check_module(model)
        if init == "copy":
            return partial(_copied, copy.deepcopy(model))
        if init == "rebuild":
            return _rebuilder(model)
        raise ArgumentError(
            f"init={init!r}: with an instance of {type(model).__name__}, 'rebuild' is needed (each model starts anew "
            "from its hparams; weights loaded after construction are not kept), or 'copy' (from its present weights, "
            "fine-tuning). Or pass a callable such as lambda: Net(width=64)"
        )
    if not callable(model):
        raise ArgumentError(
            f"model={model!r}: a callable that returns a LightningModule is needed, or a LightningModule with init="
        )
    if init is not None:
        raise ArgumentError(f"init={init!r}: None is needed with a callable, which says itself how each model starts")
    return partial(_built, model)


def data_factory(data: Any) -> Callable[[], LightningDataModule]:
    """A callable that gives the data module.

    Raises:
        ArgumentError: Neither a data module nor a callable.
    """
    if isinstance(data, LightningDataModule) or not callable(data):
        check_datamodule(data)
        return partial(_same, data)
    return data  # type: ignore[no-any-return]


def as_given(data: Callable[[], LightningDataModule]) -> Callable[[], LightningDataModule]:
    """A data factory that gives an instance as it is now, whatever is set up in it later; others are as they are."""
    if isinstance(data, partial) and data.func is _same:
        twin = copy.copy(data.args[0])
        twin.trainer = None
        return partial(_same, twin)
    return data


def trainer_recipe(trainer: Mapping[str, Any] | Callable[[], Trainer] | None) -> TrainerRecipe:
    """How to make Trainers from a mapping of arguments or a callable.

    Raises:
        ArgumentError: Something else, or an argument that does not go with an audit.
    """
    if trainer is None:
        trainer = {}
    if isinstance(trainer, Trainer):
        raise ArgumentError(
            "trainer=Trainer(...): arguments as a mapping are needed, or a callable; a Trainer is used up by one fit"
        )
    if callable(trainer):
        return TrainerRecipe(partial(_called, trainer), ())
    if not isinstance(trainer, Mapping):
        raise ArgumentError(
            f"trainer={trainer!r}: a mapping of Trainer arguments is needed, or a callable that returns a Trainer"
        )
    for name, reason in _REFUSED.items():
        if trainer.get(name):
            raise ArgumentError(f"trainer[{name!r}]={trainer[name]!r}: {reason}; leave it out of an audit")
    arguments = dict(trainer)
    callbacks = arguments.pop("callbacks", None) or []
    callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
    kept = [callback for callback in callbacks if not isinstance(callback, PASSIVE_CALLBACKS)]
    for callback in kept:
        if isinstance(callback, BatchSizeFinder | LearningRateFinder):
            raise ArgumentError(
                f"trainer['callbacks']=[{type(callback).__name__}(...)]: the value that it finds is needed as a fixed "
                "argument, since it would give every model another recipe"
            )
    return TrainerRecipe(partial(_made, arguments, kept), _left_out(arguments, callbacks, kept))


def _left_out(arguments: Mapping[str, Any], callbacks: list[Callback], kept: list[Callback]) -> tuple[str, ...]:
    harmless = {
        "logger": (False, None),
        "enable_checkpointing": (False, None),
        "strategy": ("auto",),
        "devices": (1, "auto"),
        "num_nodes": (1,),
    }
    notes = [
        f"Trainer argument {name}={_short(arguments[name])} left out: {_WHY[name]}"
        for name, quiet in harmless.items()
        if name in arguments and not any(arguments[name] is value or arguments[name] == value for value in quiet)
    ]
    notes += [
        f"callback {type(callback).__name__} left out: it does not change training"
        for callback in callbacks
        if callback not in kept
    ]
    return tuple(notes)


def _made(
    arguments: Mapping[str, Any],
    callbacks: list[Callback],
    *,
    extra: list[Callback],
    validate: bool,
    changes: Mapping[str, Any] | None = None,
) -> Trainer:
    settings = {**arguments, **_OURS, **(changes or {})}
    if not validate:
        settings["limit_val_batches"] = 0
    try:
        return Trainer(**settings, callbacks=[*copy.deepcopy(callbacks), *extra])
    except TypeError as error:
        raise ArgumentError(f"trainer={{{_short(list(arguments))[1:-1]}}}: {error}") from error


def _called(
    make: Callable[[], Trainer],
    *,
    extra: list[Callback],
    validate: bool,
    changes: Mapping[str, Any] | None = None,
) -> Trainer:
    del validate  # the callable's own settings stand
    trainer = make()
    if not isinstance(trainer, Trainer):
        raise ArgumentError(
            f"trainer={_name_of(make)}: a lightning.pytorch.Trainer is needed, and it returned a "
            f"{type(trainer).__name__}"
        )
    if trainer.state.status != TrainerStatus.INITIALIZING:
        raise ArgumentError(
            f"trainer={_name_of(make)}: a new Trainer is needed each time, and it returned one that was used before"
        )
    for name, value in (changes or {}).items():
        if name != "max_epochs":
            raise ArgumentError(
                f"trainer={_name_of(make)}: arguments as a mapping are needed, since a treatment changes {name}, which "
                "a callable fixes"
            )
        trainer.fit_loop.max_epochs = value
    trainer.callbacks.extend(extra)  # type: ignore[attr-defined]
    return trainer


def _built(make: Callable[[], Any]) -> LightningModule:
    return _check_module(make())


def _copied(model: LightningModule) -> LightningModule:
    return copy.deepcopy(model)


def _same(data: LightningDataModule) -> LightningDataModule:
    return data


def _rebuilder(model: LightningModule) -> Callable[[], LightningModule]:
    make = partial(type(model), **dict(model.hparams))
    try:
        twin = make()
    except Exception as error:
        raise ConfigurationError(
            f"init='rebuild': {type(model).__name__}(**hparams) failed ({type(error).__name__}: {error}); call "
            "self.save_hyperparameters() in its __init__, or pass a callable such as lambda: Net(width=64)"
        ) from error
    shapes, rebuilt = ({name: tensor.shape for name, tensor in m.named_parameters()} for m in (model, twin))
    if shapes != rebuilt:
        odd = sorted(name for name in {*shapes, *rebuilt} if shapes.get(name) != rebuilt.get(name))
        raise ConfigurationError(
            f"init='rebuild': {type(model).__name__}(**hparams) has other parameters than the instance ({odd[0]}); "
            "save every argument with self.save_hyperparameters(), or pass a callable"
        )
    return partial(_built, make)


def _check_module(model: object) -> LightningModule:
    if isinstance(model, LightningModule):
        return model
    if any(base.__module__.startswith("pytorch_lightning.") for base in type(model).__mro__):
        raise ArgumentError(
            f"model={type(model).__name__}: a LightningModule of lightning.pytorch is needed, and this one comes from "
            "the package pytorch_lightning (the two do not mix)"
        )
    raise ArgumentError(f"model={type(model).__name__}: a lightning.pytorch.LightningModule is needed")


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | list) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def _name_of(make: Any) -> str:
    return str(getattr(make, "__qualname__", type(make).__name__))
