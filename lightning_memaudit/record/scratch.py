"""Room for fields: in memory up to a limit, in a memory map on disk beyond it."""

from __future__ import annotations

import shutil
import weakref
from math import prod
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MEMORY_LIMIT", "Scratch"]

#: Bytes of fields other than ``correct`` that a record holds in memory; the rest is on disk while the record lives.
MEMORY_LIMIT = 2**28


class Scratch:
    """Arrays that hold as much as memory may, and files for the rest, removed with the scratch.

    Args:
        limit: Bytes in memory.

    Attributes:
        folder: Where the files are; None without any.
        n_files: Their number.
        n_bytes_in_memory: Bytes of the arrays in memory.

    Example:
        >>> Scratch(1000).allocate((10, 10), np.int8).shape
        (10, 10)
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self.limit = limit
        self.n_bytes_in_memory = 0
        self.n_files = 0
        self.folder: Path | None = None

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array whose content is not set yet.

        Args:
            shape: Its shape.
            dtype: Its type.
        """
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        if not n_bytes or self.n_bytes_in_memory + n_bytes <= self.limit:
            self.n_bytes_in_memory += n_bytes
            return np.empty(shape, dtype=dtype)
        if self.folder is None:
            self.folder = Path(mkdtemp(prefix="memaudit-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.n_files += 1
        return np.memmap(self.folder / f"{self.n_files}.bin", dtype=dtype, mode="w+", shape=shape)
