"""The parameters and buffers of several modules, stacked along a first dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from lightning_memaudit.training.engines.in_memory.support import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Stack"]


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """K modules of one architecture.

    Attributes:
        parameters: By name, ``[K, ...]``; those that are trained are leaves that an optimizer can step.
        buffers: By name, ``[K, ...]``.
    """

    parameters: dict[str, nn.Parameter]
    buffers: dict[str, torch.Tensor]

    @classmethod
    def of(cls, modules: Sequence[nn.Module], device: torch.device) -> Stack:
        """Stack copies of the parameters and buffers of ``modules``.

        Raises:
            Unsupported: They are not all of one architecture, or train other parameters.
        """
        first = modules[0]
        if any(_tensors(module) != _tensors(first) for module in modules[1:]):
            raise Unsupported("models of different shapes")
        parameters = {
            name: nn.Parameter(
                torch.stack([module.get_parameter(name).detach() for module in modules]).to(device),
                requires_grad=parameter.requires_grad,
            )
            for name, parameter in first.named_parameters()
        }
        buffers = {
            name: torch.stack([module.get_buffer(name).detach() for module in modules]).to(device)
            for name, _ in first.named_buffers()
        }
        return cls(parameters, buffers)

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that have gradients."""
        return {name: parameter for name, parameter in self.parameters.items() if parameter.requires_grad}

    @property
    def fixed(self) -> dict[str, torch.Tensor]:
        """The parameters that have none."""
        return {name: parameter.detach() for name, parameter in self.parameters.items() if not parameter.requires_grad}

    def member(self, index: int) -> dict[str, torch.Tensor]:
        """Parameters and buffers of one module, by name."""
        return {name: tensor[index].detach() for name, tensor in (self.parameters | self.buffers).items()}


def _tensors(module: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype, bool]]:
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: (tensor.shape, tensor.dtype, tensor.requires_grad) for name, tensor in tensors.items()}
