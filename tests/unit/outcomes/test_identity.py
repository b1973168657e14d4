import enum
import functools
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from lightning_memaudit import Audit, OutcomeStore
from lightning_memaudit.exceptions import MismatchError
from lightning_memaudit.outcomes.identity import canonical, describe_model
from lightning_memaudit.outcomes.scoring import ExampleScores, Multiclass, multiclass_scores


class Net(LightningModule):
    def __init__(self, width=4, lr=0.1, momentum=0.9, note="a", dropout=0.0, schedule=None):
        super().__init__()
        self.save_hyperparameters(ignore=["lr", "momentum", "schedule"])
        self.net = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Dropout(dropout), torch.nn.Linear(width, 2))
        self.lr, self.momentum, self.schedule = lr, momentum, schedule

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)
        return optimizer if self.schedule is None else ([optimizer], [self.schedule(optimizer)])


class OtherNet(Net):
    pass


class Data(LightningDataModule):
    def __init__(self, labels=None, flip=False, shift=0.0, batch_size=8):
        super().__init__()
        x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
        y = torch.arange(24) % 2 if labels is None else labels
        self.data = TensorDataset((x.flip(0) if flip else x) + shift, y)
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=self.batch_size, shuffle=True)

    def test_dataloader(self):
        return DataLoader(self.data, batch_size=8)


def my_score(pl_module, batch):
    return multiclass_scores(pl_module(batch[0]), batch[1])


def open_(url, *, model=Net, data=Data, trainer=None, **options):
    arguments = {"max_epochs": 2, "accelerator": "cpu"} | (trainer or {})
    Audit(model, data, store=url, trainer=arguments, **({"n_models": 2} | options))._opened()
    return OutcomeStore(url)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return open_(str(tmp_path_factory.mktemp("base"))).url


def cosine(optimizer):
    return lr_scheduler.CosineAnnealingLR(optimizer, 10)


FLIPPED = torch.arange(24) % 2
FLIPPED[5] = 0
STOP = {"monitor": "loss", "check_on_train_epoch_end": True}

CHANGES = {
    "seed": ("plan", {"seed": 1}),
    "fraction": ("plan", {"subset_fraction": 0.5}),
    "label": ("data", {"data": lambda: Data(labels=FLIPPED)}),
    "order": ("data", {"data": lambda: Data(flip=True)}),
    "inputs": ("data", {"data": lambda: Data(shift=1e-3)}),
    "width": ("model", {"model": lambda: Net(width=5)}),
    "hparam": ("model", {"model": lambda: Net(note="b")}),
    "dropout": ("model", {"model": lambda: Net(dropout=0.1)}),
    "class": ("model", {"model": OtherNet}),
    "lr": ("optimisation", {"model": lambda: Net(lr=0.2)}),
    "momentum": ("optimisation", {"model": lambda: Net(momentum=0.0)}),
    "scheduler": ("optimisation", {"model": lambda: Net(schedule=cosine)}),
    "epochs": ("optimisation", {"trainer": {"max_epochs": 3}}),
    "steps": ("optimisation", {"trainer": {"max_steps": 3}}),
    "clip": ("optimisation", {"trainer": {"gradient_clip_val": 1.0}}),
    "accumulate": ("optimisation", {"trainer": {"accumulate_grad_batches": 2}}),
    "precision": ("optimisation", {"trainer": {"precision": "bf16-mixed"}}),
    "batch": ("optimisation", {"data": lambda: Data(batch_size=6)}),
    "stopping": ("optimisation", {"trainer": {"callbacks": [EarlyStopping(**STOP)]}}),
    "score": ("scoring", {"score_fn": my_score}),
    "score options": ("scoring", {"score_fn": Multiclass(outputs="logits")}),
    "splits": ("scoring", {"splits": ["train"]}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_aspect_is_refused_with_both_digests_and_what_changed(base, change, tmp_path):
    aspect, options = CHANGES[change]
    with pytest.raises(MismatchError, match=f"another {aspect}: ") as caught:
        open_(base, **options)
    there, here = OutcomeStore(base).manifest.digests, open_(str(tmp_path), **options).manifest.digests
    assert f"digest {there[aspect]} there, {here[aspect]} here" in str(caught.value)
    assert caught.value.exit_code == 4
    assert "--store NEW" in str(caught.value)


def test_what_does_not_change_learning_may_change(base, tmp_path):
    watchers = [ModelCheckpoint(dirpath=tmp_path), TQDMProgressBar(), LearningRateMonitor()]
    logged = {"logger": CSVLogger(tmp_path), "callbacks": watchers, "enable_progress_bar": True, "log_every_n_steps": 1}
    for options in [{"n_models": 50}, {"executor": "sequential"}, {"trainer": logged}, {"splits": ["test", "train"]}]:
        open_(base, **options)


SCHEDULES = {
    "cosine": lambda t: lambda o: lr_scheduler.CosineAnnealingLR(o, t),
    "one cycle": lambda t: lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=50, pct_start=t / 100),
    "lambda": lambda t: lambda o: lr_scheduler.LambdaLR(o, lambda epoch: min(1.0, epoch / t)),
    "partial": lambda t: lambda o: lr_scheduler.LambdaLR(o, functools.partial(warm, over=t)),
    "nested": lambda t: (
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 1 / t)], [3])
    ),
    "milestone": lambda t: (
        lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.5)], [t])
    ),
}


def warm(epoch, over):
    return min(1.0, epoch / over)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_scheduler_is_known_by_its_settings(schedule, tmp_path):
    make = SCHEDULES[schedule]
    open_(str(tmp_path), model=lambda: Net(schedule=make(10)))
    open_(str(tmp_path), model=lambda: Net(schedule=make(10)))
    with pytest.raises(MismatchError, match="schedulers"):
        open_(str(tmp_path), model=lambda: Net(schedule=make(20)))


def test_patience_is_part_of_early_stopping(tmp_path):
    open_(str(tmp_path), trainer={"callbacks": [EarlyStopping(**STOP, patience=2)]})
    open_(str(tmp_path), trainer={"callbacks": [EarlyStopping(**STOP, patience=2, verbose=True)]})
    with pytest.raises(MismatchError, match="patience: 2 there, 3 here"):
        open_(str(tmp_path), trainer={"callbacks": [EarlyStopping(**STOP, patience=3)]})


class Colour(enum.Enum):
    RED = 1


class Plain:
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2.5, "x", None, True), [1, 2.5, "x", None, True]),
        (float("nan"), "nan"),
        (Namespace(b=2, a=1), {"a": 1, "b": 2}),
        (torch.float16, "torch.float16"),
        (np.float64(0.5), 0.5),
        (torch.tensor([1, 2]), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (np.array([{"a": (1,)}], dtype=object), [{"a": [1]}]),
    ],
)
def test_canonical_forms(value, expected):
    assert canonical(value) == expected


def test_canonical_is_short_and_tells_values_apart():
    pairs = [
        (np.arange(10_000), np.arange(10_000) + 1),
        (list(range(10_000)), list(range(1, 10_001))),
        (b"a" * 10_000, b"b" * 10_000),
        (Colour.RED, Plain()),
        (functools.partial(int, base=2), functools.partial(int, base=3)),
        (lambda x, k=1: k, lambda x, k=2: k),
        (torch.bfloat16, torch.float16),
    ]
    for one, two in pairs:
        assert canonical(one) != canonical(two)
        assert len(json.dumps(canonical(one))) < 400
        assert json.loads(json.dumps(canonical(one))) == canonical(one)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's compiler, of its own doing
def test_lazy_tied_and_compiled_modules_are_described(tmp_path):
    class Special(Net):
        def __init__(self):
            super().__init__()
            tied = torch.nn.Linear(4, 4)
            self.net = torch.nn.Sequential(
                torch.nn.LazyLinear(4), tied, torch.compile(tied, backend="eager"), torch.nn.Linear(4, 2)
            )

    assert describe_model(Special())["parameters"]["net.0.weight"][0] == "lazy"
    store = open_(str(tmp_path), model=Special)
    store = Audit(Special, Data, store=store, n_models=2, trainer={"max_epochs": 2, "accelerator": "cpu"}).train(
        progress=False
    )
    assert store.model_ids() == [0, 1]


def test_a_users_closure_is_part_of_the_score_function():
    def make(threshold):
        def score(pl_module, batch):
            return ExampleScores(*[torch.full((len(batch[0]),), threshold)] * 4)

        return score

    assert canonical(make(0.5)) == canonical(make(0.5)) != canonical(make(0.6))


@pytest.mark.parametrize("name", ["limit_val_batches", "val_check_interval", "check_val_every_n_epoch"])
def test_validation_counts_where_training_goes_by_it(name, tmp_path):
    class Validated(Data):
        def val_dataloader(self):
            return DataLoader(self.data, batch_size=8)

    class Watched(Net):
        def validation_step(self, batch, batch_idx):
            self.log("loss", torch.tensor(0.0))

    def open_with(store, value, **arguments):
        return open_(str(tmp_path / store), model=Watched, data=Validated, trainer={name: value, **arguments})

    open_with("free", 1)
    open_with("free", 2)
    stopping = EarlyStopping(monitor="loss")
    open_with("stopped", 1, callbacks=[stopping])
    Audit(
        Watched,
        Validated,
        store=str(tmp_path / "stopped"),
        trainer={"max_epochs": 2, "accelerator": "cpu", name: 1, "callbacks": [stopping]},
        n_models=2,
    ).train(progress=False)
    with pytest.raises(MismatchError, match=f"{name}: 1 there, 2 here"):
        open_with("stopped", 2, callbacks=[stopping])


class Drawn(Data):
    def __init__(self, sampler):
        super().__init__()
        self.sampler = sampler

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=8, sampler=self.sampler)


def weighted(first, num_samples=24, replacement=True):
    return lambda: Drawn(WeightedRandomSampler([first, *[1.0] * 23], num_samples, replacement))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (weighted(3.0), "draws.weights"),
        (weighted(2.0, 12), "draws.num_samples"),
        (weighted(2.0, replacement=False), "draws.replacement"),
    ],
)
def test_draws_of_the_whole_data_set_count(other, what, tmp_path):
    arguments = {"trainer": {"max_epochs": 2, "accelerator": "cpu"}, "n_models": 5, "design": "bernoulli"}
    Audit(Net, weighted(2.0), store=str(tmp_path), **arguments).train(progress=False)
    with pytest.raises(MismatchError, match=what):
        open_(str(tmp_path), data=other, design="bernoulli")
