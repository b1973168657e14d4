"""Magnitude pruning of a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from lightning_memaudit.callbacks.held_at_zero import HeldAtZero
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.treatments.base import Treatment, detached_copy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning.pytorch import Callback, LightningModule

    from lightning_memaudit.treatments.base import Regime

__all__ = ["Prune"]

_PRUNED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Prune(Treatment):
    """Sets the weights of least magnitude to zero, in a copy of the trained baseline model, and trains it on if asked.

    Weights of linear and convolution layers are pruned; biases, norms and embeddings stay. The sparsity is exact:
    ``round(amount × n)`` of n weights (or output units), the first of equal ones. With ``finetune_epochs`` the pruned
    copy is trained on its own subset, as the baseline was, with the pruned weights held at zero.

    Args:
        amount: Share of the weights (of the output units, if ``structured``), in (0, 1).
        scope: ``"global"`` compares weights of all layers, ``"layer"`` prunes the share in each of them.
        structured: Prune whole output units by the L2 norm of their weights; only with ``scope="layer"``, since norms
            of layers of different width do not compare. The last such layer is left whole: its units are the classes.
        finetune_epochs: Epochs that the pruned copy is trained; 0 for none.
        name: The arm's name; empty makes one of the amount.

    Raises:
        ArgumentError: ``amount`` outside (0, 1), an unknown scope, structured pruning over all layers, or
            ``finetune_epochs`` that are no number of epochs.

    Example:
        >>> Prune(0.9).name
        'prune-0.9'
    """

    amount: float
    scope: Literal["global", "layer"] = "global"
    structured: bool = False
    finetune_epochs: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.amount, float | np.floating) or not 0 < self.amount < 1:
            raise argument_error("amount", self.amount, "a share of the weights in (0, 1) is needed, such as 0.9")
        if self.scope not in ("global", "layer"):
            raise argument_error("scope", self.scope, "one of 'global', 'layer' is needed")
        if self.structured and self.scope == "global":
            raise argument_error(
                "scope", self.scope, "'layer' is needed with structured=True: norms of layers of different width differ"
            )
        epochs = self.finetune_epochs
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
            raise argument_error("finetune_epochs", epochs, "a number of epochs is needed, 0 for none")
        if not self.name:
            ending = "-structured" * self.structured + f"-finetune{epochs}" * bool(epochs)
            object.__setattr__(self, "name", f"prune-{self.amount:g}{ending}")

    @property
    def trains(self) -> bool:
        """Whether the pruned copy is trained on."""
        return self.finetune_epochs > 0

    def trainer_arguments(self, regime: Regime) -> Mapping[str, Any]:
        """Epochs of the training that follows."""
        del regime
        return {"max_epochs": self.finetune_epochs} if self.trains else {}

    def callbacks(self, regime: Regime) -> Sequence[Callback]:
        """Prunes before the first step, and keeps it so."""
        del regime
        return (HeldAtZero(self._pruned),) if self.trains else ()

    def transform(self, pl_module: LightningModule) -> LightningModule:
        """A pruned copy; the module itself where it was pruned before it was trained on.

        Raises:
            ConfigurationError: There is nothing to prune, the amount is none or all of the weights, or a layer computes
                its weight from other parameters in a way that cannot be undone.
        """
        if self.trains:
            return pl_module
        pruned = detached_copy(pl_module)
        for layer in pruned.modules():
            if isinstance(layer, _PRUNED) and parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        with torch.no_grad():
            for weight, mask in self._pruned(pruned):
                weight.masked_fill_(mask, 0.0)
        return pruned

    def _pruned(self, module: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The weights of a module, each with a mask of those that go."""
        layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _PRUNED)}
        for name, layer in layers.items():
            if not isinstance(layer.weight, nn.Parameter):
                raise ConfigurationError(
                    f"{self.name}: layer {name!r} ({type(layer).__name__}) computes its weight from other parameters "
                    "(weight or spectral norm), where zeros cannot be held"
                    + ("; use finetune_epochs=0" if self.trains else "")
                )
        weights = [layer.weight for layer in layers.values()]
        weights = list({id(weight): weight for weight in (weights[:-1] if self.structured else weights)}.values())
        if not weights:
            raise ConfigurationError(
                f"{self.name}: {type(module).__name__} has no {'inner ' if self.structured else ''}Linear or Conv "
                "layer to prune"
            )
        with torch.no_grad():
            if self.scope == "global":
                masks = _least(weights, self.amount)
            elif self.structured:
                masks = [_least_units(weight, self.amount) for weight in weights]
            else:
                masks = [_least([weight], self.amount)[0] for weight in weights]
        n_weights, n_zeros = (sum(int(part.sum()) for part in parts) for parts in ([m >= 0 for m in masks], masks))
        if not 0 < n_zeros < n_weights:
            raise ConfigurationError(
                f"{self.name}: amount={self.amount!r} of {n_weights} weights is {n_zeros}, which prunes "
                f"{'all' if n_zeros else 'none'} of them; choose an amount that leaves some and takes some"
            )
        return list(zip(weights, masks, strict=True))


def _least(weights: Sequence[torch.Tensor], amount: float) -> list[torch.Tensor]:
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
    least = torch.zeros(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
    least[magnitudes.argsort(stable=True)[: round(amount * len(magnitudes))]] = True
    parts = torch.split(least, [weight.numel() for weight in weights])
    return [part.view_as(weight) for weight, part in zip(weights, parts, strict=True)]


def _least_units(weight: torch.Tensor, amount: float) -> torch.Tensor:
    norms = weight.flatten(1).norm(dim=1)
    least = torch.zeros_like(weight, dtype=torch.bool)
    least[norms.argsort(stable=True)[: round(amount * len(norms))]] = True
    return least
