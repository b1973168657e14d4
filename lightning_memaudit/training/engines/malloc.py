"""Memory that tensors of one step leave to those of the next."""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["freed_memory_kept"]

# Of glibc's malloc.h. By default it hands the tensors of a large step back to the system, page by page, after every
# step, and takes them anew in the next: a third of the time of a stack of small models.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 512 * 2**20, _M_TOP_PAD: 64 * 2**20}
_DEFAULTS = {_M_TRIM_THRESHOLD: 128 * 2**10, _M_TOP_PAD: 128 * 2**10}


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let this process keep up to 512 MB that it has freed, and give them back at the end.

    What stays is the size from which glibc maps memory by itself, 32 MB, which is the largest that it would settle on.
    Where the C library is another than glibc, or the environment has MALLOC_ settings, nothing is changed.

    Example:
        >>> with freed_memory_kept():
        ...     pass
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        yield
        return
    libc = ctypes.CDLL(None)
    for parameter, value in _SETTINGS.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _DEFAULTS.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
