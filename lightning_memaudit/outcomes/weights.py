"""Trained weights, where an audit keeps them."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch

from lightning_memaudit.exceptions import CorruptShardError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.outcomes.storage import Storage

__all__ = ["read_weights", "weights_path", "write_weights"]


def weights_path(arm: str, model_id: int) -> str:
    """The file of the weights of a model of an arm.

    Example:
        >>> weights_path("baseline", 7)
        'weights/baseline/000007.pt'
    """
    return f"weights/{arm}/{model_id:06d}.pt"


def write_weights(storage: Storage, arm: str, model_id: int, state: Mapping[str, Any]) -> None:
    """Keep a ``state_dict``, its tensors on the CPU."""
    file = BytesIO()
    torch.save({name: _on_cpu(value) for name, value in state.items()}, file)
    storage.write(weights_path(arm, model_id), file.getvalue())


def read_weights(storage: Storage, arm: str, model_id: int) -> dict[str, Any] | None:
    """The ``state_dict`` of a trained model, or None where it was not kept.

    Raises:
        CorruptShardError: The file is damaged.
    """
    path = weights_path(arm, model_id)
    content = storage.read(path)
    if content is None:
        return None
    try:
        state: dict[str, Any] = torch.load(BytesIO(content), weights_only=True)
    except Exception as error:  # damaged bytes make zipfile and pickle fail in a dozen ways
        raise CorruptShardError(
            f"store={storage.url!r}: {path} is damaged ({type(error).__name__}); remove it and run again"
        ) from error
    return state


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value
