"""Train and score ONE model of the population: a pure function of a run and the number of the model."""

from __future__ import annotations

import itertools
import signal
import threading
from contextlib import contextmanager
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
from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.exceptions import MemauditError, MissingDataError, TrainingError
from lightning_memaudit.training.population import silenced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lightning.pytorch import Callback, Trainer

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.training.population import Recipe
    from lightning_memaudit.training.run import Run

__all__ = ["Signal", "first_model", "fit", "one_model", "recording_of", "train_model"]


class Signal(Exception):  # noqa: N818 - a message of ours on its way out of a fit, not an error
    """Raised out of ``Trainer.fit`` by whatever takes the place of its loop; no error of the user's code."""


def first_model(plan: SubsetPlan) -> int:
    """The first model whose subset is not empty."""
    return next(k for k in itertools.count() if plan.mask(k).any())


def train_model(
    run: Run,
    model_id: int,
    *,
    callbacks: Sequence[Callback] = (),
    loop: Callback | None = None,
    loaders: Mapping[str, Any] | None = None,
) -> Trainer:
    """Train and score one model and write its shard.

    Args:
        run: Of the model.
        model_id: Which model.
        callbacks: Attached besides the user's own.
        loop: Takes the place of the Trainer's loop over batches, in this process.
        loaders: Goes through the examples to be scored, by split, where they are in memory.

    Raises:
        TrainingError: The user's code failed; what is stored is kept.
        KeyboardInterrupt: Ctrl-C.
        Signal: Whatever ``loop`` raises.
    """
    recorder = Recorder(recording_of(run, model_id, loaders=loaders))
    start = _trained_weights(run, model_id)
    with one_model(model_id):
        return fit(
            run,
            model_id,
            [*start, *callbacks, recorder, *([] if loop is None else [loop])],
            validate=run.probe.validate,
            in_process=loop is not None,
        )


def fit(run: Run, model_id: int, callbacks: Sequence[Callback], *, validate: bool, in_process: bool = False) -> Trainer:
    """Fit one model; whatever the user's code or a callback raises comes out.

    Args:
        run: Of the model.
        model_id: Which model.
        callbacks: Attached besides the user's own.
        validate: Whether the Trainer validates as its arguments say; else not at all.
        in_process: Leave out the worker processes of the training loader.
    """
    recipe, attached = run.population.recipe, list(callbacks)
    handler = signal.getsignal(signal.SIGINT)
    with preserved_randomness(), silenced():
        trainer = _trainer(recipe, attached, validate=validate)
        seed_everything(run.plan.model_seed(model_id), verbose=False)
        pl_module = recipe.model()
        datamodule = SubsetDataModule(run.population.source, run.plan, model_id)
        try:
            trainer.fit(pl_module, datamodule=datamodule.in_process() if in_process else datamodule)
        except StoppedAfterFirstBatch:
            if not any(isinstance(callback, StopAfterFirstBatch) for callback in attached):
                raise
        except SystemExit as stop:
            if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning ends the process on Ctrl-C
                raise KeyboardInterrupt from None
            raise RuntimeError(f"it called sys.exit({stop.code!r})") from stop
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
    return trainer


@contextmanager
def one_model(model_id: int) -> Iterator[None]:
    """Say which model it was when the user's code fails."""
    try:
        yield
    except (MemauditError, Signal):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise TrainingError(
            f"model {model_id} failed in your code: {reason}. What is stored is kept; fix it and run again"
        ) from error


def recording_of(run: Run, model_id: int, *, loaders: Mapping[str, Any] | None = None) -> Recording:
    """What scores a model at the end of its fit and writes its shard.

    Args:
        run: Of the model.
        model_id: Which model.
        loaders: Goes through the examples to be scored, by split, where they are in memory.
    """
    population, recipe = run.population, run.population.recipe
    return Recording(
        run.store,
        score_fn=recipe.score_fn,
        splits=recipe.splits,
        arm=recipe.arm,
        transform=recipe.treatment.transform,
        made_from=recipe.made_from,
        keep_weights=model_id in recipe.keep_weights,
        examples=population.examples(run.plan.units),
        loaders=loaders,
        initial_weights=population.initial_weights,
        executor=recipe.executor,
        notes=run.notes,
    )


def _trained_weights(run: Run, model_id: int) -> list[Callback]:
    recipe = run.population.recipe
    if not recipe.made_from:
        return []
    tensors = run.store.weights(model_id, recipe.made_from)
    if tensors is None:
        raise MissingDataError(
            f"store={run.store.url!r}: it has no weights of model {model_id} of arm {recipe.made_from!r}, which arm "
            f"{recipe.arm!r} is made from; run the audit again"
        )
    return [TrainedWeights(tensors, goes_on=recipe.treatment.trains)]


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
