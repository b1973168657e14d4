"""Examples are read once for training and scoring, as far as that is right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_memaudit import OutcomeStore
from lightning_memaudit.data.equality import equal
from lightning_memaudit.data.rows import CollatedRows, InMemoryLoader, NotInMemoryError, TensorRows
from lightning_memaudit.exceptions import UnsupportedDataError
from lightning_memaudit.training.engines.in_memory.data import read_into_memory
from lightning_memaudit.training.factories import data_factory, model_factory, trainer_recipe
from lightning_memaudit.training.population import Recipe, prepare_population
from lightning_memaudit.training.run import Run
from tests.helpers import zoo
from tests.helpers.engines import PLAN, assert_identical, by_trainer, in_memory, run_of


class Noisy(Dataset[Any]):
    """Random augmentation of the examples."""

    def __init__(self, n: int = zoo.N) -> None:
        self.x, self.y = zoo.examples(n)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.x[index] + torch.randn(zoo.FEATURES), self.y[index]


class NoisyTest(zoo.Data):
    def test_dataloader(self) -> Any:
        return DataLoader(Noisy(20), batch_size=5)


def with_recipe(data: Any, **options: Any) -> Run:
    trainer = trainer_recipe({"max_epochs": 1, "accelerator": "cpu"})
    recipe = Recipe(model_factory(zoo.Net, None), data_factory(data), trainer, **options)
    return Run(prepare_population(recipe, 0), PLAN, OutcomeStore("memory://rows"))


def test_training_examples_are_scored_from_the_same_memory() -> None:
    run = run_of(zoo.Net)
    data = read_into_memory(run.population)
    assert isinstance(data.train, TensorRows)
    assert data.scoring["train"].rows is data.train
    assert isinstance(data.scoring["test"], InMemoryLoader)
    for split, loader in run.population.source.scoring_loaders().items():
        assert data.scoring[split].batch_size == loader.batch_size
        assert equal(list(data.scoring[split]), list(loader))


@pytest.mark.filterwarnings("ignore:the examples of split 'test' differ each time")
def test_a_split_that_cannot_be_kept_keeps_its_loader() -> None:
    run = run_of(zoo.Net, data=NoisyTest)
    data = read_into_memory(run.population)
    assert isinstance(data.scoring["train"], InMemoryLoader)
    assert isinstance(data.scoring["test"], DataLoader)
    assert_identical(in_memory(run), by_trainer(run))


def test_only_the_splits_that_are_scored_are_read() -> None:
    assert set(read_into_memory(with_recipe(zoo.Data, splits=["train"]).population).scoring) == {"train"}


def test_examples_that_are_scored_otherwise_are_read_besides() -> None:
    x, y = zoo.examples()
    run = with_recipe(zoo.Data, eval_dataset=TensorDataset(x + 1, y))
    data = read_into_memory(run.population)
    assert data.scoring["train"].rows is not data.train
    both = torch.arange(2)
    assert torch.equal(data.scoring["train"].rows.batch(both)[0], data.train.batch(both)[0] + 1)


def test_rows_that_another_process_read_are_taken() -> None:
    run = run_of(zoo.Net)
    rows = read_into_memory(run.population).train
    data = read_into_memory(run.population, train=rows)
    assert data.train is rows
    assert data.scoring["train"].rows is rows


def test_a_collate_of_its_own_is_kept() -> None:
    data = read_into_memory(run_of(zoo.Net, data=lambda: zoo.Data(collate_fn=zoo.collate_centred)).population)
    assert isinstance(data.train, CollatedRows)
    assert data.scoring["train"].rows is data.train
    assert isinstance(data.scoring["test"].rows, TensorRows)


def test_augmented_training_examples_are_refused() -> None:
    with pytest.raises(NotInMemoryError, match="augmentation"):
        read_into_memory(run_of(zoo.Net, data=lambda: zoo.Data(Noisy())).population)


def test_loaders_of_a_factory_are_refused() -> None:
    run = with_recipe(zoo.Data, train_loader_factory=lambda dataset: DataLoader(dataset, batch_size=8))
    with pytest.raises(NotInMemoryError, match="train_loader_factory"):
        read_into_memory(run.population)


def test_loaders_that_cannot_be_rebuilt_are_refused() -> None:
    class Unbatched(zoo.Data):
        def train_dataloader(self) -> Any:
            return DataLoader(self.dataset, batch_size=None)

    run = with_recipe(zoo.Data, eval_dataset=None)
    run.population.source.datamodule = Unbatched()
    with pytest.raises(UnsupportedDataError, match="batch_size=None"):
        read_into_memory(run.population)
