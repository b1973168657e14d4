"""The trial that comes before training: the first batch through everything, and what it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.callbacks.recording import Recorder, StopAfterFirstBatch
from lightning_memaudit.training.run import Length, Probe
from lightning_memaudit.training.task import first_model, fit, one_model, recording_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from lightning_memaudit.training.run import Run

__all__ = ["probe"]


def probe(run: Run) -> Probe:
    """Build the first model, open the store or refuse to mix, and take one batch through training and scoring.

    Args:
        run: Whose first model is tried; what ``run.probe`` says is not looked at.

    Raises:
        MismatchError: The store belongs to something else.
        TrainingError: The user's code failed.
    """
    first = first_model(run.plan)
    recording = recording_of(run, first)
    with one_model(first):
        trainer = fit(run, first, [Recorder(recording), StopAfterFirstBatch(recording)], validate=True)
    return Probe(_length(trainer), _monitors_validation(trainer))


def _length(trainer: Trainer) -> Length:
    per_epoch = trainer.num_training_batches
    return Length(
        _planned_batches(trainer),
        None if per_epoch == float("inf") else int(per_epoch),
        trainer.max_steps if trainer.max_steps >= 0 else None,
    )


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
