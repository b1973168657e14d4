"""What happens with a Lightning that lacks a private name: the Trainer trains, or DP is refused."""

from __future__ import annotations

import lightning
import numpy as np
import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lightning_memaudit.compat.lightning import arguments_of, before_batch_transfer, forks_workers, is_part
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.training.task import silenced
from tests.helpers.tiny import TinyData, TinyNet
from tests.unit.callbacks.dp.toys import QUIET, Net, fit, private

VERSION = f"lightning {lightning.__version__}"


@pytest.mark.parametrize("executor", ["sequential", "ensemble", "auto"])
def test_models_are_trained_by_the_trainer(executor, without, execution) -> None:
    expected = execution("trainer", "reference")
    without("_logger_connector")
    found = execution(executor)
    assert found["engine"] == "trainer"
    assert found["reason"] == f"the faster loops do not go with {VERSION}, which has no _logger_connector in Trainer"
    assert np.array_equal(found["margin"], expected["margin"])


@pytest.mark.parametrize("name", ["_data_source", "_combined_loader", "_should_accumulate", "_compiler_ctx"])
def test_private_steps_are_refused(name, without) -> None:
    without(name)
    model = Net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = f"DifferentialPrivacy does not go with {VERSION}, which has no {name}"
    with pytest.raises(ConfigurationError, match=expected):
        fit(model, private())
    assert all((value == before[key]).all() for key, value in model.state_dict().items())


def test_private_steps_are_refused_where_lightning_itself_lacks_a_method(monkeypatch) -> None:
    monkeypatch.delattr(_FitLoop, "_should_accumulate")
    with pytest.raises(ConfigurationError, match="_should_accumulate in _FitLoop"):
        fit(Net(), private())
    with pytest.raises(ConfigurationError, match="_should_accumulate in _FitLoop"):
        is_part(Trainer(**QUIET))


def test_how_workers_start(without) -> None:
    assert not forks_workers(SingleDeviceStrategy())
    assert not forks_workers(DDPStrategy())
    assert forks_workers(DDPStrategy(start_method="fork"))
    without("_start_method")
    assert not forks_workers(SingleDeviceStrategy())
    with pytest.raises(ConfigurationError, match="which has no _start_method in DDPStrategy"):
        forks_workers(DDPStrategy())


class Shifting(TinyNet):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch[0] + 1 if len(batch) == 1 else batch


class ShiftingData(TinyData):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch[0] + 10 if len(batch) == 1 else batch


class Transfers(Callback):
    """In a fit, so that the Trainer has all that it has there."""

    def __init__(self, monkeypatch) -> None:
        self.monkeypatch = monkeypatch
        self.found = []

    def on_train_start(self, trainer, pl_module) -> None:
        self.found.append(before_batch_transfer(trainer, pl_module, (0,)))
        with self.monkeypatch.context() as patch:
            patch.delattr(LightningModule, "_on_before_batch_transfer")
            self.found.append(before_batch_transfer(trainer, pl_module, (0,)))


@pytest.mark.parametrize(
    ("model", "data", "expected"), [(Shifting, TinyData, 1), (TinyNet, ShiftingData, 10), (TinyNet, TinyData, (0,))]
)
def test_the_same_transfer_hook_is_called(model, data, expected, monkeypatch) -> None:
    transfers = Transfers(monkeypatch)
    silent = QUIET | {"max_epochs": 1, "limit_val_batches": 0, "callbacks": [transfers]}
    with silenced():
        Trainer(**silent).fit(model(), datamodule=data())
    assert transfers.found == [expected, expected]


def test_arguments_that_callbacks_keep_under_other_names() -> None:
    found = arguments_of(StochasticWeightAveraging(swa_lrs=0.1, annealing_epochs=3))
    assert (found["swa_lrs"], found["annealing_epochs"]) == (0.1, 3)


def test_a_configured_optimizer_is_refused(monkeypatch) -> None:
    class Config(LightningCLI):
        def __init__(self, optimizer) -> None:
            self.config_init = {"model": None, "optimizer": optimizer}

    from lightning_memaudit.compat.lightning import apply_configured_optimizer

    monkeypatch.delattr(LightningCLI, "_add_configure_optimizers_method_to_model")
    apply_configured_optimizer(Config(None))
    with pytest.raises(ConfigurationError, match=f"optimizer: in a configuration does not go with {VERSION}"):
        apply_configured_optimizer(Config({"class_path": "torch.optim.SGD"}))
