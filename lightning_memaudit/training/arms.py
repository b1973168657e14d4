"""Trains the arms of an audit: each treatment on the subsets and seeds of baseline models, or on all data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.outcomes.arms import BASELINE, FULL, REBUILT, Arm, check_arm_name
from lightning_memaudit.outcomes.identity import canonical
from lightning_memaudit.training.task import Length, probe
from lightning_memaudit.treatments.base import Regime, Treatment
from lightning_memaudit.treatments.baseline import Baseline

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.executors import Executor
    from lightning_memaudit.training.task import Population

__all__ = ["Arms", "checked_treatments", "with_kept_weights"]


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

    def train(
        self, population: Population, plan: SubsetPlan, store: OutcomeStore, executor: Executor, *, notes: Sequence[str]
    ) -> Generator[tuple[str, int]]:
        """Train what the store lacks; yields arm and number of each model that is stored.

        Args:
            population: Of the baseline, probed.
            plan: The subset plan.
            store: Where shards go.
            executor: Trains the models of one arm.
            notes: For the manifest.
        """
        plan = plan.complete() if self.on_full_data else plan
        if self.on_full_data:
            population = population.of_arm(arm=FULL + BASELINE)
            probe(population, plan, store)
        regime = regime_of(plan, population.length, self.model_ids)
        for treatment in [Baseline(), *self.treatments] if self.on_full_data else self.treatments:
            name = self.prefix + treatment.name
            described = canonical(treatment)
            store.open_arm(
                Arm(
                    name,
                    described if isinstance(described, dict) else {"class": described},
                    treatment.trains,
                    asdict(regime),
                    treatment.privacy(regime),
                )
            )
            missing = store.missing(self.model_ids, name)
            changes = {"treatment": treatment, "arm": name, "regime": regime}
            if not treatment.starts_trained:
                kept = to_keep(store, self) if treatment.name == BASELINE else frozenset()
                yield from self._run(
                    population.of_arm(**changes, keep_weights=kept), plan, missing, store, executor, notes
                )
                continue
            yield from self._rebuild(population, plan, missing, store, executor, notes)
            for base in (BASELINE, REBUILT):
                base = self.prefix + base
                ids = [k for k in missing if _base_of(store, k, self.prefix) == base]
                arm = population.of_arm(**changes, made_from=base)
                yield from self._run(arm, plan, ids, store, executor, notes)
        self._forget_weights(store)

    def _run(
        self,
        population: Population,
        plan: SubsetPlan,
        model_ids: Sequence[int],
        store: OutcomeStore,
        executor: Executor,
        notes: Sequence[str],
    ) -> Generator[tuple[str, int]]:
        if not model_ids:
            return
        if not population.recipe.made_from:
            probe(population, plan, store)  # what a treatment cannot do is said before hours of training
        for model_id in executor(population, plan, list(model_ids), store, notes=notes):
            yield population.recipe.arm, model_id

    def _rebuild(
        self,
        population: Population,
        plan: SubsetPlan,
        model_ids: Sequence[int],
        store: OutcomeStore,
        executor: Executor,
        notes: Sequence[str],
    ) -> Generator[tuple[str, int]]:
        """Train those baseline models again whose weights were not kept."""
        gone = [k for k in model_ids if _base_of(store, k, self.prefix) is None]
        name = self.prefix + REBUILT
        if gone:
            store.open_arm(Arm(name, {"class": "baseline models, trained again from their seeds"}, trains=True))
        for model_id in gone:
            store.remove(model_id, name)  # a shard without weights is of an earlier run
        rebuilt = population.of_arm(arm=name, keep_weights=frozenset(gone))
        yield from self._run(rebuilt, plan, gone, store, executor, notes)

    def _forget_weights(self, store: OutcomeStore) -> None:
        for base in () if self.keep_weights else (BASELINE, REBUILT):
            for model_id in self.model_ids:
                store.remove_weights(model_id, self.prefix + base)


def with_kept_weights(population: Population, store: OutcomeStore, arms: Arms, model_ids: Iterable[int]) -> Population:
    """The baseline population, told which trained weights to keep.

    Args:
        population: Of the baseline.
        store: Where its shards go.
        arms: What will act on its trained models.
        model_ids: The models of the baseline.
    """
    if arms.keep_weights:
        return population.of_arm(keep_weights=frozenset(model_ids))
    if arms.on_full_data:
        return population
    return population.of_arm(keep_weights=to_keep(store, arms))


def to_keep(store: OutcomeStore, arms: Arms) -> frozenset[int]:
    """The models whose trained weights are needed for arms that act on them."""
    names = [arms.prefix + treatment.name for treatment in arms.treatments if treatment.starts_trained]
    return frozenset(k for k in arms.model_ids if arms.keep_weights or any(not store.has(k, name) for name in names))


def regime_of(plan: SubsetPlan, length: Length, model_ids: Sequence[int]) -> Regime:
    """How baseline models are trained.

    Raises:
        ConfigurationError: Training has no fixed length.
    """
    if not length.batches or not length.batches_per_epoch:
        raise ConfigurationError(
            "treatments: how private a model is depends on its number of steps, and training has no fixed length here; "
            "set max_epochs, and use data with a length"
        )
    sizes = [int(plan.mask(k).sum()) for k in model_ids]
    n_examples = sizes[0] if len(set(sizes)) == 1 else round(plan.subset_fraction * plan.n_examples)
    epochs = -(-length.batches // length.batches_per_epoch)
    return Regime(n_examples, length.batches_per_epoch, epochs)


def checked_treatments(treatments: Any) -> tuple[Treatment, ...]:
    """The treatments, if each is one and their names differ.

    Raises:
        ArgumentError: Something else, a name that is taken or given twice.
    """
    given = (treatments,) if isinstance(treatments, str | Treatment) else tuple(treatments)
    for treatment in given:
        if isinstance(treatment, type) or not isinstance(treatment, Treatment):
            raise ArgumentError(
                f"treatments: {treatment!r} is none; pass instances such as treatments.Prune(0.9), or of a class of "
                "your own derived from treatments.Treatment"
            )
    kept = tuple(treatment for treatment in given if not isinstance(treatment, Baseline))
    names = [treatment.name for treatment in kept]
    for name in names:
        check_arm_name(name)
        if names.count(name) > 1:
            raise ArgumentError(f"treatments: two are named {name!r}; give one of them another name=")
    return kept


def _base_of(store: OutcomeStore, model_id: int, prefix: str) -> str | None:
    """The arm that holds the trained weights of a model."""
    bases = (prefix + BASELINE, prefix + REBUILT)
    return next((base for base in bases if store.has(model_id, base) and store.has_weights(model_id, base)), None)
