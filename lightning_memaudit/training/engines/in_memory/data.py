"""The examples of a population, read once into the memory of this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_memaudit.data.rows import InMemoryLoader, NotInMemoryError, Rows, materialise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.training.task import Population

__all__ = ["InMemoryData", "read_into_memory"]


@dataclass(frozen=True, slots=True, eq=False)
class InMemoryData:
    """What models are trained and scored on.

    Attributes:
        train: All training examples.
        scoring: Goes through the examples of each split; a split that cannot be kept in memory has its DataLoader.
    """

    train: Rows
    scoring: Mapping[str, Any]


def read_into_memory(population: Population, *, train: Rows | None = None) -> InMemoryData:
    """Read the training examples, and those that are scored, once.

    Args:
        population: Whose data are set up.
        train: The training examples, where another process has read them for this one.

    Raises:
        NotInMemoryError: The training examples are too large, or random.
        UnsupportedDataError: There is no plain training loader.
    """
    source = population.source
    if source.train_loader_factory is not None:
        raise NotInMemoryError("train_loader_factory, whose loaders may draw and collate in their own way")
    train_loader = source.train_loader()
    train = materialise(train_loader, seed=population.seed) if train is None else train
    scoring: dict[str, Any] = {}
    for split, loader in source.scoring_loaders(population.recipe.splits).items():
        same = loader.dataset is train_loader.dataset and loader.collate_fn is train_loader.collate_fn
        try:
            rows = train if same else materialise(loader, seed=population.seed)
            scoring[split] = InMemoryLoader(rows, loader.batch_size or 1)
        except NotInMemoryError:
            scoring[split] = loader
    return InMemoryData(train, scoring)
