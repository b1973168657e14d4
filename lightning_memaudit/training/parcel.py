"""A population packed for other processes: the user's factories by value, large arrays in a file that is mapped."""

from __future__ import annotations

import io
import json
import mmap
import os
import pickle
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import torch

from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lightning_memaudit.training.task import Recipe

__all__ = ["NotSentError", "Parcel", "import_path", "pack", "unpack"]

_LARGE = 2**16
_OBJECT, _BUFFERS, _INDEX, _ROWS = "object.pkl", "buffers.bin", "index.json", "rows.pt"


class NotSentError(ConfigurationError):
    """The user's objects cannot be pickled."""


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """What a worker needs to train models of a population.

    Attributes:
        recipe: The recipe, with the user's factories.
        plan: ``SubsetPlan.to_dict()``.
        store: URL of the store.
        choice: ``Choice.to_dict()``.
        notes: For the manifest.
        path: Where modules are imported from.
    """

    recipe: Recipe
    plan: Mapping[str, Any]
    store: str
    choice: Mapping[str, Any]
    notes: Sequence[str]
    path: tuple[str, ...]


def pack(parcel: Parcel, folder: Path, *, rows: TensorRows | None) -> None:
    """Write a parcel into a folder.

    Functions and classes of a script, a notebook or standard input travel by value, as do lambdas. Tensors and arrays
    of more than 64 kB go to a file of their own, which all workers map, so that they are in memory once.

    Args:
        parcel: What to pack.
        folder: Where to.
        rows: Training examples in memory, for all workers.

    Raises:
        NotSentError: The user's objects cannot be pickled; the message says which.
    """
    buffers: list[pickle.PickleBuffer] = []
    content = io.BytesIO()
    try:
        _Pickler(content, buffer_callback=buffers.append).dump(parcel)
    except Exception as error:  # whatever the user's objects raise when they are pickled
        raise NotSentError(
            f"executor: model, data, trainer or score_fn cannot be sent to other processes ({type(error).__name__}: "
            f"{error}); build what cannot be pickled inside the callable, or take executor='ensemble' or 'sequential'"
        ) from error
    sizes = []
    with (folder / _BUFFERS).open("wb") as file:
        for buffer in buffers:
            raw = buffer.raw()
            file.write(raw)
            file.write(b"\0" * (-len(raw) % 64))
            sizes.append(len(raw))
    (folder / _OBJECT).write_bytes(content.getvalue())
    (folder / _INDEX).write_text(json.dumps({"sizes": sizes, "path": list(parcel.path)}))
    if rows is not None:
        rows.save(folder / _ROWS)


def unpack(folder: Path) -> tuple[Parcel, TensorRows | None]:
    """Read a parcel; large arrays are mapped, and written to only in this process."""
    index = json.loads((folder / _INDEX).read_text())
    sys.path[:] = list(dict.fromkeys([*index["path"], *sys.path]))
    buffers: list[memoryview] = []
    if index["sizes"]:
        with (folder / _BUFFERS).open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        start = 0
        for size in index["sizes"]:
            buffers.append(whole[start : start + size])
            start += size + -size % 64
    parcel: Parcel = pickle.loads((folder / _OBJECT).read_bytes(), buffers=buffers)  # noqa: S301 - our own parent wrote it
    rows = folder / _ROWS
    return parcel, TensorRows.load(rows) if rows.exists() else None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, with large tensors out of band as numpy arrays are."""

    def __init__(self, file: io.BytesIO, *, buffer_callback: Any) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is torch.Tensor and _is_plain(obj):
            return torch.from_numpy, (obj.numpy(),)
        return super().reducer_override(obj)


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not tensor.requires_grad
        and tensor.nbytes >= _LARGE
        and tensor.is_contiguous()
        and tensor.dtype is not torch.bfloat16
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def import_path() -> tuple[str, ...]:
    """Where this process imports modules from."""
    return tuple(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 - what "" means in sys.path
