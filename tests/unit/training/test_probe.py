"""The trial tells how long training is and whether it validates, and trains nothing."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_memaudit.exceptions import MismatchError, TrainingError
from lightning_memaudit.training.probe import probe
from lightning_memaudit.training.run import Length, Probe
from tests.helpers import zoo
from tests.helpers.engines import reopened, run_of, run_probed


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, Length(20, 5)),
        ({"max_epochs": 2}, Length(10, 5)),
        ({"limit_train_batches": 3}, Length(12, 3)),
        ({"max_steps": 8, "max_epochs": -1}, Length(8, 5, 8)),
        ({"max_steps": 8, "max_epochs": 1}, Length(5, 5, 8)),
        ({"max_steps": 4, "max_epochs": -1, "accumulate_grad_batches": 2}, Length(8, 5, 4)),
        ({"max_epochs": -1}, Length(None, 5)),
    ],
)
def test_how_long_training_is(options: dict[str, Any], length: Length) -> None:
    assert probe(run_of(zoo.Net, **options)).length == length


def test_it_validates_only_where_something_monitors_a_metric() -> None:
    assert probe(run_of(zoo.Net)) == Probe(Length(20, 5), validate=False)
    assert probe(run_of(zoo.Plateau)).validate


def test_it_makes_the_store_and_records_no_model() -> None:
    run = run_of(zoo.Net)
    assert not run.store.exists
    assert run.probe == Probe()
    probe(run)
    assert run.store.exists
    assert run.store.model_ids() == []
    assert run.probe == Probe()  # a run is what it was


def test_another_model_is_refused() -> None:
    run = run_probed(zoo.Net)
    with pytest.raises(MismatchError, match="belongs to another model"):
        probe(reopened(run).of_arm(model=zoo.Cnn))


def test_the_users_error_names_the_model() -> None:
    class Fails(zoo.Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ZeroDivisionError("my bug")

    with pytest.raises(TrainingError, match="model 0 failed in your code: ZeroDivisionError: my bug"):
        probe(run_of(Fails))
