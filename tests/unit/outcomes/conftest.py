from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tests.helpers.stores  # noqa: F401 (registers objects://)
from lightning_memaudit.outcomes.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "folder", "file://", "memory://", "objects://"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    """Where a store may be: one of every kind of place."""
    folder = tmp_path / "store"
    kind = request.param
    url = folder if kind == "path" else str(folder) if kind == "folder" else f"{kind}{folder}"
    yield url
    Storage(url).clear()
