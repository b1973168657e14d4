"""Training inside the wrapper is training on torch.utils.data.Subset by hand, bit for bit."""

from __future__ import annotations

import copy
import os
import pickle
import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from lightning_memaudit import SubsetDataModule, SubsetPlan
from lightning_memaudit.data.loaders import _warned_of_one
from lightning_memaudit.data.source import DataSource
from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError
from tests.helpers.forked import finished
from tests.unit.data.toys import PLAN, ROWS, Data, N, Net, examples, fit, same_weights, shuffled, trainer

WEIGHTS = torch.rand(N, generator=torch.Generator().manual_seed(0))


def numbered(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_dict(samples):
    return {
        name: torch.stack(column) for name, column in zip(("x", "y", "row"), zip(*samples, strict=True), strict=True)
    }


def noisy(samples):
    x, y, row = (torch.stack(column) for column in zip(*samples, strict=True))
    return x + torch.randn(x.shape), y, row


class Dicts(Dataset):
    def __init__(self) -> None:
        self.tensors = examples().tensors

    def __len__(self) -> int:
        return N

    def __getitem__(self, i):
        return {name: tensor[i] for name, tensor in zip(("x", "y", "row"), self.tensors, strict=True)}


class Batched(Dicts):
    def __getitems__(self, rows):
        return [self[i] | {"x": self[i]["x"] * 2} for i in rows]


def weighted(dataset, rows=None, *, replacement=True, generator=None):
    weights = WEIGHTS if rows is None else WEIGHTS[rows]
    return WeightedRandomSampler(weights.tolist(), len(weights), replacement, generator=generator)


# f(dataset, rows or None for all) -> DataLoader, as a user would write it
LOADERS = {
    "shuffle": lambda d, r: DataLoader(d, batch_size=4, shuffle=True),
    "sequential": lambda d, r: DataLoader(d, batch_size=4),
    "generator": lambda d, r: DataLoader(d, batch_size=4, shuffle=True, generator=numbered()),
    "generator of the sampler": lambda d, r: DataLoader(
        d, batch_size=4, sampler=RandomSampler(d, generator=numbered())
    ),
    "two generators": lambda d, r: DataLoader(
        d,
        batch_size=4,
        sampler=RandomSampler(d, generator=numbered()),
        generator=numbered(4),
        num_workers=1,
        collate_fn=noisy,
    ),
    "generator of the loader": lambda d, r: DataLoader(d, batch_size=4, sampler=weighted(d, r), generator=numbered()),
    "weighted": lambda d, r: DataLoader(d, batch_size=4, sampler=weighted(d, r)),
    "weighted with generator": lambda d, r: DataLoader(d, batch_size=4, sampler=weighted(d, r, generator=numbered())),
    "weighted without replacement": lambda d, r: DataLoader(d, batch_size=4, sampler=weighted(d, r, replacement=False)),
    "with replacement": lambda d, r: DataLoader(d, batch_size=4, sampler=RandomSampler(d, replacement=True)),
    "half of the draws": lambda d, r: DataLoader(
        d, batch_size=4, sampler=RandomSampler(d, num_samples=round(len(d) / 2))
    ),
    "workers": lambda d, r: DataLoader(
        d, batch_size=4, shuffle=True, num_workers=2, persistent_workers=True, prefetch_factor=1, collate_fn=noisy
    ),
    "drop_last": lambda d, r: DataLoader(d, batch_size=5, shuffle=True, drop_last=True),
    "collate": lambda d, r: DataLoader(d, batch_size=4, shuffle=True, collate_fn=as_dict),
    "random collate": lambda d, r: DataLoader(d, batch_size=4, shuffle=True, collate_fn=noisy),
}


def check(loader, dataset=None, *, net=Net, wrap=Data, **arguments) -> Net:
    dataset = dataset or examples()
    inside = fit(SubsetDataModule(wrap(lambda d: loader(d, None), dataset), PLAN, 0), net=net, **arguments)
    by_hand = fit(loader(Subset(dataset, ROWS.tolist()), ROWS), net=net, **arguments)
    assert inside.seen == by_hand.seen
    assert set(inside.seen) <= set(ROWS.tolist())
    assert same_weights(inside, by_hand)
    return inside


@pytest.mark.parametrize("loader", LOADERS)
def test_weights_are_those_of_a_subset_by_hand(loader) -> None:
    check(LOADERS[loader])


def test_every_row_of_the_subset_is_seen_and_no_other() -> None:
    model = check(LOADERS["shuffle"], max_epochs=1)
    assert sorted(model.seen) == ROWS.tolist()


@pytest.mark.parametrize(
    "dataset", [Dicts(), Batched(), ConcatDataset([Subset(examples(), range(10)), Subset(examples(), range(10, N))])]
)
def test_kinds_of_data_sets(dataset) -> None:
    check(LOADERS["shuffle"], dataset)


@pytest.mark.parametrize(
    "arguments",
    [{"limit_train_batches": 2}, {"accumulate_grad_batches": 2}, {"reload_dataloaders_every_n_epochs": 1}],
)
def test_trainer_arguments(arguments) -> None:
    check(LOADERS["shuffle"], **arguments)


@pytest.mark.parametrize("renewed", [True, False])
def test_a_generator_over_reloaded_loaders(renewed) -> None:
    """One that the user makes anew starts anew; one that she keeps goes on."""

    class Reloading(Data):
        def __init__(self, dataset) -> None:
            super().__init__(dataset=dataset)
            self.generator = numbered()

        def train_dataloader(self):
            generator = numbered() if renewed else self.generator
            return DataLoader(self.dataset, batch_size=4, shuffle=True, generator=generator)

    base = Reloading(examples())
    inside = fit(SubsetDataModule(base, PLAN, 0), reload_dataloaders_every_n_epochs=1)
    by_hand = fit(Reloading(Subset(examples(), ROWS.tolist())), reload_dataloaders_every_n_epochs=1)
    assert inside.seen == by_hand.seen
    assert (inside.seen[-2 * len(ROWS) : -len(ROWS)] == inside.seen[-len(ROWS) :]) == renewed
    assert torch.equal(base.generator.get_state(), numbered().get_state())
    # So that every model of a shared source starts from the same state.
    assert fit(SubsetDataModule(base, PLAN, 0), reload_dataloaders_every_n_epochs=1).seen == inside.seen


def test_uneven_draws_without_replacement_never_ask_for_more_than_there_are() -> None:
    weights = torch.ones(N)
    weights[ROWS[2:]] = 0
    sampler = WeightedRandomSampler(weights.tolist(), N - len(ROWS) + 2, replacement=False)
    dm = SubsetDataModule(Data(lambda d: DataLoader(d, batch_size=4, sampler=sampler)), PLAN, 0)
    assert sorted(row for batch in dm.train_dataloader() for row in batch[2].tolist()) == ROWS[:2].tolist()


# Hooks


class HookedData(Data):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        x, *rest = batch
        return [x * 2, *rest]

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        x, *rest = batch
        assert self.trainer is not None
        return super().transfer_batch_to_device([x + 1, *rest], device, dataloader_idx)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, *rest = batch
        return [x * x, *rest]


class HookedNet(Net):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        x, *rest = batch
        return [x * 3, *rest]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        x, *rest = batch
        return [x.abs(), *rest]


@pytest.fixture
def lightning_warnings(monkeypatch):
    """Lightning warns of hooks once a process; here, once a test."""
    from lightning.pytorch.trainer.connectors import data_connector

    data_connector.warning_cache.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lambda: [str(w.message) for w in caught if "overridden" in str(w.message)]
    data_connector.warning_cache.clear()


def test_hooks_of_the_data_module(lightning_warnings) -> None:
    inside = fit(SubsetDataModule(HookedData(), PLAN, 0))
    by_hand = fit(HookedData(dataset=Subset(examples(), ROWS.tolist())))
    assert same_weights(inside, by_hand)
    assert not same_weights(inside, fit(SubsetDataModule(Data(), PLAN, 0)))
    assert lightning_warnings() == []


def test_hooks_of_the_lightning_module(lightning_warnings) -> None:
    inside = fit(SubsetDataModule(Data(), PLAN, 0), net=HookedNet)
    with_wrapper = lightning_warnings()
    assert same_weights(inside, fit(shuffled(Subset(examples(), ROWS.tolist())), net=HookedNet))
    assert not same_weights(inside, fit(SubsetDataModule(Data(), PLAN, 0)))
    assert not any("in both" in message for message in with_wrapper)


def test_hooks_of_both_warn_as_lightning_does(lightning_warnings) -> None:
    inside = fit(SubsetDataModule(HookedData(), PLAN, 0), net=HookedNet)
    assert sum("in both" in message for message in lightning_warnings()) == 2
    assert same_weights(inside, fit(HookedData(dataset=Subset(examples(), ROWS.tolist())), net=HookedNet))


def test_calls_and_state_reach_the_users_module(tmp_path) -> None:
    calls = []

    class Recording(Data):
        def prepare_data(self):
            calls.append(("prepare_data", self.trainer is not None))

        def setup(self, *, stage):
            calls.append(("setup", stage))

        def teardown(self, *, stage):
            calls.append(("teardown", stage))

        def state_dict(self):
            return {"position": 3}

        def load_state_dict(self, state):
            calls.append(("load_state_dict", state))

        def on_exception(self, exception):
            calls.append(("on_exception", str(exception)))

    dm = SubsetDataModule(Recording(), PLAN, 0)
    checkpoint = ModelCheckpoint(tmp_path, save_last=True)
    fit(dm, callbacks=[checkpoint], enable_checkpointing=True, max_epochs=1)
    assert calls == [("prepare_data", True), ("setup", "fit"), ("teardown", "fit")]
    assert torch.load(checkpoint.last_model_path, weights_only=True)[Recording.__qualname__] == {"position": 3}

    # A checkpoint of the wrapper continues with the user's module alone, and the other way round.
    for data in (dm, Recording()):
        calls.clear()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers|.*callbacks used to create")
            trainer(max_epochs=2).fit(Net(), datamodule=data, ckpt_path=checkpoint.last_model_path, weights_only=True)
        assert ("load_state_dict", {"position": 3}) in calls
        assert calls[-1] == ("teardown", "fit")
        assert ("setup", "fit") in calls

    class Failing(Net):
        def training_step(self, batch, batch_idx):
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        fit(dm, net=Failing)
    assert calls[-1] == ("on_exception", "lost")


def test_attributes_are_read_and_written_through(tmp_path) -> None:
    class Curriculum(Data):
        name = "curriculum"

        def __init__(self, difficulty: int = 1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.difficulty = difficulty
            self.prepare_data_per_node = False

        def scale(self):
            return 10 * self.difficulty

    scales = []

    class Reader(Net):
        def on_train_epoch_start(self):
            assert isinstance(self.trainer.datamodule, Curriculum)
            scales.append(self.trainer.datamodule.scale())
            self.trainer.datamodule.difficulty += 1

    base = Curriculum()
    dm = SubsetDataModule(base, PLAN, 0)
    logger = CSVLogger(tmp_path)
    fit(dm, net=Reader, logger=logger, log_every_n_steps=1)
    assert scales == [10, 20, 30]
    assert base.difficulty == 4
    assert dict(logger.experiment.hparams) == {"difficulty": 1}
    assert (dm.hparams, dm.hparams_initial) == (base.hparams, base.hparams_initial)
    assert dm.prepare_data_per_node is False
    assert dm.name == "curriculum"
    assert dm.trainer is base.trainer is not None
    assert isinstance(dm, SubsetDataModule)
    assert isinstance(dm, Curriculum)
    assert not hasattr(dm, "no_such_thing")
    with pytest.raises(AttributeError, match="'Curriculum' object has no attribute 'no_such_thing'"):
        _ = dm.no_such_thing


def test_the_other_loaders_are_the_users() -> None:
    class Validated(Data):
        def val_dataloader(self):
            return DataLoader(examples(7), batch_size=3)

        def test_dataloader(self):
            return None

    dm = SubsetDataModule(Validated(), PLAN, 0)
    assert len(dm.val_dataloader().dataset) == 7
    assert dm.test_dataloader() is None
    seen = []

    class Watching(Net):
        def validation_step(self, batch, batch_idx):
            seen.extend(batch[2].tolist())

    fit(dm, net=Watching, max_epochs=1, num_sanity_val_steps=0)
    assert seen == list(range(7))


# Randomness and sharing


class Splitting(Data):
    """Splits without a generator, draws from every global generator, and seeds all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.setups = 0
        self.torn_down = 0

    def setup(self, stage=None):
        self.setups += 1
        self.everything = examples(40)
        self.dataset, self.val = random_split(self.everything, [N, 16])
        self.noise = random.random(), np.random.rand(), torch.rand(1).item(), os.environ["PL_GLOBAL_SEED"]  # noqa: NPY002
        torch.manual_seed(0)
        os.environ["PL_GLOBAL_SEED"] = "99"

    def train_dataloader(self):
        torch.rand(3)
        return DataLoader(self.dataset, batch_size=4, shuffle=True)

    def teardown(self, stage=None):
        self.torn_down += 1


@pytest.mark.parametrize("stage", ["fit", None])
def test_a_split_without_a_generator_is_the_plans(stage) -> None:
    splits = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        os.environ["PL_GLOBAL_SEED"] = str(seed)
        dm = SubsetDataModule(Splitting(), PLAN, seed)
        dm.setup(stage)
        splits.append((list(dm.dataset.indices), dm.noise))
    assert splits[0] == splits[1]
    dm = SubsetDataModule(Splitting(), SubsetPlan(N, subset_fraction=0.6, seed=6), 0)
    dm.setup()
    assert list(dm.dataset.indices) != splits[0][0]


def test_setup_and_loaders_leave_no_trace_in_global_randomness(monkeypatch) -> None:
    def state():
        return (
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            os.environ.get("PL_GLOBAL_SEED"),
        )

    for exported in ("4", None):
        if exported is None:
            monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
        else:
            monkeypatch.setenv("PL_GLOBAL_SEED", exported)
        before = state()
        dm = SubsetDataModule(Splitting(), PLAN, 0)
        dm.prepare_data()
        dm.setup("fit")
        dm.train_dataloader()
        dm.source.scoring_loaders()
        assert state() == before

    class Failing(Splitting):
        def setup(self, stage=None):
            super().setup(stage)
            raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        SubsetDataModule(Failing(), PLAN, 0).setup("fit")
    assert state() == before


def test_a_shared_source_is_set_up_once_and_never_torn_down() -> None:
    base = Splitting()
    source = DataSource(base, seed=PLAN.seed)
    models = [fit(SubsetDataModule(source, PLAN, k)) for k in (0, 1, 0)]
    assert (base.setups, base.torn_down) == (1, 0)
    assert models[0].seen == models[2].seen
    assert same_weights(models[0], models[2])
    rows = np.array(base.dataset.indices)
    for model, k in zip(models, (0, 1, 0), strict=True):
        assert sorted(set(model.seen)) == sorted(rows[PLAN.mask(k)].tolist())
    alone = fit(SubsetDataModule(Splitting(), PLAN, 1))
    assert same_weights(alone, models[1])


def test_an_own_module_is_torn_down_and_set_up_again() -> None:
    base = Splitting()
    dm = SubsetDataModule(base, PLAN, 0)
    first, second = fit(dm), fit(dm)
    assert (base.setups, base.torn_down) == (2, 2)
    assert first.seen == second.seen


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda dm: pickle.loads(pickle.dumps(dm))])
def test_copies_and_pickles(twin_of) -> None:
    dm = SubsetDataModule(GeneratorData(), PLAN, 0)
    dm.setup("fit")
    next(iter(dm.train_dataloader()))
    twin = twin_of(dm)
    assert type(twin) is SubsetDataModule
    assert isinstance(twin, GeneratorData)
    assert twin.source.datamodule is not dm.source.datamodule
    assert twin.plan.digest == dm.plan.digest
    assert fit(twin).seen == fit(dm).seen


class GeneratorData(Data):
    def __init__(self) -> None:
        super().__init__()
        self.generator = numbered()

    def train_dataloader(self):
        return DataLoader(self.dataset, batch_size=4, shuffle=True, generator=self.generator)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_a_module_made_of_data_sets() -> None:
    dm = LightningDataModule.from_datasets(train_dataset=examples(), test_dataset=examples(6), batch_size=4)
    inside = fit(SubsetDataModule(dm, PLAN, 0))
    assert sorted(set(inside.seen)) == ROWS.tolist()
    assert same_weights(inside, fit(shuffled(Subset(examples(), ROWS.tolist()))))


# Refusals


class Stream(IterableDataset):
    def __iter__(self):
        return iter(examples())


class Unsized(Dataset):
    def __getitem__(self, i):
        return examples()[i]


class Backwards(Sampler):
    def __init__(self, dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self):
        return iter(range(len(self.dataset) - 1, -1, -1))


class OwnLoader(DataLoader):
    pass


def batches(d):
    return DataLoader(d, batch_sampler=BatchSampler(Backwards(d), 5, drop_last=False))


WAY_OUT = ["train_loader_factory=f", "eval_dataset="]


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (
            lambda d: DataLoader(Stream(), batch_size=4),
            ["train_dataloader()", "IterableDataset", "Stream", "map-style"],
        ),
        (lambda d: DataLoader(Unsized(), batch_size=4), ["train_dataloader()", "Unsized", "no length", "map-style"]),
        (lambda d: DataLoader(d, sampler=Backwards(d)), ["Backwards", "shuffle=True", *WAY_OUT]),
        (lambda d: DataLoader(d, sampler=[1, 2, 3]), ["sampler list", *WAY_OUT]),
        (
            lambda d: DataLoader(d, sampler=SubsetRandomSampler([1, 2])),
            ["SubsetRandomSampler", "Subset(dataset, indices)"],
        ),
        (lambda d: DataLoader(d, sampler=RandomSampler(range(9))), ["RandomSampler", "from 9 rows", str(N)]),
        (
            lambda d: DataLoader(d, sampler=WeightedRandomSampler([1.0] * 30, 30)),
            ["WeightedRandomSampler", "30", str(N)],
        ),
        (batches, ["batch_sampler=BatchSampler", *WAY_OUT]),
        (lambda d: DataLoader(d, batch_size=None), ["batch_size=None", *WAY_OUT]),
        (lambda d: [shuffled(d), shuffled(d)], ["train_dataloader()", "list", *WAY_OUT]),
        (lambda d: {"a": shuffled(d)}, ["dict", *WAY_OUT]),
        (lambda d: CombinedLoader({"a": shuffled(d)}), ["CombinedLoader", *WAY_OUT]),
        (lambda d: OwnLoader(d), ["OwnLoader", *WAY_OUT]),
        (lambda d: None, ["NoneType", *WAY_OUT]),
        (lambda d: DataLoader(d, batch_size=20, drop_last=True), ["drop_last=True", "batch_size=20", "no batch", "14"]),
        (
            lambda d: DataLoader(d, sampler=WeightedRandomSampler((~PLAN.mask(0)).tolist(), N)),
            ["WeightedRandomSampler", "weight 0"],
        ),
    ],
)
def test_loaders_that_cannot_be_subset(loader, words) -> None:
    with pytest.raises(UnsupportedDataError) as caught:
        fit(SubsetDataModule(Data(loader), PLAN, 0))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_wrong_arguments() -> None:
    cases = [
        (lambda: SubsetDataModule(examples(), PLAN, 0), ["datamodule=<TensorDataset>", "from_datasets"]),
        (lambda: SubsetDataModule(shuffled(examples()), PLAN, 0), ["datamodule=<DataLoader>"]),
        (lambda: SubsetDataModule(Data, PLAN, 0), ["datamodule=<class", "Data(...)"]),
        (lambda: SubsetDataModule(None, PLAN, 0), ["datamodule=None"]),
        (lambda: SubsetDataModule(Data(), 0.7, 0), ["plan=0.7", "SubsetPlan"]),
        (lambda: SubsetDataModule(Data(), PLAN, -1), ["model_id=-1"]),
        (lambda: SubsetDataModule(DataSource(Data(), seed=0), PLAN, 0, eval_dataset=examples()), ["eval_dataset"]),
        (lambda: fit(SubsetDataModule(Data(), SubsetPlan(10), 0)), ["plan", "n_examples=10", f"SubsetPlan({N}"]),
    ]
    for call, words in cases:
        with pytest.raises(ArgumentError) as caught:
            call()
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_empty_subset() -> None:
    plan = SubsetPlan(2, subset_fraction=0.1, design="bernoulli")
    empty = next(k for k in range(100) if not plan.mask(k).any())
    with pytest.raises(
        ArgumentError,
        match=rf"model_id={empty}: .*its subset is empty \(design='bernoulli'\)",
    ):
        SubsetDataModule(Data(), plan, empty)


def test_a_module_without_a_training_loader() -> None:
    with pytest.raises(UnsupportedDataError, match=r"LightningDataModule has no train_dataloader\(\)"):
        fit(SubsetDataModule(LightningDataModule(), PLAN, 0))


def test_the_other_lightning_package_is_named() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import pytorch_lightning\n"
        "from lightning_memaudit import SubsetDataModule, SubsetPlan\n"
        "class Old(pytorch_lightning.LightningDataModule): pass\n"
        "try: SubsetDataModule(Old(), SubsetPlan(10), 0)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    assert finished(code).startswith(
        "ArgumentError datamodule=<Old>: a LightningDataModule of lightning.pytorch is needed, not of"
    )


# The way out


def test_a_factory_for_a_custom_sampler() -> None:
    def factory(dataset):
        return DataLoader(dataset, batch_size=4, sampler=Backwards(dataset))

    dm = SubsetDataModule(Data(factory), PLAN, 0, train_loader_factory=factory)
    inside = fit(dm, max_epochs=1)
    assert inside.seen == ROWS[::-1].tolist()
    assert same_weights(inside, fit(factory(Subset(examples(), ROWS.tolist())), max_epochs=1))
    (scored,) = dm.source.scoring_loaders().values()
    assert [row for batch in scored for row in batch[2].tolist()] == list(range(N))


@pytest.mark.parametrize("factory", [batches, OwnLoader])
def test_a_factory_for_other_loaders(factory) -> None:
    dm = SubsetDataModule(Data(factory), PLAN, 0, train_loader_factory=factory)
    assert sorted(fit(dm, max_epochs=1).seen) == ROWS.tolist()
    scored = list(dm.source.scoring_loaders()["train"])
    assert [row for batch in scored for row in batch[2].tolist()] == list(range(N))
    assert len(scored[0][2]) == (5 if factory is batches else 1)


def test_a_factory_for_several_loaders() -> None:
    def factory(dataset):
        unlabelled = TensorDataset(torch.zeros(3, 1))
        return CombinedLoader({"other": DataLoader(unlabelled), "main": DataLoader(dataset, batch_size=4)}, "max_size")

    class Both(Net):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch["main"], batch_idx) if batch["main"] is not None else None

    base = Data(factory)
    dm = SubsetDataModule(base, PLAN, 0, train_loader_factory=factory, eval_dataset=lambda data: data.dataset)
    assert sorted(fit(dm, net=Both, max_epochs=1).seen) == ROWS.tolist()
    (scored,) = dm.source.scoring_loaders().values()
    assert [row for batch in scored for row in batch[2].tolist()] == list(range(N))
    with pytest.raises(UnsupportedDataError, match="CombinedLoader, which does not tell the training examples"):
        fit(SubsetDataModule(base, PLAN, 0, train_loader_factory=factory), net=Both)


def test_scoring_during_training_changes_no_weights() -> None:
    class Scoring(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            for loader in trainer.datamodule.source.scoring_loaders().values():
                assert loader.batch_size == 4

    assert same_weights(
        fit(SubsetDataModule(Data(), PLAN, 0), callbacks=[Scoring()]), fit(SubsetDataModule(Data(), PLAN, 0))
    )


class Wrapper(torch.utils.data.Dataset):
    def __init__(self, inner) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i):
        return self.inner[i]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: Wrapper(Wrapper(rows)),
        lambda rows: Subset(Wrapper(rows), range(5)),
        lambda rows: ConcatDataset([TensorDataset(torch.zeros(3, 1)), Wrapper(rows)]),
        lambda rows: Subset(rows.dataset, rows.indices * 2),
    ],
)
def test_a_factory_may_wrap_the_rows(wrap) -> None:
    for several in (lambda x: x, lambda x: [x], lambda x: {"a": x}, lambda x: CombinedLoader([[x]])):
        made = SubsetDataModule(
            Data(), PLAN, 0, train_loader_factory=lambda rows, put=several: put(DataLoader(wrap(rows)))
        ).train_dataloader()
        assert made is not None


@pytest.mark.parametrize(
    "other",
    [
        lambda rows, own: DataLoader(own),
        lambda rows, own: DataLoader(rows.dataset, sampler=SequentialSampler(rows)),
        lambda rows, own: [DataLoader(own), DataLoader(Wrapper(own))],
        lambda rows, own: CombinedLoader({"a": DataLoader(ConcatDataset([own, own]))}),
        lambda rows, own: DataLoader(Subset(rows.dataset, range(N))),
        lambda rows, own: None,
    ],
)
def test_a_factory_that_ignores_the_rows_is_refused(other) -> None:
    data = Data()
    dm = SubsetDataModule(data, PLAN, 0, train_loader_factory=lambda rows: other(rows, data.dataset))
    with pytest.raises(
        UnsupportedDataError, match=rf"f\(dataset\) must build its DataLoader over the {len(ROWS)} rows"
    ):
        fit(dm)


class Normalised(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))


def test_a_last_batch_of_one_that_only_the_subset_leaves_is_told_once() -> None:
    batch_size = len(ROWS) - 1

    def loader(dataset, **options):
        return DataLoader(dataset, batch_size=batch_size, **options)

    def attach(net, make=loader):
        dm = SubsetDataModule(Data(make), PLAN, 0)
        dm.trainer = SimpleNamespace(lightning_module=net)
        return dm

    _warned_of_one.clear()
    attach(Net()).train_dataloader()
    attach(Normalised(), lambda data: loader(data, drop_last=True)).train_dataloader()
    attach(Normalised(), lambda data: DataLoader(data, batch_size=1)).train_dataloader()
    with pytest.warns(
        UserWarning, match=f"batch_size={batch_size}: the {len(ROWS)} .* last batch of 1.*drop_last=True"
    ):
        attach(Normalised()).train_dataloader()
    attach(Normalised()).train_dataloader()
    _warned_of_one.clear()
    with pytest.warns(UserWarning, match="last batch of 1"), pytest.raises(ValueError, match="more than 1 value"):
        fit(SubsetDataModule(Data(loader), PLAN, 0), net=Normalised)
