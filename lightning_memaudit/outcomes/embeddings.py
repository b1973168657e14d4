"""What a layer of a module gives for each example."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import nn

from lightning_memaudit.data.source import DataSource
from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.outcomes.fields import find_input

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from lightning.pytorch import LightningDataModule, LightningModule

__all__ = ["embed"]


def embed(
    pl_module: LightningModule,
    datamodule: LightningDataModule,
    *,
    layer: str | None = None,
    inputs: str | int | None = None,
    seed: int = 0,
) -> dict[str, npt.NDArray[np.float32]]:
    """Embeddings of every example of every split, in the order in which an audit numbers them.

    Args:
        pl_module: A trained module; it is left as it is.
        datamodule: That of the audit.
        layer: Name of the layer whose output is taken, as in ``pl_module.named_modules()``; None takes what goes into
            the last linear layer that ``forward`` calls, which is the penultimate layer of a classifier.
        inputs: Key or position of the inputs in a batch; None looks for the usual names.
        seed: Seed of the audit, under which the data are set up.

    Returns:
        By split, float32[n, d]; whatever the layer gives for an example is flattened.

    Raises:
        ArgumentError: There is no such layer, or no linear one; the message lists what there is.
        UnsupportedDataError: The layer gives no tensor with one row an example.

    Example:
        ``groups = {"kind": by_cluster(embed(trained, MyDataModule()))}``
    """
    source = DataSource(datamodule, seed=seed)
    source.prepare_data()
    modes = [(module, module.training) for module in pl_module.modules()]
    pl_module.eval()
    try:
        with torch.no_grad(), _watched(pl_module, layer) as seen:
            return {split: _of_split(pl_module, loader, seen, inputs) for split, loader in _loaders(source).items()}
    finally:
        for module, mode in modes:
            module.training = mode


def _loaders(source: DataSource) -> dict[str, Any]:
    source.setup("fit")
    return dict(source.scoring_loaders())


def _of_split(
    pl_module: LightningModule, loader: Any, seen: list[torch.Tensor], inputs: str | int | None
) -> npt.NDArray[np.float32]:
    rows = []
    for batch in loader:
        seen.clear()
        given = find_input(batch, inputs)
        pl_module(move_data_to_device(given, pl_module.device))
        if not seen:
            raise UnsupportedDataError("layer: forward does not call it; name one that it calls")
        found, size = seen[-1], len(given)
        if found.ndim == 0 or len(found) != size:
            raise UnsupportedDataError(
                f"layer: it gives a tensor of shape {list(found.shape)} for a batch of {size} examples; name one that "
                "gives a row an example"
            )
        rows.append(found.reshape(size, -1).float().cpu().numpy())
    return np.concatenate(rows)


@contextmanager
def _watched(pl_module: LightningModule, layer: str | None) -> Iterator[list[torch.Tensor]]:
    """A list to which each call of a layer adds its tensor."""
    seen: list[torch.Tensor] = []
    modules = {name: module for name, module in pl_module.named_modules() if name}
    if layer is None:
        linear = [module for module in modules.values() if isinstance(module, nn.Linear)]
        if not linear:
            raise ArgumentError(f"layer=None: the module has no linear layer; name one of {_listed(modules)}")
        hooks = [module.register_forward_pre_hook(lambda _, given: _add(seen, given)) for module in linear]
    else:
        if layer not in modules:
            raise argument_error("layer", layer, f"the module has no such layer; there is {_listed(modules)}")
        hooks = [modules[layer].register_forward_hook(lambda _, __, output: _add(seen, output))]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _add(seen: list[torch.Tensor], value: Any) -> None:
    first = next((part for part in (value if isinstance(value, tuple | list) else (value,)) if part is not None), None)
    if not isinstance(first, torch.Tensor):
        raise UnsupportedDataError(f"layer: it gives a {type(value).__name__} and no tensor; name another layer")
    seen.append(first.detach())


def _listed(modules: dict[str, nn.Module]) -> str:
    names = list(modules)
    return ", ".join(names[:30]) + (", ..." if len(names) > 30 else "") or "none"
