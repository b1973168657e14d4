"""Starts a fit from the weights of a trained model, and ends it where there is nothing to train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn.parameter import is_lazy

from lightning_memaudit.callbacks.passive import InternalCallback
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from lightning.pytorch import LightningModule, Trainer
    from torch import nn

__all__ = ["TrainedWeights", "load_tensors", "tensors_of"]


def tensors_of(module: nn.Module) -> dict[str, Any]:
    """Parameters and buffers by name, those that a ``state_dict`` leaves out too.

    Raises:
        ConfigurationError: The module keeps other state.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    aliases = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    aliases |= {name for name, _ in module.named_buffers(remove_duplicate=False)}
    if other := sorted(set(module.state_dict()) - aliases):
        raise ConfigurationError(
            f"{type(module).__name__} keeps state that is neither parameter nor buffer ({other[0]}), so that its "
            "trained models cannot be kept; treatments that act on trained models do not go with it"
        )
    return {name: tensor.detach() for name, tensor in tensors.items()}


def load_tensors(module: nn.Module, tensors: Mapping[str, Any]) -> None:
    """Put back what ``tensors_of`` took, into a module of the same architecture.

    Raises:
        ConfigurationError: The module has no place for one of the tensors, or has others.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    try:
        for name in set(tensors) - parameters:
            _load_buffer(module, name, tensors[name])
    except (AttributeError, KeyError) as error:
        raise ConfigurationError(
            f"{type(module).__name__} gets {name!r} only in training, so that a trained model cannot be rebuilt; "
            "build it in __init__, or leave out treatments that act on trained models"
        ) from error
    module.load_state_dict({name: tensors[name] for name in parameters & set(tensors)}, strict=False)
    if missing := sorted({name for name, _ in module.named_parameters()} - set(tensors)):
        raise ConfigurationError(
            f"{type(module).__name__} has a parameter {missing[0]!r} that the trained model did not have; build the "
            "same parameters each time"
        )


def _load_buffer(module: nn.Module, name: str, saved: torch.Tensor) -> None:
    parent, _, own = name.rpartition(".")
    holder = module.get_submodule(parent)
    present = dict(holder.named_buffers(recurse=False, remove_duplicate=False)).get(own)
    is_empty = own not in vars(holder) and getattr(holder, own, saved) is None
    if present is None and not is_empty:
        holder.register_buffer(own, None)
    if present is None or is_lazy(present) or present.shape != saved.shape:  # as trained: made or grown on the way
        device = saved.device if present is None else present.device
        setattr(holder, own, saved.clone().to(device))
    else:
        present.copy_(saved)


class TrainedWeights(InternalCallback):
    """Starts a fit from the weights of a trained model.

    Args:
        tensors: What ``tensors_of`` took from it.
        goes_on: Train on from there; else nothing is trained, and recorders that come after find the trained model.
    """

    def __init__(self, tensors: Mapping[str, Any], *, goes_on: bool = False) -> None:
        self.tensors = tensors
        self.goes_on = goes_on

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the weights to go on from."""
        if self.goes_on:
            load_tensors(pl_module, self.tensors)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the Trainer with nothing to do."""
        if not self.goes_on:
            trainer.fit_loop.epoch_loop.max_steps = trainer.global_step

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the weights as they were at this point, after what the module itself does at the end of training."""
        if not self.goes_on:
            load_tensors(pl_module, self.tensors)
