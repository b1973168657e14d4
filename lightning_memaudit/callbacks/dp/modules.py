"""Which layers DP-SGD can train, and what takes the place of those that it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.parameter import is_lazy

from lightning_memaudit.compat.opacus import module_validators
from lightning_memaudit.compat.torch import batch_norms, instance_norms
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_module", "fix_module"]

_BATCH_NORMS, _INSTANCE_NORMS = batch_norms(), instance_norms()
_WAYS_OUT: dict[tuple[type[nn.Module], ...], str] = {
    _BATCH_NORMS: (
        "makes the output for an example depend on the others: use GroupNorm, which "
        "DifferentialPrivacy(fix_modules=True) puts in, and a baseline that has it too; or freeze it with eval() and "
        "requires_grad_(False)"
    ),
    _INSTANCE_NORMS: "keeps statistics of the data: set track_running_stats=False",
    (nn.Module,): (
        "has no per-example gradients: use Opacus's own layer, which DifferentialPrivacy(fix_modules=True) puts in, "
        "and a baseline that has it too; or freeze it with requires_grad_(False)"
    ),
}


def check_module(module: nn.Module) -> None:
    """Refuse layers that mix the examples of a batch, or that Opacus has no per-example gradients for.

    Args:
        module: The whole module.

    Raises:
        ConfigurationError: There are such layers; all are named, with the way out.
    """
    faults = [f"{name or 'LightningModule'!r} ({type(layer).__name__}) {why}" for name, layer, why in _faults(module)]
    if faults:
        raise ConfigurationError("layers that cannot be trained with differential privacy: " + "; ".join(faults))


def fix_module(module: nn.Module) -> list[str]:
    """Replace in place the layers that ``check_module`` refuses and Opacus has another of.

    Args:
        module: The whole module, before its optimizer is built.

    Returns:
        What was replaced by what.
    """
    made: dict[nn.Module, nn.Module] = {}
    fixers = module_validators().fixers
    fixed = []
    for parent_name, parent in list(module.named_modules()):
        for child_name, child in list(parent.named_children()):
            if type(child) not in fixers or not _is_at_fault(child):
                continue
            if child not in made:
                weight = next(child.parameters(), None)
                # Opacus's 32 groups leave one feature to a group where there are no more: nothing but its bias goes on.
                options = {"num_groups": 1} if isinstance(child, nn.BatchNorm1d) else {}
                made[child] = fixers[type(child)](child, **options)
                made[child].train(child.training)
                if weight is not None:
                    made[child].to(weight)
                name = f"{parent_name}.{child_name}".lstrip(".")
                fixed.append(f"{name}: {type(child).__name__} by {type(made[child]).__name__}")
            setattr(parent, child_name, made[child])
    return fixed


def _faults(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    for name, layer in module.named_modules():
        if any(is_lazy(parameter) for parameter in layer.parameters(recurse=False)):
            yield name, layer, "has no shape before its first batch: give its sizes"
        elif _is_at_fault(layer):
            kinds = (kind for kind in _WAYS_OUT if isinstance(layer, kind))
            yield name, layer, _WAYS_OUT[next(kinds)]


def _is_at_fault(layer: nn.Module) -> bool:
    trained = any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    if isinstance(layer, _BATCH_NORMS):
        return bool(trained or layer.training or not layer.track_running_stats)
    if isinstance(layer, _INSTANCE_NORMS):
        return bool(layer.track_running_stats and (trained or layer.training))
    return trained and type(layer) in module_validators().refused
