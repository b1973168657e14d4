"""What is scored: every row of every split, once, in the order of the data set."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_memaudit.data.source import DataSource
from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError
from lightning_memaudit.outcomes.fields import find_target
from tests.unit.data.toys import Data, N, examples, shuffled


class Splits(Data):
    """Validation and test loaders are what it is given."""

    def __init__(self, val=None, test=None) -> None:
        super().__init__()
        self.val, self.test = val, test
        self.stages: list[str | None] = []

    def setup(self, stage=None):
        self.stages.append(stage)

    def val_dataloader(self):
        return self.val

    def test_dataloader(self):
        return self.test


def source(*loaders, **arguments) -> DataSource:
    return DataSource(Splits(*loaders), seed=0, **arguments)


def rows(loader) -> list[int]:
    return [row for batch in loader for row in batch[2].tolist()]


def test_everything_in_order_and_nothing_dropped() -> None:
    messy = DataLoader(examples(11), batch_size=3, shuffle=True, drop_last=True)
    loaders = source(messy, DataLoader(examples(5), batch_size=2)).scoring_loaders()
    assert {split: rows(loader) for split, loader in loaders.items()} == {
        "train": list(range(N)),
        "val": list(range(11)),
        "test": list(range(5)),
    }
    assert {split: loader.batch_size for split, loader in loaders.items()} == {"train": 4, "val": 3, "test": 2}


def test_workers_that_answer_out_of_order() -> None:
    loader = DataLoader(examples(9), batch_size=2, num_workers=2, persistent_workers=True, in_order=False)
    scored = source(loader).scoring_loaders(["val"])["val"]
    assert scored.in_order
    assert scored.num_workers == 2
    assert not scored.persistent_workers
    assert rows(scored) == list(range(9))


@pytest.mark.parametrize(
    ("loaders", "names"),
    [
        (None, []),
        ([], []),
        ({}, []),
        ([shuffled(examples(5))], ["val"]),
        ((shuffled(examples(5)), shuffled(examples(6))), ["val-0", "val-1"]),
        ({"easy": shuffled(examples(5)), "hard": shuffled(examples(6))}, ["val-easy", "val-hard"]),
        (CombinedLoader([shuffled(examples(5)), shuffled(examples(6))]), ["val-0", "val-1"]),
        (CombinedLoader(shuffled(examples(5))), ["val"]),
        (DataLoader(Subset(examples(), []), batch_size=2), []),
    ],
)
def test_kinds_of_validation_loaders(loaders, names) -> None:
    scored = source(loaders).scoring_loaders()
    assert list(scored) == ["train", *names]
    assert [len(loader.dataset) for loader in scored.values()][1:] == [5, 6][: len(names)]


def test_splits_are_chosen_by_name() -> None:
    data = source([shuffled(examples(5)), shuffled(examples(6))], shuffled(examples(7)))
    assert list(data.scoring_loaders(["val-1", "train"])) == ["val-1", "train"]
    assert list(data.scoring_loaders(("test",))) == ["test"]
    assert list(data.scoring_loaders("test")) == ["test"]
    for wrong in (["val"], ["validation"], ["val-2"], [], ["train", "holdout"]):
        with pytest.raises(ArgumentError) as caught:
            data.scoring_loaders(wrong)
        message = str(caught.value)
        assert f"splits={wrong!r}" in message
        assert "there is train, val-0, val-1, test" in message
    with pytest.raises(ArgumentError, match="the data module Splits has no 'test'; there is train, val"):
        source(shuffled(examples(5))).scoring_loaders(["test"])


def test_a_split_that_is_not_asked_for_may_be_anything() -> None:
    data = source([1, 2], object())
    assert list(data.scoring_loaders(["train"])) == ["train"]
    with pytest.raises(UnsupportedDataError, match=r"val_dataloader\(\) gives a int; .*splits="):
        data.scoring_loaders()


def test_stages_are_set_up_once() -> None:
    data = source(shuffled(examples(5)), shuffled(examples(6)))
    assert data.datamodule.stages == []
    data.scoring_loaders(["val"])
    assert data.datamodule.stages == ["validate"]
    for _ in range(2):
        data.scoring_loaders()
    assert data.datamodule.stages == ["validate", "fit", "test"]
    data.teardown("fit")
    data.setup("test")
    assert data.datamodule.stages[3:] == ["test"]
    fitted = source(shuffled(examples(5)))
    fitted.setup("fit")
    fitted.scoring_loaders(["val"])
    assert fitted.datamodule.stages == ["fit"]


def test_data_are_prepared_once() -> None:
    class Downloading(Data):
        downloads = 0

        def prepare_data(self):
            self.downloads += 1

    data = DataSource(Downloading(), seed=0)
    data.prepare_data()
    data.prepare_data()
    assert data.datamodule.downloads == 1


# Samplers of evaluation loaders


class Fifth(Sampler):
    def __len__(self) -> int:
        return 2

    def __iter__(self):
        return iter([0, 5])


def test_a_sampler_that_holds_the_split_is_respected() -> None:
    """The common split by SubsetRandomSampler over the whole data set: validation rows only are scored."""
    loader = DataLoader(examples(10), batch_size=2, sampler=SubsetRandomSampler(torch.tensor([7, 1, 4])))
    scored = source(loader).scoring_loaders()["val"]
    assert rows(scored) == [7, 1, 4]


@pytest.mark.parametrize(
    "sampler",
    [
        WeightedRandomSampler([1.0] * 10, 3),
        torch.utils.data.DistributedSampler(examples(10), num_replicas=2, rank=0),
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ],
)
def test_samplers_over_all_rows(sampler) -> None:
    loader = DataLoader(examples(10), batch_size=2, sampler=sampler)
    assert rows(source(loader).scoring_loaders()["val"]) == list(range(10))


@pytest.mark.parametrize("sampler", [Fifth(), SequentialSampler(range(4)), [1, 2], WeightedRandomSampler([1.0] * 4, 4)])
def test_samplers_that_hide_their_rows(sampler) -> None:
    loader = DataLoader(examples(10), batch_size=2, sampler=sampler)
    with pytest.raises(UnsupportedDataError) as caught:
        source(loader).scoring_loaders()
    message = str(caught.value)
    for word in ("val_dataloader()", type(sampler).__name__, "10 rows", "Subset(dataset, indices)", "splits="):
        assert word in message


class Stream(IterableDataset):
    def __iter__(self):
        return iter(examples())


def test_evaluation_loaders_without_rows() -> None:
    own = DataLoader(examples(), batch_sampler=BatchSampler(SequentialSampler(examples()), 3, drop_last=False))
    for loader, words in (
        (DataLoader(Stream(), batch_size=2), ["val_dataloader()", "IterableDataset"]),
        (DataLoader(examples(), batch_size=None), ["val_dataloader()", "batch_size=", "splits="]),
        (own, ["val_dataloader()", "batch_size="]),
    ):
        with pytest.raises(UnsupportedDataError) as caught:
            source(loader).scoring_loaders()
        assert all(word in str(caught.value) for word in words), str(caught.value)


# Evaluation data sets


def test_an_evaluation_data_set_is_scored_instead() -> None:
    plain = examples()
    for given in (plain, lambda dm: plain):
        (train,) = source(eval_dataset=given).scoring_loaders().values()
        assert train.dataset is plain
        assert rows(train) == list(range(N))


def test_an_evaluation_data_set_of_another_length() -> None:
    with pytest.raises(ArgumentError, match=f"eval_dataset=<TensorDataset>: the {N} examples .* it has 10"):
        source(eval_dataset=examples(10)).scoring_loaders()
    with pytest.raises(ArgumentError, match=f"eval_dataset=<TensorDataset>: the {N} examples .* it has 10"):
        source(eval_dataset=examples(10), train_loader_factory=shuffled).scoring_loaders()
    with pytest.raises(UnsupportedDataError, match="eval_dataset is an IterableDataset"):
        source(eval_dataset=Stream()).scoring_loaders()


def test_a_factory_that_gives_no_loader() -> None:
    with pytest.raises(UnsupportedDataError, match="train_loader_factory gives a list without any torch DataLoader"):
        source(train_loader_factory=lambda dataset: []).scoring_loaders()


def test_splits_made_in_loaders_stay_the_same() -> None:
    class Late(LightningDataModule):
        def train_dataloader(self):
            return shuffled(torch.utils.data.random_split(examples(40), [N, 16])[0])

    data = DataSource(Late(), seed=3)
    first, second = (rows(data.scoring_loaders()["train"]) for _ in range(2))
    assert first == second
    assert sorted(first) != list(range(N))
    assert first != rows(DataSource(Late(), seed=4).scoring_loaders()["train"])


def compare(eval_dataset, trained=None, **options) -> None:
    data = Splits()
    data.dataset = trained or data.dataset
    DataSource(data, seed=0, eval_dataset=eval_dataset, **options).check_order(find_target)


def labelled(labels, column=None) -> TensorDataset:
    data = TensorDataset(torch.zeros(len(labels), 2), torch.as_tensor(labels))
    if column is not None:
        data.targets = column
    return data


def test_an_evaluation_data_set_in_another_order_is_refused() -> None:
    compare(None)
    compare(examples())
    compare(lambda dm: examples())
    with pytest.raises(ArgumentError, match=r"eval_dataset: row 0 has the label 2, .* it has 0: .*same order"):
        compare(Subset(examples(), range(N)[::-1]))
    with pytest.raises(ArgumentError, match="eval_dataset: row"):
        compare(Subset(examples(), [1, 0, *range(2, N)]), train_loader_factory=shuffled)


def test_rows_that_are_not_probed_are_found_by_a_column_of_labels() -> None:
    labels = torch.zeros(1000, dtype=torch.long)
    other = labels.clone()
    other[501] = 1
    compare(labelled(other), labelled(labels))  # not among the 64
    compare(labelled(labels, other.tolist()), labelled(labels, labels))  # samples decide
    with pytest.raises(ArgumentError, match=r"row 501 has the label 1, .* it has 0"):
        compare(labelled(other, other.tolist()), labelled(labels, labels))
    compare(labelled(labels, [torch.zeros(i % 3) for i in range(1000)]), labelled(labels, labels))


class Noisy(TensorDataset):
    def __getitem__(self, i):
        return self.tensors[0][i], torch.rand(())


def test_labels_that_cannot_be_compared_are_passed_over() -> None:
    labels = torch.arange(N) % 3
    onehot = torch.nn.functional.one_hot(labels).float()
    compare(labelled(onehot), labelled(labels))
    compare(labelled(onehot), labelled(onehot * 0.9 + 0.03))
    compare(labelled(labels), Noisy(torch.zeros(N, 1)))
    compare(TensorDataset(torch.zeros(N, 1)), labelled(labels))
    with pytest.raises(ArgumentError, match="row 0"):
        compare(labelled(onehot.flip(0)), labelled(onehot))


def test_comparing_moves_no_global_randomness() -> None:
    state = torch.get_rng_state()
    compare(examples(), Noisy(torch.zeros(N, 1)))
    assert torch.equal(state, torch.get_rng_state())
