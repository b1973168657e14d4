"""A run packed for other processes: the user's factories by value, large arrays in a file that is mapped."""

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
import numpy as np
import torch

from lightning_memaudit.data.rows import TensorRows
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lightning_memaudit.training.engines.choice import EngineOptions
    from lightning_memaudit.training.population import Recipe

__all__ = ["NotSentError", "SerializedRun", "import_path", "pack", "unpack"]

_LARGE, _ALIGNMENT = 2**16, 64
_NUMPY_HAS = {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
}
_BY_VALUE = 6  # parts of a class, of which cloudpickle forgets the qualified name
_IN_THIS_PROCESS = "executor='ensemble' or 'sequential'"
_OBJECT, _BUFFERS, _INDEX, _ROWS = "object.pkl", "buffers.bin", "index.json", "rows.pt"


class NotSentError(ConfigurationError):
    """The user's objects cannot be sent to other processes, or not be rebuilt there."""


@dataclass(frozen=True, slots=True, eq=False)
class SerializedRun:
    """What a worker needs to train models of a run.

    Attributes:
        recipe: The recipe, with the user's factories.
        plan: ``SubsetPlan.to_dict()``.
        store: URL of the store.
        choice: ``EngineChoice.to_dict()``.
        damaged: Models whose shard cannot be read, to be trained anew.
        notes: For the manifest.
        path: Where modules are imported from.
        options: What the executor asks of engines.
    """

    recipe: Recipe
    plan: Mapping[str, Any]
    store: str
    choice: Mapping[str, Any]
    damaged: Sequence[int]
    notes: Sequence[str]
    path: tuple[str, ...]
    options: EngineOptions


def pack(serialized: SerializedRun, folder: Path, *, rows: TensorRows | None) -> None:
    """Write a run into a folder.

    Functions and classes of a script, a notebook or standard input travel by value, as do lambdas. Tensors and arrays
    of more than 64 kB go to a file of their own, which all workers map, so that they are in memory once.

    Args:
        serialized: What to pack.
        folder: Where to.
        rows: Training examples in memory, for all workers.

    Raises:
        NotSentError: The user's objects cannot be pickled, or there is no room; the message says which.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        content = _pickled(serialized, buffers)
    except Exception as error:  # whatever the user's objects raise when they are pickled
        raise NotSentError(
            f"executor: {_culprit(serialized.recipe)} cannot be sent to other processes ({type(error).__name__}: "
            f"{error}); build what cannot be pickled inside the callable, or take {_IN_THIS_PROCESS}"
        ) from error
    try:
        sizes = _write_buffers(buffers, folder / _BUFFERS)
        (folder / _OBJECT).write_bytes(content)
        (folder / _INDEX).write_text(json.dumps({"sizes": sizes, "path": list(serialized.path)}))
        if rows is not None:
            rows.save(folder / _ROWS)
    except (OSError, RuntimeError) as error:  # torch.save has its own error for a full disk
        raise NotSentError(
            f"executor: the data for other processes cannot be written to {folder} ({error}); set TMPDIR to a folder "
            f"with more room, or take {_IN_THIS_PROCESS}"
        ) from error


def unpack(folder: Path) -> tuple[SerializedRun, TensorRows | None]:
    """Read a run; large arrays are mapped, and written to only in this process.

    Raises:
        NotSentError: The user's objects cannot be rebuilt here.
    """
    index = json.loads((folder / _INDEX).read_text())
    sys.path[:] = list(dict.fromkeys([*index["path"], *sys.path]))
    buffers = _map_buffers(index["sizes"], folder / _BUFFERS)
    try:
        content = (folder / _OBJECT).read_bytes()
        serialized: SerializedRun = pickle.loads(content, buffers=buffers)  # noqa: S301 - from our parent
    except Exception as error:  # a module that only the parent could import, or whatever the user's classes raise
        raise NotSentError(
            f"executor: model, data, trainer or score_fn cannot be rebuilt in another process ({type(error).__name__}: "
            f"{error}); define them in a module that can be imported there, or take {_IN_THIS_PROCESS}"
        ) from error
    rows = folder / _ROWS
    return serialized, TensorRows.load(rows) if rows.exists() else None


def import_path() -> tuple[str, ...]:
    """Where this process imports modules from."""
    return tuple(os.path.abspath(entry) for entry in sys.path)  # noqa: PTH100 - "" in sys.path is the working directory


def _pickled(thing: Any, buffers: list[pickle.PickleBuffer]) -> bytes:
    content = io.BytesIO()
    _Pickler(content, buffer_callback=buffers.append).dump(thing)
    return content.getvalue()


def _culprit(recipe: Recipe) -> str:
    """Which part of a recipe cannot be pickled."""
    for name in ("model", "data", "trainer", "score_fn", "groups", "eval_dataset", "train_loader_factory"):
        try:
            _pickled(getattr(recipe, name), [])
        except Exception:
            return name
    return "the recipe"


def _write_buffers(buffers: Sequence[pickle.PickleBuffer], path: Path) -> list[int]:
    sizes = []
    with path.open("wb") as file:
        for buffer in buffers:
            raw = buffer.raw()
            file.write(raw)
            file.write(b"\0" * (-len(raw) % _ALIGNMENT))
            sizes.append(len(raw))
    return sizes


def _map_buffers(sizes: Sequence[int], path: Path) -> list[memoryview]:
    buffers: list[memoryview] = []
    whole, start = memoryview(b""), 0
    if any(sizes):
        with path.open("rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    for size in sizes:
        buffers.append(whole[start : start + size])
        start += size + -size % _ALIGNMENT
    return buffers


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, with large tensors out of band as numpy arrays are, mapped files by name, and whole class names."""

    def __init__(self, file: io.BytesIO, *, buffer_callback: Any) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is torch.Tensor and _is_plain(obj):
            return torch.from_numpy, (obj.numpy(),)
        base: Any = getattr(obj, "base", None)  # of a slice it is the array that it was taken from
        if type(obj) is np.memmap and isinstance(base, mmap.mmap) and obj.filename is not None:
            mode = "r+" if obj.mode == "w+" else obj.mode
            order = "F" if obj.flags.fnc else "C"
            return np.memmap, (obj.filename, obj.dtype, mode, obj.offset, obj.shape, order)
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) == _BY_VALUE:
            make, arguments, state, *items, set_state = reduced
            return make, arguments, (set_state, state, obj.__qualname__), *items, _set_class_state
        return reduced


def _set_class_state(kind: type, state: tuple[Any, Any, str]) -> None:
    set_state, of_cloudpickle, kind.__qualname__ = state
    set_state(kind, of_cloudpickle)


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not tensor.requires_grad
        and tensor.nbytes >= _LARGE
        and tensor.is_contiguous()
        and tensor.dtype in _NUMPY_HAS
        and not tensor.is_conj()
        and not tensor.is_neg()
        and not vars(tensor)
    )
