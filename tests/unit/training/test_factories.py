import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.training.factories import data_factory, model_factory, trainer_recipe
from lightning_memaudit.training.task import silenced
from tests.helpers.tiny import TinyData, TinyNet


def make(mapping, **options) -> Trainer:
    with silenced():
        return trainer_recipe(mapping).make(**({"extra": [], "validate": False} | options))


def test_a_class_and_a_lambda_give_fresh_modules() -> None:
    for model in (TinyNet, lambda: TinyNet(width=5)):
        build = model_factory(model, None)
        assert build() is not build()


def test_copy_starts_from_the_weights_at_the_time_of_the_call() -> None:
    model = TinyNet()
    build = model_factory(model, "copy")
    first = model.net[0].weight.detach().clone()
    model.net[0].weight.data.zero_()
    assert torch.equal(build().net[0].weight, first)
    assert build() is not build()


def test_rebuild_uses_the_hyperparameters() -> None:
    rebuilt = model_factory(TinyNet(width=11), "rebuild")()
    assert rebuilt.net[0].out_features == 11


@pytest.mark.parametrize(
    ("model", "init", "message"),
    [
        (TinyNet(), None, "init=None"),
        (TinyNet(), "reset", "init='reset'"),
        (TinyNet, "copy", "a callable, which says itself"),
        (torch.nn.Linear(2, 2), "copy", r"model=Linear: a lightning\.pytorch\.LightningModule is needed"),
        ("TinyNet", None, "model='TinyNet'"),
    ],
)
def test_models_that_leave_a_doubt_are_refused(model, init, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        model_factory(model, init)


def test_a_callable_that_returns_something_else_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"model=Linear: a lightning\.pytorch\.LightningModule is needed"):
        model_factory(lambda: torch.nn.Linear(2, 2), None)()


def test_a_module_of_the_other_package_is_named() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_lightning import LightningModule as OtherModule
    with pytest.raises(ArgumentError, match="pytorch_lightning"):
        model_factory(OtherModule(), "copy")


def test_a_module_whose_hparams_say_something_else_is_refused() -> None:
    model = TinyNet(width=4)
    model.net = torch.nn.Linear(4, 3)
    with pytest.raises(ConfigurationError, match="other parameters"):
        model_factory(model, "rebuild")


def test_data_may_be_an_instance_or_a_callable() -> None:
    data = TinyData()
    assert data_factory(data)() is data
    assert isinstance(data_factory(TinyData)(), TinyData)
    with pytest.raises(ArgumentError, match="LightningDataModule"):
        data_factory([1, 2])


def test_loggers_checkpoints_and_devices_are_left_out_and_said(tmp_path) -> None:
    stopper = EarlyStopping("val_loss")
    mapping = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "devices": 4,
        "strategy": "ddp",
        "logger": CSVLogger(tmp_path),
        "callbacks": [ModelCheckpoint(), LearningRateMonitor(), stopper],
    }
    trainer = make(mapping)
    assert trainer.num_devices == 1
    assert trainer.loggers == []
    kinds = [type(callback).__name__ for callback in trainer.callbacks]
    assert "EarlyStopping" in kinds
    assert "ModelCheckpoint" not in kinds
    assert stopper not in trainer.callbacks
    notes = " ".join(trainer_recipe(mapping).notes)
    for word in ("devices", "strategy", "logger", "ModelCheckpoint", "LearningRateMonitor"):
        assert word in notes
    assert "EarlyStopping" not in notes
    assert trainer_recipe({"max_epochs": 1, "logger": False, "devices": 1, "strategy": "auto"}).notes == ()


def test_validation_is_off_unless_it_is_needed() -> None:
    assert make({"accelerator": "cpu"}).limit_val_batches == 0
    assert make({"accelerator": "cpu"}, validate=True).limit_val_batches == 1.0
    assert make({"accelerator": "cpu", "limit_val_batches": 3}, validate=True).limit_val_batches == 3


def test_a_callable_is_used_as_it_is() -> None:
    made = []

    def own() -> Trainer:
        made.append(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=7))
        return made[-1]

    extra = EarlyStopping("val_loss")
    trainer = make(own, extra=[extra])
    assert trainer is made[0]
    assert trainer.max_epochs == 7
    assert extra in trainer.callbacks
    with pytest.raises(ArgumentError, match=r"a lightning\.pytorch\.Trainer is needed, and it returned a"):
        make(lambda: 3)


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"fast_dev_run": True}, "fast_dev_run"),
        ({"overfit_batches": 2}, "overfit_batches"),
        ({"barebones": True}, "barebones"),
        ({"callbacks": [BatchSizeFinder()]}, "BatchSizeFinder"),
        ("fast", "trainer='fast'"),
    ],
)
def test_what_does_not_go_with_an_audit_is_refused(trainer, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        trainer_recipe(trainer)


def test_a_trainer_instance_is_refused() -> None:
    with silenced():
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ArgumentError, match="used up by one fit"):
        trainer_recipe(trainer)
