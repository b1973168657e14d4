"""What travels from the audit to whatever trains its models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.population import Population

__all__ = ["Length", "Probe", "Run"]


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


@dataclass(frozen=True, slots=True)
class Probe:
    """What the trial of one batch tells of a run.

    Attributes:
        length: How long a model trains.
        validate: Whether training needs validation: a callback or scheduler monitors a metric.
    """

    length: Length = Length(None, None)
    validate: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Models of one arm that are trained on subsets of a plan and recorded in a store.

    Attributes:
        population: The recipe, with its data set up.
        plan: The subset plan.
        store: Where shards go.
        notes: What a reader of the report must know, for the manifest.
        probe: What ``training.probe.probe`` said; the default says nothing of the length, and validates.
    """

    population: Population
    plan: SubsetPlan
    store: OutcomeStore
    notes: tuple[str, ...] = ()
    probe: Probe = Probe()

    @property
    def arm(self) -> str:
        """The arm of the models."""
        return self.population.recipe.arm

    def of_arm(self, **changes: Any) -> Run:
        """The run of another arm on the same data, as long as this one.

        Args:
            **changes: What differs in the recipe.
        """
        return replace(self, population=self.population.of_arm(**changes))
