"""A run that cannot read back what it wrote ends with an error, at the first model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import CorruptShardError
from lightning_memaudit.treatments import Prune
from tests.helpers.stores import Damaging
from tests.helpers.tiny import TRAINER, TinyData, TinyNet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("arm", "n_trained"), [("baseline", 1), ("prune-0.5", 4)])
def test_a_run_whose_shards_are_damaged_ends_with_an_error(arm: str, n_trained: int, tmp_path: Path) -> None:
    store = OutcomeStore(Damaging(tmp_path, arm=arm))
    audit = Audit(
        TinyNet, TinyData, trainer=TRAINER, n_models=4, store=store, executor="trainer", treatments=[Prune(0.5)]
    )
    with pytest.raises(CorruptShardError, match=rf"{arm}/000000\.npz is truncated or damaged"):
        audit.train(progress=False)
    assert len(list((tmp_path / "outcomes/baseline").glob("*.npz"))) == n_trained
