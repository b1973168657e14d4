"""Trains the arms of an audit: each treatment on the subsets and seeds of baseline models, or on all data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.outcomes.arms import BASELINE, FULL, REBUILT, Arm, check_arm_name
from lightning_memaudit.outcomes.identity import canonical
from lightning_memaudit.training.engines.choice import ChosenEngine
from lightning_memaudit.training.probe import probe
from lightning_memaudit.training.task import first_model
from lightning_memaudit.treatments.base import Regime, Treatment, Tunable
from lightning_memaudit.treatments.baseline import Baseline

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.executors import Executor
    from lightning_memaudit.training.run import Length, Run

__all__ = ["Arms", "ReadyArm", "checked_treatments", "regime_of", "with_kept_weights"]


@dataclass(frozen=True, slots=True, eq=False)
class ReadyArm:
    """An arm that was tried on one batch and is on record.

    Attributes:
        treatment: What is done to its models.
        run: Of its models.
        baseline: Run of the models that it is compared with, on the same data.
    """

    treatment: Treatment
    run: Run
    baseline: Run

    @property
    def name(self) -> str:
        """The name of the arm."""
        return self.run.arm


@dataclass(frozen=True, slots=True)
class Arms:
    """The arms of an audit.

    Attributes:
        treatments: What is done to the models.
        model_ids: The models that are treated.
        on_full_data: Whether all arms, the baseline included, train on all data.
        keep_weights: Whether the weights of trained baseline models stay in the store.
    """

    treatments: tuple[Treatment, ...]
    model_ids: tuple[int, ...]
    on_full_data: bool
    keep_weights: bool

    @property
    def prefix(self) -> str:
        """What stands before the names of the arms."""
        return FULL if self.on_full_data else ""

    def prepare(self, run: Run) -> tuple[ReadyArm, ...]:
        """Take one batch through each arm that lacks models: what cannot be done is said before anything is trained.

        Args:
            run: Of the baseline, with what its probe said.

        Raises:
            ConfigurationError: A treatment does not go with the module or the Trainer.
            MismatchError: The store has an arm of that name and another treatment.
        """
        if not self.treatments or not self.model_ids:
            return ()
        treatments: tuple[Treatment, ...] = self.treatments
        if self.on_full_data:
            treatments = (Baseline(), *treatments)
            run = replace(run.of_arm(arm=FULL + BASELINE), plan=run.plan.complete())
            run = replace(run, probe=probe(run))
        regime = regime_of(run.plan, run.probe.length)
        return tuple(self._ready(treatment, regime, run) for treatment in treatments)

    def train(self, ready: Sequence[ReadyArm], executor: Executor) -> Generator[tuple[str, int]]:
        """Train what the store lacks; yields arm and number of each model that is stored.

        Args:
            ready: What ``prepare`` gave.
            executor: Trains the models of one arm.
        """
        for arm in ready:
            store = arm.run.store
            missing = store.missing(self.model_ids, arm.name)
            if not arm.treatment.starts_trained:
                kept = to_keep(store, self) if arm.treatment.name == BASELINE else frozenset()
                yield from _train(arm.run.of_arm(keep_weights=kept), missing, executor)
                continue
            yield from self._rebuild(arm, missing, executor)
            for base in (self.prefix + BASELINE, self.prefix + REBUILT):
                ids = [k for k in missing if _base_of(store, k, self.prefix) == base]
                yield from _train(arm.run.of_arm(made_from=base), ids, executor)
        if ready:
            self._forget_weights(ready[0].run.store)

    def n_to_train(self, ready: Sequence[ReadyArm]) -> int:
        """How many models ``train`` will yield: those that are missing, and those that must be rebuilt for them."""
        missing = {arm.name: arm.run.store.missing(self.model_ids, arm.name) for arm in ready}
        gone = {
            k
            for arm in ready
            if arm.treatment.starts_trained and arm.treatment.name != BASELINE
            for k in missing[arm.name]
            if _base_of(arm.run.store, k, self.prefix) is None
        }
        return sum(map(len, missing.values())) + len(gone)

    def _ready(self, treatment: Treatment, regime: Regime, baseline: Run) -> ReadyArm:
        store = baseline.store
        run = baseline.of_arm(treatment=treatment, arm=self.prefix + treatment.name, regime=regime)
        if treatment.starts_trained:
            run = run.of_arm(made_from=self.prefix + BASELINE)
        arm = Arm(
            run.arm,
            _described(treatment),
            treatment.trains,
            asdict(regime),
            canonical(treatment.privacy(regime)),
            canonical(treatment.lr_search if isinstance(treatment, Tunable) else None),
        )
        store.check_arm(arm)
        if store.missing(self.model_ids, run.arm):
            kept = frozenset({first_model(run.plan)} if treatment.starts_trained else ())
            run = replace(run, probe=probe(run.of_arm(keep_weights=kept)))
        store.open_arm(arm)
        return ReadyArm(treatment, run, baseline)

    def _rebuild(self, arm: ReadyArm, model_ids: Sequence[int], executor: Executor) -> Generator[tuple[str, int]]:
        """Train those baseline models again whose weights were not kept."""
        store, name = arm.run.store, self.prefix + REBUILT
        gone = [k for k in model_ids if _base_of(store, k, self.prefix) is None]
        if gone:
            store.open_arm(Arm(name, {"class": "baseline models, trained again from their seeds"}, trains=True))
        for model_id in gone:
            store.remove(model_id, name)  # a shard without weights is of an earlier run
        yield from _train(arm.baseline.of_arm(arm=name, keep_weights=frozenset(gone)), gone, executor)

    def _forget_weights(self, store: OutcomeStore) -> None:
        for base in () if self.keep_weights else (BASELINE, REBUILT):
            for model_id in self.model_ids:
                store.remove_weights(model_id, self.prefix + base)


def with_kept_weights(run: Run, arms: Arms, model_ids: Iterable[int]) -> Run:
    """The run of the baseline, told which trained weights to keep.

    Args:
        run: Of the baseline.
        arms: What will act on its trained models.
        model_ids: The models of the baseline.
    """
    if arms.keep_weights:
        return run.of_arm(keep_weights=frozenset(model_ids))
    if arms.on_full_data:
        return run
    return run.of_arm(keep_weights=to_keep(run.store, arms))


def to_keep(store: OutcomeStore, arms: Arms) -> frozenset[int]:
    """The models whose trained weights are needed for arms that act on them."""
    names = [arms.prefix + treatment.name for treatment in arms.treatments if treatment.starts_trained]
    return frozenset(k for k in arms.model_ids if arms.keep_weights or any(not store.has(k, name) for name in names))


def regime_of(plan: SubsetPlan, length: Length) -> Regime:
    """How baseline models are trained: by the plan, so that it is the same for all of them and in every shard.

    Args:
        plan: The subset plan.
        length: Of the training of a baseline model.

    Raises:
        ConfigurationError: Training has no fixed length.
    """
    if not length.batches or not length.batches_per_epoch:
        raise ConfigurationError(
            "treatments: how private a model is depends on its number of steps, and training has no fixed length here; "
            "set max_epochs, and use data with a length"
        )
    epochs = -(-length.batches // length.batches_per_epoch)
    return Regime(_expected_size(plan), length.batches_per_epoch, epochs, length.max_steps)


def checked_treatments(treatments: Any) -> tuple[Treatment, ...]:
    """The treatments, if each is one and their names differ.

    Raises:
        ArgumentError: Something else, a name that is taken or given twice.
    """
    alone = isinstance(treatments, Treatment) or not isinstance(treatments, Iterable) or isinstance(treatments, str)
    given = (treatments,) if alone else tuple(treatments)
    for treatment in given:
        if isinstance(treatment, type) or not isinstance(treatment, Treatment):
            raise ArgumentError(
                f"treatments={treatment!r}: a treatment is needed, an instance such as treatments.Prune(0.9) or of a "
                "class of your own derived from treatments.Treatment"
            )
    kept = tuple(treatment for treatment in given if not isinstance(treatment, Baseline))
    names: list[Any] = [getattr(treatment, "name", None) for treatment in kept]
    for name in names:
        check_arm_name(name)
        if names.count(name) > 1:
            raise ArgumentError(f"name={name!r}: two treatments have this name; give one of them another")
    _check_named_rates({each.name: each.lr if isinstance(each, Tunable) else None for each in kept})
    return kept


def _check_named_rates(rates: dict[str, Any]) -> None:
    """Refuse a learning rate that is the name of no treatment with one of its own."""
    for name, rate in rates.items():
        if isinstance(rate, str) and (rates.get(rate) is None or isinstance(rates[rate], str)):
            own = [other for other, its in rates.items() if its is not None and not isinstance(its, str)]
            raise ArgumentError(
                f"lr={rate!r}: treatment {name!r} needs the name of a treatment with a learning rate of its own; "
                f"there is {', '.join(own) or 'none'}"
            )


def _train(run: Run, model_ids: Sequence[int], executor: Executor) -> Generator[tuple[str, int]]:
    for model_id in executor.train(run, model_ids, ChosenEngine()) if model_ids else ():
        yield run.arm, model_id


def _described(treatment: Treatment) -> dict[str, Any]:
    """Class and arguments; of a class that is no dataclass, what its instance holds."""
    described = canonical(treatment)
    if not isinstance(described, dict):
        described = {"class": described, **canonical(getattr(treatment, "__dict__", {}))}
    described.pop("lr_search", None)
    return {**described, "name": treatment.name}


def _expected_size(plan: SubsetPlan) -> int:
    """Examples that a model trains on, on average where subsets differ in size."""
    if plan.has_constant_size:
        return int(plan.mask(0).sum())
    if plan.canaries is not None:
        units = np.arange(plan.n_examples) if plan.units is None else plan.units
        return plan.n_examples - round(int(np.isin(units, units[plan.canaries]).sum()) / 2)
    return round(plan.subset_fraction * plan.n_examples)


def _base_of(store: OutcomeStore, model_id: int, prefix: str) -> str | None:
    """The arm that holds the trained weights of a model."""
    bases = (prefix + BASELINE, prefix + REBUILT)
    return next((base for base in bases if store.has(model_id, base) and store.has_weights(model_id, base)), None)
