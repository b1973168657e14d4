"""What all models of one recipe share in one process: data that are set up once, and what is known of them."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lightning_memaudit.data.randomness import seeded
from lightning_memaudit.data.source import DataSource
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.outcomes.examples import Examples, Groups, describe_splits
from lightning_memaudit.outcomes.identity import fixed_weights_digest
from lightning_memaudit.outcomes.scoring import find_score_function
from lightning_memaudit.training.factories import as_given
from lightning_memaudit.treatments.baseline import Baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from lightning.pytorch import LightningDataModule, LightningModule
    from torch.utils.data import DataLoader, Dataset

    from lightning_memaudit.training.factories import TrainerRecipe
    from lightning_memaudit.treatments.base import Regime, Treatment

__all__ = ["Population", "Recipe", "prepare_population", "silenced"]

_LIGHTNING_LOGGERS = (
    "lightning",
    "lightning.pytorch",
    "lightning.fabric",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that makes a model of the population, but for its number.

    Attributes:
        model: Gives a fresh module.
        data: Gives the data module.
        trainer: Gives a fresh Trainer.
        score_fn: Score function or its name.
        splits: Splits to score; None takes every one.
        groups: Groupings by name.
        eval_dataset: Training examples as they are scored.
        train_loader_factory: Makes training loaders that cannot be rebuilt.
        executor: Name of the executor that trains the models, for the manifest.
        treatment: What is done to the models.
        arm: The arm of their shards.
        regime: How baseline models are trained, for the treatment.
        made_from: The arm of the trained models that these are made from; empty where they are trained anew.
        keep_weights: The models whose trained weights are kept.
    """

    model: Callable[[], LightningModule]
    data: Callable[[], LightningDataModule]
    trainer: TrainerRecipe
    score_fn: Any = "multiclass"
    splits: Sequence[str] | None = None
    groups: Groups | None = None
    eval_dataset: Any = None
    train_loader_factory: Callable[[Dataset[Any]], DataLoader[Any]] | None = None
    executor: str = "sequential"
    treatment: Treatment = field(default_factory=Baseline)
    arm: str = BASELINE
    regime: Regime | None = None
    made_from: str = ""
    keep_weights: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """A recipe whose data are set up in this process; ``prepare_population`` makes it.

    Attributes:
        recipe: The recipe.
        given: The recipe as it was before the data were set up, for another process to set them up itself.
        seed: Seed of the plan, under which the data were set up.
        source: The data.
        initial_weights: Digest of the initial weights that do not depend on the seed.
    """

    recipe: Recipe
    given: Recipe
    seed: int
    source: DataSource
    initial_weights: str
    _examples: dict[str, Examples] = field(default_factory=dict, repr=False)  # filled when first asked for

    def examples(self, units: npt.NDArray[np.int64] | None = None) -> Mapping[str, Examples]:
        """The examples of every split, read once."""
        if not self._examples:
            self._examples.update(
                describe_splits(
                    self.source.scoring_loaders(self.recipe.splits),
                    find_score_function(self.recipe.score_fn),
                    seed=self.seed,
                    groups=self.recipe.groups,
                    units=units,
                )
            )
        return self._examples

    def of_arm(self, **changes: Any) -> Population:
        """The population of another arm, which shares the data.

        Args:
            **changes: What differs in the recipe.
        """
        return replace(
            self,
            recipe=replace(self.recipe, **changes),
            given=replace(self.given, **changes),
            _examples={} if {"splits", "groups"} & set(changes) else self._examples,
        )


def prepare_population(recipe: Recipe, seed: int) -> Population:
    """Set the data of a recipe up, once for all its models in this process.

    Args:
        recipe: The recipe.
        seed: Seed of the plan, under which the data are set up.

    Raises:
        ConfigurationError: The model callable returns the same module, or shared parameters, each time.
    """
    with seeded(seed):
        datamodule = recipe.data()
    given = replace(recipe, data=as_given(recipe.data))
    source = DataSource(
        datamodule, seed=seed, eval_dataset=recipe.eval_dataset, train_loader_factory=recipe.train_loader_factory
    )
    with silenced():
        if datamodule.trainer is None:
            datamodule.trainer = recipe.trainer.make(extra=[], validate=True)
        source.prepare_data()
        source.setup("fit")
    return Population(recipe, given, seed, source, _fixed_weights(recipe, seed))


@contextmanager
def silenced() -> Iterator[None]:
    """Keep Lightning's own messages of a subset model out of sight."""
    loggers = [logging.getLogger(name) for name in _LIGHTNING_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.(pytorch|fabric)\b.*")
            warnings.filterwarnings("ignore", message="'pin_memory' argument")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _fixed_weights(recipe: Recipe, seed: int) -> str:
    modules = []
    for each in (seed, seed + 1):
        with seeded(each):
            modules.append(recipe.model())
    first, second = modules
    shared = {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    if first is second or shared:
        raise ConfigurationError(
            f"model={_name_of(recipe.model)}: it returns the same module (or shared parameters) each time, so that "
            "models would go on from each other's weights; build a new one in it, or pass the instance with init='copy'"
        )
    return fixed_weights_digest(first, second)


def _name_of(make: Any) -> str:
    return str(getattr(make, "__qualname__", None) or type(make).__name__)
