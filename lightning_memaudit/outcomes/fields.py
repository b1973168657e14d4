"""Finding inputs and targets in a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lightning_memaudit.exceptions import UnsupportedDataError

__all__ = ["find_input", "find_target"]

_INPUT_NAMES = ("input", "inputs", "x", "image", "images", "features", "pixel_values", "input_ids")
_TARGET_NAMES = ("label", "labels", "y", "target", "targets")


def find_input(batch: Any, key: str | int | None = None) -> Any:
    """The inputs of a batch: entry 0 of a tuple, or the usual names of a mapping, or ``key``.

    Raises:
        UnsupportedDataError: Nothing of that name is there; the message lists what is.
    """
    return _find(batch, key, 0, _INPUT_NAMES, "inputs")


def find_target(batch: Any, key: str | int | None = None) -> torch.Tensor:
    """The targets of a batch: entry 1 of a tuple, or the usual names of a mapping, or ``key``.

    Raises:
        UnsupportedDataError: Nothing of that name is there; the message lists what is.
    """
    target = _find(batch, key, 1, _TARGET_NAMES, "target")
    try:
        return target if isinstance(target, torch.Tensor) else torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnsupportedDataError(
            f"the target of a batch is a {type(target).__name__} that is no tensor of numbers ({error}); let the "
            "collate_fn make one, or pass score_fn=f with f(pl_module, batch) -> ExampleScores"
        ) from error


def _find(batch: Any, key: str | int | None, position: int, names: tuple[str, ...], what: str) -> Any:
    if isinstance(batch, Mapping):
        found = [name for name in ((key,) if key is not None else names) if name in batch]
        if found:
            return batch[found[0]]
        wanted = repr(key) if key is not None else "/".join(names)
        raise UnsupportedDataError(
            f"no {what} in the batch: looked for {wanted}, and its keys are {', '.join(map(repr, batch))}; name the "
            f"right one with a score function such as scoring.Multiclass({what}='...')"
        )
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        index = position if key is None else key
        if isinstance(index, int) and -len(batch) <= index < len(batch):
            return batch[index]
        raise UnsupportedDataError(
            f"no {what} in the batch: it is a {type(batch).__name__} of {len(batch)}, and entry {index!r} was looked "
            "for; pass score_fn=f with f(pl_module, batch) -> ExampleScores for batches of another form"
        )
    raise UnsupportedDataError(
        f"no {what} in the batch, which is a {type(batch).__name__}; tuples (inputs, target, ...) and mappings are "
        "known, for others pass score_fn=f with f(pl_module, batch) -> ExampleScores"
    )
