from __future__ import annotations

import pytest

from lightning_memaudit.data.randomness import preserved_randomness


@pytest.fixture(autouse=True)
def _no_trace():
    with preserved_randomness():
        yield
