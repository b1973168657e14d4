"""What is trained once for a whole run of the tests, whichever of its processes asks for it first."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that is filled once; the others wait for it, and may not write to it.

    Args:
        factory: Of temporary folders.
        name: The same for all that want this folder.
        make: Fills an empty folder.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    shared = root / "shared"
    shared.mkdir(exist_ok=True)
    folder, begun = shared / name, shared / f"{name}.begun"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, also by a process that is killed
        if not folder.exists():
            assert not begun.exists(), f"{name} could not be made; an earlier test says why"
            begun.mkdir()
            make(begun)
            begun.rename(folder)
    return folder
