from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lightning_memaudit import Audit
from lightning_memaudit.compat import names
from tests.helpers.tiny import TRAINER, TinyData, TinyNet

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def without(monkeypatch) -> Callable[..., None]:
    """As if the libraries did not have some names; for those that they cannot run without themselves."""

    def forget(*gone: str) -> None:
        monkeypatch.setattr(names, "has", lambda owner, name: name not in gone and hasattr(owner, name))

    return forget


@pytest.fixture
def execution(tmp_path) -> Callable[..., dict[str, Any]]:
    """Run a small audit, and say how its models were trained."""

    def run(executor: str, name: str = "store") -> dict[str, Any]:
        audit = Audit(TinyNet, TinyData, trainer=TRAINER, n_models=3, store=tmp_path / name, executor=executor)
        store = audit.train(progress=False)
        assert store.model_ids() == [0, 1, 2]
        return store.manifest.execution | {"margin": store.load().margin}

    return run
