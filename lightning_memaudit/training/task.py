"""Train and score ONE model of the population: a pure function of recipe, plan and model number."""

from __future__ import annotations

import copy
import itertools
import logging
import signal
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lightning.pytorch import seed_everything

from lightning_memaudit.callbacks.passive import PASSIVE_CALLBACKS
from lightning_memaudit.callbacks.recording import (
    Recorder,
    Recording,
    StopAfterFirstBatch,
    StoppedAfterFirstBatch,
)
from lightning_memaudit.callbacks.trained_weights import TrainedWeights
from lightning_memaudit.data.datamodule import SubsetDataModule
from lightning_memaudit.data.randomness import preserved_randomness, seeded
from lightning_memaudit.data.source import DataSource
from lightning_memaudit.exceptions import ConfigurationError, MemauditError, MissingDataError, TrainingError
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.outcomes.examples import Examples, Groups, describe_splits
from lightning_memaudit.outcomes.identity import fixed_weights_digest
from lightning_memaudit.outcomes.scoring import find_score_function
from lightning_memaudit.training.engines.in_memory.loop import InMemoryLoop
from lightning_memaudit.training.engines.support import NotHonoured
from lightning_memaudit.training.factories import as_given
from lightning_memaudit.treatments.baseline import Baseline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
    from torch.utils.data import DataLoader, Dataset

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.engines.choice import Decision
    from lightning_memaudit.training.engines.in_memory.data import InMemoryData
    from lightning_memaudit.training.factories import TrainerRecipe
    from lightning_memaudit.treatments.base import Regime, Treatment

__all__ = ["Length", "Population", "Recipe", "first_model", "fit", "one_model", "probe", "silenced", "train_model"]

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
        executor: The executor that runs the recipe.
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


@dataclass(frozen=True, slots=True)
class Length:
    """How long a model trains.

    Attributes:
        batches: In all; None where training has no end of its own.
        batches_per_epoch: In an epoch; None where it has no fixed number.
        max_steps: Optimizer steps at which training ends, whatever the epochs; None where there is no such limit.
    """

    batches: int | None
    batches_per_epoch: int | None
    max_steps: int | None = None


@dataclass(slots=True)
class Population:
    """What all models of one recipe share in one process: data that were set up once, and what is known of them.

    Args:
        recipe: The recipe.
        seed: Seed of the plan, under which the data are set up.
    """

    recipe: Recipe
    seed: int
    source: DataSource = field(init=False)
    validate: bool = field(init=False, default=True)
    initial_weights: str = field(init=False, default="")
    length: Length = field(init=False, default_factory=lambda: Length(None, None))
    decision: Decision | None = field(init=False, default=None)
    _given: Recipe = field(init=False)
    _examples: dict[str, Examples] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        with seeded(self.seed):
            datamodule = self.recipe.data()
        self._given = replace(self.recipe, data=as_given(self.recipe.data))
        self.source = DataSource(
            datamodule,
            seed=self.seed,
            eval_dataset=self.recipe.eval_dataset,
            train_loader_factory=self.recipe.train_loader_factory,
        )
        with silenced():
            if datamodule.trainer is None:
                datamodule.trainer = self.recipe.trainer.make(extra=[], validate=True)
            self.source.prepare_data()
            self.source.setup("fit")
        self.initial_weights = self._fixed_weights()

    def examples(self, units: npt.NDArray[np.int64] | None = None) -> Mapping[str, Examples]:
        """The examples of every split, read once."""
        if not self._examples:
            self._examples |= describe_splits(
                self.source.scoring_loaders(self.recipe.splits),
                find_score_function(self.recipe.score_fn),
                seed=self.seed,
                groups=self.recipe.groups,
                units=units,
            )
        return self._examples

    def as_given(self) -> Recipe:
        """The recipe as it was before the data were set up, for another process to set them up itself."""
        return self._given

    def of_arm(self, **changes: Any) -> Population:
        """The population of another arm, which shares the data.

        Args:
            **changes: What differs in the recipe.
        """
        twin = copy.copy(self)
        twin.recipe, twin._given = replace(self.recipe, **changes), replace(self._given, **changes)
        twin.decision = None
        if {"splits", "groups"} & set(changes):
            twin._examples = {}
        return twin

    def _fixed_weights(self) -> str:
        modules = []
        for seed in (self.seed, self.seed + 1):
            with seeded(seed):
                modules.append(self.recipe.model())
        first, second = modules
        shared = {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
        if first is second or shared:
            raise ConfigurationError(
                "model: the callable returns the same module (or shared parameters) each time, so that models would "
                "go on from "
                "each other's weights; build a new one in it, or pass the instance with init='copy'"
            )
        return fixed_weights_digest(first, second)


def probe(population: Population, plan: SubsetPlan, store: OutcomeStore, *, notes: Sequence[str] = ()) -> Length:
    """Build the first model, open the store or refuse to mix, and take one batch through training and scoring.

    Returns:
        How long a model trains.

    Raises:
        MismatchError: The store belongs to something else.
        TrainingError: The user's code failed.
    """
    first = first_model(plan)
    recorder = _recorder(population, plan, first, store, notes=notes)
    with one_model(first):
        trainer = fit(population, plan, first, [recorder, StopAfterFirstBatch(recorder.recording)], validate=True)
    per_epoch = trainer.num_training_batches
    population.validate = _monitors_validation(trainer)
    population.length = Length(
        _planned_batches(trainer),
        None if per_epoch == float("inf") else int(per_epoch),
        trainer.max_steps if trainer.max_steps >= 0 else None,
    )
    return population.length


def first_model(plan: SubsetPlan) -> int:
    """The first model whose subset is not empty."""
    return next(k for k in itertools.count() if plan.mask(k).any())


def train_model(
    population: Population,
    plan: SubsetPlan,
    model_id: int,
    store: OutcomeStore,
    *,
    notes: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    data: InMemoryData | None = None,
) -> Trainer:
    """Train and score one model and write its shard.

    Args:
        population: Shared by all models in this process.
        plan: The subset plan.
        model_id: Which model.
        store: Where its shard goes.
        notes: For the manifest.
        callbacks: Attached besides the user's own.
        data: The examples in memory; with them the model is trained by ``InMemoryLoop``.

    Raises:
        TrainingError: The user's code failed; what is stored is kept.
        KeyboardInterrupt: Ctrl-C.
    """
    recorder = _recorder(population, plan, model_id, store, notes=notes, data=data)
    loop = [] if data is None else [InMemoryLoop(data.train)]
    start = _trained_weights(population, model_id, store)
    with one_model(model_id):
        return fit(
            population,
            plan,
            model_id,
            [*start, *callbacks, recorder, *loop],
            validate=population.validate,
            in_process=data is not None,
        )


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


def _trained_weights(population: Population, model_id: int, store: OutcomeStore) -> list[Callback]:
    recipe = population.recipe
    if not recipe.made_from:
        return []
    tensors = store.weights(model_id, recipe.made_from)
    if tensors is None:
        raise MissingDataError(
            f"store={store.url!r} has no weights of model {model_id} of arm {recipe.made_from!r}, which arm "
            f"{recipe.arm!r} is made from; run the audit again"
        )
    return [TrainedWeights(tensors, goes_on=recipe.treatment.trains)]


def _recorder(
    population: Population,
    plan: SubsetPlan,
    model_id: int,
    store: OutcomeStore,
    *,
    notes: Sequence[str],
    data: InMemoryData | None = None,
) -> Recorder:
    recording = Recording(
        store,
        score_fn=population.recipe.score_fn,
        splits=population.recipe.splits,
        arm=population.recipe.arm,
        transform=population.recipe.treatment.transform,
        made_from=population.recipe.made_from,
        keep_weights=model_id in population.recipe.keep_weights,
        examples=population.examples(plan.units),
        loaders=None if data is None else data.scoring,
        initial_weights=population.initial_weights,
        executor=population.recipe.executor,
        notes=notes,
    )
    return Recorder(recording)


def fit(
    population: Population,
    plan: SubsetPlan,
    model_id: int,
    callbacks: list[Callback],
    *,
    validate: bool,
    in_process: bool = False,
) -> Trainer:
    """Fit one model; whatever the user's code or a callback raises comes out.

    Args:
        population: Shared by all models in this process.
        plan: The subset plan.
        model_id: Which model.
        callbacks: Attached besides the user's own.
        validate: Whether the Trainer validates as its arguments say; else not at all.
        in_process: Leave out the worker processes of the training loader.
    """
    handler = signal.getsignal(signal.SIGINT)
    with preserved_randomness(), silenced():
        trainer = _trainer(population.recipe, callbacks, validate=validate)
        seed_everything(plan.model_seed(model_id), verbose=False)
        pl_module = population.recipe.model()
        datamodule = SubsetDataModule(population.source, plan, model_id)
        try:
            trainer.fit(pl_module, datamodule=datamodule.in_process() if in_process else datamodule)
        except StoppedAfterFirstBatch:
            if not any(isinstance(callback, StopAfterFirstBatch) for callback in callbacks):
                raise
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning ends the process on Ctrl-C
                raise KeyboardInterrupt from None
            raise RuntimeError(f"it called sys.exit({stop.code!r})") from stop
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
    return trainer


def _trainer(recipe: Recipe, callbacks: list[Callback], *, validate: bool) -> Trainer:
    if recipe.regime is None:
        return recipe.trainer.make(extra=callbacks, validate=validate)
    changes = dict(recipe.treatment.trainer_arguments(recipe.regime))
    treating = list(recipe.treatment.callbacks(recipe.regime))
    trainer = recipe.trainer.make(extra=[*treating, *callbacks], validate=validate, changes=changes)
    if recipe.made_from:
        first = [*(callback for callback in callbacks if isinstance(callback, TrainedWeights)), *treating]
        rest = [callback for callback in trainer.callbacks if callback not in first]  # type: ignore[attr-defined]
        if not recipe.treatment.trains:  # what the user's callbacks do was done to the trained model
            rest = [callback for callback in rest if callback in callbacks or isinstance(callback, PASSIVE_CALLBACKS)]
        trainer.callbacks = [*first, *rest]  # type: ignore[attr-defined]
    return trainer


@contextmanager
def one_model(model_id: int) -> Iterator[None]:
    """Say which model it was when the user's code fails."""
    try:
        yield
    except (MemauditError, NotHonoured):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise TrainingError(
            f"model {model_id} failed in your code: {reason}. What is stored is kept; mend it and run again"
        ) from error


def _planned_batches(trainer: Trainer) -> int | None:
    """Batches until ``max_epochs`` or ``max_steps`` (optimizer steps), whichever comes first."""
    limits = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs * trainer.num_training_batches)
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches)
    return int(min(limits)) if limits and min(limits) != float("inf") else None


def _monitors_validation(trainer: Trainer) -> bool:
    callbacks = any(getattr(callback, "monitor", None) is not None for callback in trainer.callbacks)  # type: ignore[attr-defined]
    return callbacks or any(config.reduce_on_plateau for config in trainer.lr_scheduler_configs)
