import os

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_memaudit import OutcomeRecorder, OutcomeStore, SubsetDataModule, SubsetPlan
from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError, MismatchError
from lightning_memaudit.outcomes.scoring import Multiclass, multiclass_scores
from lightning_memaudit.testing.datamodule import ToyDataModule

PLAN = SubsetPlan(24, seed=1)
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture(autouse=True)
def _tidy():
    with preserved_randomness():  # seed_everything exports its seed
        yield


def dataset(n=24):
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 3, generator=generator), torch.arange(n) % 2)


def data():
    return ToyDataModule(dataset(), dataset(5), batch_size=8)


class Net(LightningModule):
    def __init__(self, width=4):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(store, *, model=None, datamodule=None, model_id=0, recorder=None, callbacks=(), loaders=None, **trainer):
    recorder = recorder or OutcomeRecorder(store)
    seed_everything(PLAN.model_seed(model_id), verbose=False)
    model = model or Net()
    trainer = Trainer(**(QUIET | {"max_epochs": 2} | trainer), callbacks=[*callbacks, recorder])
    if loaders is not None:
        trainer.fit(model, loaders)
    else:
        trainer.fit(model, datamodule=datamodule or SubsetDataModule(data(), PLAN, model_id))
    return model


def scored(model, split=None):
    with torch.no_grad():
        return Multiclass()(model.eval(), (split or dataset()).tensors)


def is_empty(store):
    store = OutcomeStore(store)
    return store.model_ids() == store.partial_writes() == []


@pytest.mark.parametrize("kind", [str, OutcomeStore, lambda path: path])
def test_a_plain_script_records_what_the_model_does(tmp_path, kind):
    model = fit(kind(tmp_path / "s"), datamodule=SubsetDataModule(data(), PLAN, 3), model_id=3)
    store = OutcomeStore(tmp_path / "s")
    assert store.splits() == ("train", "test")
    assert store.verify() == []
    outcomes = store.load()
    assert outcomes.model_ids.tolist() == [3]
    np.testing.assert_array_equal(outcomes.mask[0], PLAN.mask(3))
    np.testing.assert_allclose(outcomes.margin[0], scored(model).margin, atol=1e-6)
    np.testing.assert_array_equal(outcomes.correct[0], scored(model).correct)
    np.testing.assert_array_equal(outcomes.labels, dataset().tensors[1])
    assert outcomes.wall_seconds[0] > 0


def test_a_users_own_subset_gives_the_same_shard(tmp_path):
    def own(model_id, rows=None, plan=PLAN, n=24, **options):
        rows = np.flatnonzero(PLAN.mask(model_id)) if rows is None else rows
        loader = DataLoader(Subset(dataset(n), rows), batch_size=8, shuffle=True)
        recorder = OutcomeRecorder(tmp_path / "own", plan, model_id, **options)
        fit(None, loaders=loader, model_id=model_id, recorder=recorder)

    own(0)
    fit(tmp_path / "wrapped")
    ours, theirs = (OutcomeStore(tmp_path / name).load() for name in ("own", "wrapped"))
    np.testing.assert_array_equal(ours.margin, theirs.margin)
    for options, match in [
        ({"rows": np.arange(17)}, r"plan's 17 rows"),
        ({"plan": None}, "plan=None: a SubsetDataModule is needed"),
        ({"n": 30}, "for the 30 examples of the training data set"),
        ({"splits": ["test"]}, "only train can be scored"),
    ]:
        with pytest.raises(ArgumentError, match=match):
            own(1, **options)
    recorder = OutcomeRecorder(tmp_path / "own", PLAN, 1)
    with pytest.raises(ArgumentError, match="plan's"):
        fit(None, loaders=DataLoader(dataset(), batch_size=8), recorder=recorder)
    assert OutcomeStore(tmp_path / "own").model_ids() == [0]


def test_another_plan_or_number_than_the_data_module_is_refused(tmp_path):
    for options, name in [({"plan": SubsetPlan(24, seed=2)}, "plan"), ({"model_id": 5}, "model_id")]:
        with pytest.raises(ArgumentError, match=f"{name}=.* of the SubsetDataModule"):
            fit(None, recorder=OutcomeRecorder(tmp_path, **options))


@pytest.mark.filterwarnings("ignore:.*max_epochs=0")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fast_dev_run": True}, "fast_dev_run"),
        ({"overfit_batches": 1}, "overfit_batches"),
        ({"max_epochs": 0}, "nothing was trained"),
        ({"limit_train_batches": 0}, "nothing was trained"),
    ],
)
def test_a_fit_that_trains_nothing_worth_recording_is_refused(tmp_path, options, match):
    with pytest.raises(ConfigurationError, match=match):
        fit(tmp_path, **options)
    assert is_empty(tmp_path)


class Fails(Callback):
    def __init__(self, hook):
        self.active = True
        setattr(self, hook, self.fail)

    def fail(self, *args, **kwargs):
        if self.active:
            raise RuntimeError("mine")


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_batch_end", "on_train_end"])
def test_a_fit_that_fails_leaves_nothing_and_the_recorder_can_go_on(tmp_path, hook):
    recorder, callback = OutcomeRecorder(tmp_path), Fails(hook)
    with pytest.raises(RuntimeError, match="mine"):
        fit(None, recorder=recorder, callbacks=[callback])
    assert is_empty(tmp_path)
    callback.active = False
    fit(None, recorder=recorder, callbacks=[callback])
    assert OutcomeStore(tmp_path).model_ids() == [0]


def test_a_recorder_is_reusable_and_looks_at_the_data_again(tmp_path):
    recorder = OutcomeRecorder(tmp_path)
    fit(None, recorder=recorder)
    fit(None, recorder=recorder, model_id=1)
    assert OutcomeStore(tmp_path).model_ids() == [0, 1]
    other = dataset()
    other.tensors[1][3] = 1 - other.tensors[1][3]
    with pytest.raises(MismatchError, match="another data"):
        fit(
            None,
            recorder=recorder,
            datamodule=SubsetDataModule(ToyDataModule(other, dataset(5), batch_size=8), PLAN, 2),
        )
    with pytest.raises(MismatchError, match="another model"):
        fit(tmp_path, model=Net(width=5), model_id=2)
    assert OutcomeStore(tmp_path).model_ids() == [0, 1]


def test_groups_may_come_with_a_later_model(tmp_path):
    fit(tmp_path)
    fit(None, recorder=OutcomeRecorder(tmp_path, groups={"digit": "label"}), model_id=1)
    fit(tmp_path, model_id=2)
    assert OutcomeStore(tmp_path).examples("train").groups["digit"].names == ("0", "1")


@pytest.mark.parametrize("swap", ["own", "swa"])
def test_weights_that_a_callback_puts_in_last_are_what_is_scored(tmp_path, swap):
    class Zero(Callback):
        def on_train_end(self, trainer, pl_module):
            with torch.no_grad():
                for parameter in pl_module.parameters():
                    parameter.mul_(0.5)

    callback = Zero() if swap == "own" else StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)
    model = fit(tmp_path, callbacks=[callback], max_epochs=4)
    np.testing.assert_allclose(OutcomeStore(tmp_path).load().margin[0], scored(model).margin, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_other_precisions(tmp_path, precision):
    fit(tmp_path, precision=precision)
    outcomes = OutcomeStore(tmp_path).load()
    assert outcomes.margin.dtype == np.float32
    assert np.isfinite(outcomes.margin).all()
    with pytest.raises(MismatchError, match="precision"):
        fit(tmp_path, model_id=1)


@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`")
def test_scoring_is_prediction_to_the_users_hooks(tmp_path):
    seen = []

    class Hooked(Net):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            seen.append((self.trainer.training, self.trainer.predicting, self.training))
            return [batch[0] + self.trainer.training, batch[1]]

        def forward(self, x):
            assert self.trainer.max_epochs == 2
            return super().forward(x)

    model = fit(tmp_path, model=Hooked())
    assert set(seen) == {(True, False, True), (False, True, False)}
    assert model.training
    model.trainer.fit_loop.max_epochs = 2
    np.testing.assert_allclose(OutcomeStore(tmp_path).load().margin[0], scored(model).margin, atol=1e-6)


def test_scoring_moves_no_global_randomness(tmp_path):
    def after(callbacks):
        seed_everything(7, verbose=False)
        Trainer(**QUIET, max_epochs=1, callbacks=callbacks).fit(Net(), datamodule=SubsetDataModule(data(), PLAN, 0))
        return torch.rand(3).tolist(), np.random.random(), os.environ.get("PL_GLOBAL_SEED")  # noqa: NPY002 - the global state

    assert after([]) == after([OutcomeRecorder(tmp_path)])


def test_nothing_is_logged_by_us(tmp_path):
    logged = []
    for i, callbacks in enumerate([[], [OutcomeRecorder(tmp_path / "store")]]):
        logger = CSVLogger(tmp_path, name=f"log{i}")
        seed_everything(7, verbose=False)
        trainer = Trainer(**(QUIET | {"logger": logger}), max_epochs=2, log_every_n_steps=1, callbacks=callbacks)
        trainer.fit(Net(), datamodule=SubsetDataModule(data(), PLAN, 0))
        logged.append([open_.read_text() for open_ in sorted((tmp_path / f"log{i}").rglob("*.*"))])
    assert logged[0] == logged[1]


def test_a_fit_that_goes_on_from_a_checkpoint_is_the_same_run(tmp_path):
    class Decays(Net):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]

    fit(tmp_path / "store", model=Decays(), max_epochs=3)
    seed_everything(PLAN.model_seed(1), verbose=False)
    half = Trainer(**QUIET, max_epochs=3, limit_train_batches=1.0)
    half.fit_loop.epoch_loop.max_steps = 4
    half.fit(Decays(), datamodule=SubsetDataModule(data(), PLAN, 1))
    half.save_checkpoint(tmp_path / "half.ckpt")
    trainer = Trainer(**QUIET, max_epochs=3, callbacks=[OutcomeRecorder(tmp_path / "store")])
    trainer.fit(Decays(), datamodule=SubsetDataModule(data(), PLAN, 1), ckpt_path=tmp_path / "half.ckpt")
    assert OutcomeStore(tmp_path / "store").model_ids() == [0, 1]


def test_a_users_score_function_in_bfloat16(tmp_path):
    def score(pl_module, batch):
        scores = multiclass_scores(pl_module(batch[0]), batch[1])
        return type(scores)(scores.correct, scores.margin.bfloat16(), scores.loss.bfloat16(), scores.prediction)

    fit(None, recorder=OutcomeRecorder(tmp_path, score_fn=score), precision="bf16-mixed")
    assert OutcomeStore(tmp_path).verify() == []


def test_groups_of_several_models_are_kept(tmp_path):
    fit(None, recorder=OutcomeRecorder(tmp_path, groups={"digit": "label"}))
    half = {"train": [0, 1] * 12, "test": [0] * 5}
    fit(None, recorder=OutcomeRecorder(tmp_path, groups={"half": half}), model_id=1)
    assert set(OutcomeStore(tmp_path).examples("train").groups) == {"digit", "half"}


@pytest.mark.parametrize("key", [None, "animal"])
def test_evaluation_data_in_another_order_are_refused_before_training(tmp_path, key):
    class Keyed(torch.utils.data.Dataset):
        def __init__(self, order):
            self.order = order

        def __len__(self):
            return 24

        def __getitem__(self, i):
            x, y = dataset()[self.order[i]]
            return (x, y) if key is None else {"x": x, key: y, "label": 0}

    score_fn = "multiclass" if key is None else Multiclass(target=key)
    rows = [*range(1, 24), 0]
    datamodule = ToyDataModule(Keyed(range(24)), Keyed(range(24)), batch_size=8)
    wrapped = SubsetDataModule(datamodule, PLAN, 0, eval_dataset=Keyed(rows))
    with pytest.raises(ArgumentError, match="eval_dataset: row 0 has the label 1"):
        fit(None, recorder=OutcomeRecorder(tmp_path, score_fn=score_fn), datamodule=wrapped)
    assert not OutcomeStore(tmp_path).exists


def test_no_hook_of_a_step_costs_a_call():
    from lightning.pytorch.trainer import call

    called = []
    trainer = Trainer(**QUIET, max_epochs=1, callbacks=[OutcomeRecorder("memory://no-hook-of-a-step")])
    trainer.profiler.profile = lambda name: called.append(name) or torch.no_grad()
    for hook in ("on_train_batch_start", "on_before_zero_grad", "on_after_backward", "on_train_batch_end"):
        call._call_callback_hooks(trainer, hook)
    assert called == []
    call._call_callback_hooks(trainer, "on_train_epoch_end")
    assert called == ["[Callback]OutcomeRecorder.on_train_epoch_end"]
