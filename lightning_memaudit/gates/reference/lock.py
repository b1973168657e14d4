"""One gate after the other at a file that gates count in."""

from __future__ import annotations

import os
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CAN_LOCK", "held"]

#: Windows has no ``fcntl``; there nothing is held.
CAN_LOCK = find_spec("fcntl") is not None


@contextmanager
def held(path: str | os.PathLike[str]) -> Iterator[None]:
    """Keep others that hold the same file waiting, from before it is read until a new one stands in its place.

    The lock is on the file itself (``flock``), so that none is left behind when a process is killed. Gates replace the
    file as a whole: whoever waited for the old one takes the lock of the new one.

    Args:
        path: The file; where there is none, nothing is held.

    Example:
        >>> with held("/no/such/file"):
        ...     pass
    """
    descriptor = _locked(Path(path)) if CAN_LOCK else None
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(path: Path) -> int | None:
    """A descriptor of the file that stands at the path, locked."""
    import fcntl

    while path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.is_file() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)
    return None
