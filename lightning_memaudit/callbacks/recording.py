"""What ``OutcomeRecorder`` and the arms of an ``Audit`` do at the end of a fit: score the model and record it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from torch.utils.data import DataLoader, Subset

from lightning_memaudit.callbacks.passive import PASSIVE_CALLBACKS
from lightning_memaudit.callbacks.trained_weights import tensors_of
from lightning_memaudit.compat.lightning import before_batch_transfer
from lightning_memaudit.data.datamodule import SubsetDataModule
from lightning_memaudit.data.loaders import check_map_style, sequential_loader
from lightning_memaudit.data.randomness import seeded
from lightning_memaudit.data.source import DataSource
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.outcomes.examples import Examples, Groups, describe_splits
from lightning_memaudit.outcomes.fields import find_target
from lightning_memaudit.outcomes.identity import canonical, describe_model, describe_optimisation, describe_scoring
from lightning_memaudit.outcomes.manifest import Identity, Manifest, library_versions
from lightning_memaudit.outcomes.scoring import ScoreFunction, find_score_function, score_split
from lightning_memaudit.outcomes.shard import Shard
from lightning_memaudit.outcomes.store import OutcomeStore

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lightning.pytorch import Trainer

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.shard import SplitScores

__all__ = ["Recorder", "Recording", "StopAfterFirstBatch", "StoppedAfterFirstBatch"]


class Recording:
    """Scores one trained model on every example of every split, and writes its shard.

    Args:
        store: An ``OutcomeStore``, a folder, or an fsspec URL.
        plan: The subset plan; None takes it from the ``SubsetDataModule`` of the Trainer.
        model_id: The number of this model; None takes it from the ``SubsetDataModule``.
        score_fn: As for ``OutcomeRecorder``.
        splits: Splits to score; None takes every one there is.
        groups: Groupings by name.
        arm: The arm that the shard belongs to.
        examples: The examples of each split when they were read before; None reads them before training.
        loaders: Goes through the examples, by split, where the caller has them in memory.
        initial_weights: Digest of the weights that do not depend on the seed, where the caller knows it.
        executor: The executor that runs the fit, for the manifest.
        notes: What a reader of the report must know about how the models were trained.
        transform: What becomes of the trained module before it is scored.
        made_from: The arm of the trained model that this one is made from.
        keep_weights: Keep the trained weights in the store, as they are before ``transform``.
    """

    def __init__(
        self,
        store: OutcomeStore | str | os.PathLike[str],
        plan: SubsetPlan | None = None,
        model_id: int | None = None,
        score_fn: Any = "multiclass",
        splits: Sequence[str] | None = None,
        *,
        groups: Groups | None = None,
        arm: str = BASELINE,
        examples: Mapping[str, Examples] | None = None,
        loaders: Mapping[str, Any] | None = None,
        initial_weights: str | None = None,
        executor: str = "sequential",
        notes: Sequence[str] = (),
        transform: Callable[[LightningModule], LightningModule] | None = None,
        made_from: str = "",
        keep_weights: bool = False,
    ) -> None:
        self.store = store if isinstance(store, OutcomeStore) else OutcomeStore(store)
        self.plan = plan
        self.model_id = model_id
        self.score_fn: ScoreFunction = find_score_function(score_fn)
        self.splits = splits
        self.groups = groups
        self.arm = arm
        self.examples = examples
        self.loaders = loaders
        self.initial_weights = initial_weights
        self.executor = executor
        self.notes = tuple(notes)
        self.transform = transform
        self.made_from = made_from
        self.keep_weights = keep_weights
        self._started = 0.0
        self._opened: tuple[SubsetPlan, int, dict[str, DataLoader[Any]]] | None = None

    def begin(self, trainer: Trainer) -> None:
        """Refuse what cannot be recorded, before anything is trained.

        Raises:
            ConfigurationError: A sharded strategy, or a fit of a handful of batches.
        """
        self._started = time.perf_counter()
        self._opened = None
        whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        if not whole or isinstance(trainer.strategy, DeepSpeedStrategy):
            raise ConfigurationError(
                f"strategy={type(trainer.strategy).__name__}: no rank holds the whole model, which scoring needs; use "
                "one device a model, or DDP"
            )
        if trainer.fast_dev_run or trainer.overfit_batches:  # type: ignore[attr-defined]
            raise ConfigurationError(
                "fast_dev_run and overfit_batches train on a handful of batches; leave them out of an audit"
            )

    def open(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the store, or refuse to mix this run with what is in it.

        Raises:
            ArgumentError: No plan or model number is known, or the training data are not the plan's subset.
            MismatchError: The store belongs to something else.
        """
        plan, model_id, loaders = self._population(trainer)
        self._opened = (plan, model_id, loaders)
        if not trainer.is_global_zero:
            return
        examples = self.examples or self._describe(plan, loaders)
        self.store.open(self._manifest(trainer, pl_module, plan, examples))
        for split, known in examples.items():
            if not self.store.has_examples(split) or self._adds_groups(split):
                self.store.write_examples(split, known)

    def rehearse(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the first batch of every split and record nothing.

        Raises:
            UnsupportedDataError: The score function does not suit the model or the data.
            ConfigurationError: Weights are to be kept, or transformed, and cannot be.
        """
        if self._opened is None:
            return
        plan, _, loaders = self._opened
        if self.keep_weights:
            tensors_of(pl_module)
        pl_module = self._transformed(trainer, pl_module)
        self._score(trainer, pl_module, plan, {split: _first_batch(loader) for split, loader in loaders.items()})

    def finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the model and write its shard.

        Raises:
            ConfigurationError: Nothing was trained.
        """
        if self._opened is None:
            raise ConfigurationError("nothing was trained (max_epochs=0, or no batch), so there is nothing to record")
        if not trainer.is_global_zero:
            return
        plan, model_id, loaders = self._opened
        if self.keep_weights:  # before the shard, so that a recorded model has them
            self.store.write_weights(model_id, tensors_of(pl_module), arm=self.arm)
        scores = self._score(trainer, self._transformed(trainer, pl_module), plan, loaders)
        seconds = time.perf_counter() - self._started
        shard = Shard.of_model(plan, model_id, scores, wall_seconds=seconds, made_from=self.made_from)
        self.store.write(shard, arm=self.arm)
        self._opened = None

    def forget(self) -> None:
        """Forget a fit that failed; nothing of it is recorded."""
        self._opened = None

    def _transformed(self, trainer: Trainer, pl_module: LightningModule) -> LightningModule:
        if self.transform is None:
            return pl_module
        pl_module.trainer = None  # a copy of the module is none of its Trainer and data
        try:
            changed = self.transform(pl_module)
        finally:
            pl_module.trainer = trainer
        if not isinstance(changed, LightningModule):
            raise ConfigurationError(
                f"arm {self.arm!r}: transform must return a LightningModule, and returned a {type(changed).__name__}"
            )
        changed.trainer = trainer
        return changed

    def _score(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        plan: SubsetPlan,
        loaders: Mapping[str, DataLoader[Any]],
    ) -> dict[str, SplitScores]:
        with _predicting(trainer, pl_module), seeded(plan.seed):
            return {
                split: score_split(
                    pl_module, loader, self.score_fn, transfer=lambda batch: _to_device(trainer, batch), split=split
                )
                for split, loader in loaders.items()
            }

    def _adds_groups(self, split: str) -> bool:
        return self.groups is not None and not set(self.groups) <= set(self.store.examples(split).groups)

    def _describe(self, plan: SubsetPlan, loaders: Mapping[str, DataLoader[Any]]) -> dict[str, Examples]:
        return describe_splits(loaders, self.score_fn, seed=plan.seed, groups=self.groups, units=plan.units)

    def _population(self, trainer: Trainer) -> tuple[SubsetPlan, int, dict[str, DataLoader[Any]]]:
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(datamodule, SubsetDataModule):
            for name in ("plan", "model_id"):
                ours, theirs = getattr(self, name), getattr(datamodule, name)
                if ours is not None and getattr(ours, "digest", ours) != getattr(theirs, "digest", theirs):
                    raise argument_error(name, ours, f"None, or the {name} of the SubsetDataModule, is needed")
            loaders = datamodule.source.scoring_loaders(self.splits)
            if "train" in loaders:
                datamodule.source.check_order(
                    lambda sample: find_target(sample, getattr(self.score_fn, "target", None))
                )
            return datamodule.plan, datamodule.model_id, dict(self.loaders or loaders)
        if self.plan is None or self.model_id is None:
            raise argument_error(
                "plan" if self.plan is None else "model_id",
                None,
                "a SubsetDataModule is needed, which says both: trainer.fit(model, "
                "datamodule=SubsetDataModule(datamodule, plan, model_id))",
            )
        return self.plan, self.model_id, _loaders_of_subset(trainer, self.plan, self.model_id, self.splits)

    def _manifest(
        self, trainer: Trainer, pl_module: LightningModule, plan: SubsetPlan, examples: Mapping[str, Examples]
    ) -> Manifest:
        loader, source = trainer.train_dataloader, getattr(trainer.datamodule, "source", None)  # type: ignore[attr-defined]
        optimisation = describe_optimisation(
            trainer,
            loader if isinstance(loader, DataLoader) else None,
            with_step_counts=plan.has_constant_size,
            ignore=(*PASSIVE_CALLBACKS, Recorder, StopAfterFirstBatch),
            full_loader=source.train_loader()
            if isinstance(source, DataSource) and source.train_loader_factory is None
            else None,
        )
        if self.arm != BASELINE:  # how its models are trained is the arm's own affair
            optimisation = self.store.manifest.identity.optimisation
        identity = Identity(
            plan=plan.to_dict(),
            data={split: canonical(known.fingerprint) for split, known in examples.items()},
            model=describe_model(pl_module, initial_weights=self.initial_weights),
            optimisation=optimisation,
            scoring=describe_scoring(self.score_fn, list(examples)),
        )
        return Manifest(identity, tuple(examples), self.executor, self.notes, library_versions())


class Recorder(Callback):
    """Attaches a recording to a fit.

    Args:
        recording: What is recorded.
    """

    # Lightning passes over hooks that are not callable; calling empty ones takes 3 % of a fit whose steps are tiny.
    on_train_batch_start = None  # type: ignore[assignment]
    on_train_batch_end = None  # type: ignore[assignment]
    on_before_zero_grad = None  # type: ignore[assignment]
    on_before_backward = None  # type: ignore[assignment]
    on_after_backward = None  # type: ignore[assignment]
    on_before_optimizer_step = None  # type: ignore[assignment]

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    @property
    def store(self) -> OutcomeStore:
        """Where the outcomes go."""
        return self.recording.store

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be recorded, before anything is trained."""
        if stage == "fit":
            self.recording.begin(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the store, or refuse to mix this run with what is in it."""
        self.recording.open(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the model and write its shard."""
        self.recording.finish(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Forget a fit that failed; nothing of it is recorded."""
        self.recording.forget()


class StoppedAfterFirstBatch(Exception):  # noqa: N818 - a signal, not an error
    """Raised out of ``Trainer.fit`` by ``StopAfterFirstBatch``."""


class StopAfterFirstBatch(Callback):
    """Trains on one batch, scores one batch of every split, and raises ``StoppedAfterFirstBatch``.

    So a wrong key, shape or label shows before hours of training, and nothing is recorded.

    Args:
        recording: The recording whose score function is tried.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Try the scoring, and stop the fit."""
        self.recording.rehearse(trainer, pl_module)
        raise StoppedAfterFirstBatch


def _loaders_of_subset(
    trainer: Trainer, plan: SubsetPlan, model_id: int, splits: Sequence[str] | None
) -> dict[str, DataLoader[Any]]:
    """Scoring loaders when the user took the subset herself: its parent data set, and the validation loaders."""
    loader = trainer.train_dataloader
    rows = np.flatnonzero(plan.mask(model_id))
    dataset = getattr(loader, "dataset", None)
    if (
        not isinstance(loader, DataLoader)
        or loader.batch_size is None
        or not isinstance(dataset, Subset)
        or not np.array_equal(np.sort(np.asarray(dataset.indices)), rows)
    ):
        raise argument_error(
            "model_id",
            model_id,
            "a training loader over torch.utils.data.Subset(dataset, indices) is needed, with the plan's "
            f"{len(rows)} rows and a batch_size; take them from plan.mask(model_id), or let SubsetDataModule do it",
        )
    n_examples = check_map_style(dataset.dataset, what="the data set of the training Subset")
    if n_examples != plan.n_examples:
        raise argument_error(
            "plan",
            plan,
            f"a plan for the {n_examples} examples of the training data set is needed, and it is for "
            f"{plan.n_examples}: SubsetPlan({n_examples}, ...)",
        )
    loaders = {"train": sequential_loader(loader, dataset.dataset)}
    validation = trainer.val_dataloaders
    several = validation if isinstance(validation, list | tuple) else [validation]
    for i, held_out in enumerate(several):
        if isinstance(held_out, DataLoader) and held_out.batch_size is not None:
            name = "val" if len(several) == 1 else f"val-{i}"
            loaders[name] = sequential_loader(held_out, held_out.dataset)
    unknown = [split for split in splits or () if split not in loaders]
    if unknown:
        raise argument_error(
            "splits", list(splits or ()), f"without SubsetDataModule only {', '.join(loaders)} can be scored"
        )
    return {split: loaders[split] for split in splits} if splits else loaders


def _first_batch(loader: DataLoader[Any]) -> DataLoader[Any]:
    rows = range(min(loader.batch_size or 1, len(loader.dataset)))  # type: ignore[arg-type]
    return sequential_loader(loader, Subset(loader.dataset, rows))


def _to_device(trainer: Trainer, batch: Any) -> Any:
    batch = trainer.precision_plugin.convert_input(batch)
    batch = before_batch_transfer(trainer, trainer.lightning_module, batch)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


@contextmanager
def _predicting(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """The state in which a Trainer predicts: stage, device and precision."""
    device, stage = pl_module.device, trainer.state.stage
    trainer.predicting = True
    pl_module.to(trainer.strategy.root_device)
    try:
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            yield
    finally:
        pl_module.to(device)
        trainer.state.stage = stage
