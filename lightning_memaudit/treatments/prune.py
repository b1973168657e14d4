"""Magnitude pruning of a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.treatments.base import Treatment
from lightning_memaudit.treatments.detached import detached_copy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import LightningModule

__all__ = ["Prune"]

_PRUNED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Prune(Treatment):
    """Sets the weights of least magnitude to zero, in a copy of the trained baseline model.

    Weights of linear and convolution layers are pruned; biases, norms and embeddings stay. The sparsity is exact:
    ``round(amount × n)`` of n weights (or output units), the first of equal ones.

    Args:
        amount: Share of the weights (of the output units, if ``structured``), in (0, 1).
        scope: ``"global"`` compares weights of all layers, ``"layer"`` prunes the share in each of them.
        structured: Prune whole output units by the L2 norm of their weights; only with ``scope="layer"``, since norms
            of layers of different width do not compare. The last such layer is left whole: its units are the classes.
        name: The arm's name; None makes one of the amount.

    Raises:
        ArgumentError: ``amount`` outside (0, 1), an unknown scope, or structured pruning over all layers.

    Example:
        >>> Prune(0.9).name
        'prune-0.9'
    """

    amount: float
    scope: Literal["global", "layer"] = "global"
    structured: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.amount < 1:
            raise ArgumentError(f"amount={self.amount!r}: a share of the weights in (0, 1) is needed, such as 0.9")
        if self.scope not in ("global", "layer"):
            raise ArgumentError(f"scope={self.scope!r}: 'global' or 'layer'")
        if self.structured and self.scope == "global":
            raise ArgumentError("structured=True goes with scope='layer': norms of layers of different width differ")
        if not self.name:
            object.__setattr__(self, "name", f"prune-{self.amount:g}{'-structured' if self.structured else ''}")

    def transform(self, pl_module: LightningModule) -> LightningModule:
        """A pruned copy.

        Raises:
            ConfigurationError: There is nothing to prune.
        """
        pruned = detached_copy(pl_module)
        weights = [module.weight for module in pruned.modules() if isinstance(module, _PRUNED)]
        if self.structured:
            weights = weights[:-1]
        weights = list({id(weight): weight for weight in weights}.values())
        if not weights:
            raise ConfigurationError(
                f"{self.name}: {type(pl_module).__name__} has no {'inner ' if self.structured else ''}Linear or Conv "
                "layer to prune"
            )
        with torch.no_grad():
            if self.scope == "global":
                _zero_least(weights, self.amount)
            else:
                for weight in weights:
                    _zero_units(weight, self.amount) if self.structured else _zero_least([weight], self.amount)
        return pruned


def _zero_least(weights: Sequence[torch.Tensor], amount: float) -> None:
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
    n_zero = round(amount * len(magnitudes))
    dropped = torch.zeros(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
    dropped[magnitudes.argsort(stable=True)[:n_zero]] = True
    for weight, part in zip(weights, torch.split(dropped, [weight.numel() for weight in weights]), strict=True):
        weight.masked_fill_(part.view_as(weight), 0.0)


def _zero_units(weight: torch.Tensor, amount: float) -> None:
    norms = weight.flatten(1).norm(dim=1)
    weight[norms.argsort(stable=True)[: round(amount * len(norms))]] = 0.0
