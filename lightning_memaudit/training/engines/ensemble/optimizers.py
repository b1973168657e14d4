"""A user's optimizer, made to step stacked parameters, and clipping per model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn, optim

from lightning_memaudit.compat.torch import has_step_hooks
from lightning_memaudit.training.engines.in_memory.support import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lightning_memaudit.training.engines.ensemble.stack import Stack

__all__ = ["clip_per_model", "step_stacked"]

# Each element of a parameter is updated from that element of its gradient and state alone, and step counts and learning
# rates are those of the group: stacking changes nothing. Not so for Adafactor, LBFGS, Muon, LARS, ...
_ELEMENTWISE = (
    optim.SGD,
    optim.Adam,
    optim.AdamW,
    optim.NAdam,
    optim.RAdam,
    optim.Adamax,
    optim.Adadelta,
    optim.RMSprop,
)
_FUSED = (optim.SGD, optim.Adam, optim.AdamW)


def step_stacked(optimizer: optim.Optimizer, module: nn.Module, stack: Stack, *, may_fuse: bool) -> None:
    """Put stacked parameters in the place of a module's own in its optimizer.

    The groups were made by the user's ``configure_optimizers`` from the module itself, so that rules such as "no decay
    for parameters of one dimension" saw the shapes that they were written for.

    Args:
        optimizer: Has made no step yet.
        module: The module whose parameters it holds.
        stack: Stacked parameters of the same names.
        may_fuse: Whether the same parameters have gradients in every step, as fused steps need.

    Raises:
        Unsupported: The optimizer is not known to treat every element of a parameter by itself.
    """
    kind = type(optimizer)
    if kind not in _ELEMENTWISE:
        raise Unsupported(f"optimizer {kind.__name__}, which may not treat every element of a parameter by itself")
    if optimizer.state or has_step_hooks(optimizer):
        raise Unsupported(f"optimizer {kind.__name__} with state or hooks before its first step")
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for group in optimizer.param_groups:
        if unknown := [p for p in group["params"] if id(p) not in names]:
            raise Unsupported(f"{len(unknown)} optimized tensors that are not parameters of the module")
        group["params"] = [stack.parameters[names[id(parameter)]] for parameter in group["params"]]
        plain = not any(group.get(option) for option in ("foreach", "differentiable", "capturable"))
        free = group.get("fused") is None and plain and _all_float(group["params"])
        if may_fuse and kind in _FUSED and free:
            group["fused"] = True


def clip_per_model(parameters: Iterable[nn.Parameter], value: float | None, algorithm: str | None) -> None:
    """Clip gradients ``[K, ...]`` as Lightning clips those of each model by itself.

    Args:
        parameters: Stacked parameters.
        value: ``gradient_clip_val``; None or not above 0 clips nothing.
        algorithm: ``"norm"`` (over all parameters of a model, as ``torch.nn.utils.clip_grad_norm_``) or ``"value"``.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not value or value <= 0 or not gradients:
        return
    if algorithm == "value":
        for gradient in gradients:
            gradient.clamp_(-value, value)
        return
    norms = torch.stack(
        [torch.linalg.vector_norm(gradient.reshape(len(gradient), -1), dim=1) for gradient in gradients]
    )
    factor = (value / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


def _all_float(parameters: list[nn.Parameter]) -> bool:
    return all(parameter.is_floating_point() for parameter in parameters)
