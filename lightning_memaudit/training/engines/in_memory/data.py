"""Reads the examples of a population into the memory of this process, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_memaudit.data.rows import InMemoryData, InMemoryLoader, NotInMemoryError, materialise

if TYPE_CHECKING:
    from lightning_memaudit.data.rows import Rows
    from lightning_memaudit.training.population import Population

__all__ = ["read_into_memory"]


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
