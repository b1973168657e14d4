"""A learning rate for treatments that train, found without a look at the data that are reported on."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import as_positive_int
from lightning_memaudit.functional.intervals import wilson
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.training.arms.arms import regime_of
from lightning_memaudit.training.task import probe, train_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.arms import Arm
    from lightning_memaudit.training.task import Population
    from lightning_memaudit.treatments.base import Treatment

__all__ = ["LearningRateSearch", "TriedRate", "n_models_to_search", "search_learning_rate", "with_searched_rates"]

_SPLIT = "train"
_MODELS = 2  # of each rate


class _Audited(Protocol):
    """What is asked of an ``Audit``."""

    @property
    def plan(self) -> SubsetPlan: ...

    @property
    def population(self) -> Population: ...


@dataclasses.dataclass(frozen=True, slots=True)
class TriedRate:
    """How well models of one learning rate do on examples that they were not trained on.

    Attributes:
        rate: The learning rate.
        accuracy: Mean over the examples of the mean over the models without the example.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    rate: float
    accuracy: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True)
class LearningRateSearch:
    """Which learning rate was chosen, and how.

    Attributes:
        treatment: With the chosen learning rate.
        table: Every rate, the smallest first.
        n_models: Models that were trained with each rate.
        n_examples: Examples that at least one of them was not trained on.
    """

    treatment: Treatment
    table: tuple[TriedRate, ...]
    n_models: int
    n_examples: int

    @property
    def rate(self) -> float:
        """The chosen learning rate."""
        return max(self.table, key=lambda tried: tried.accuracy).rate

    @property
    def is_at_the_edge(self) -> bool:
        """Whether the smallest or the largest rate was chosen, so that one beyond it may be better."""
        return self.rate in (self.table[0].rate, self.table[-1].rate)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the chosen rate, and how it was searched."""
        return {
            "arm": self.treatment.name,
            "rate": self.rate,
            "is_at_the_edge": self.is_at_the_edge,
            "n_models": self.n_models,
            "n_examples": self.n_examples,
            "split": "training examples, models without the example only",
            "table": [dataclasses.asdict(tried) for tried in self.table],
        }


def search_learning_rate(
    audit: _Audited,
    treatment: Treatment,
    rates: Iterable[float],
    *,
    n_models: int = _MODELS,
    on_model: Callable[[], object] = bool,
) -> LearningRateSearch:
    """Train a few models of a treatment with each learning rate and take the rate that does best without the example.

    The models have the subsets and seeds of the first baseline models. They are judged on the training examples that
    their plan leaves out; test data are not read, and validation data only where training itself looks at them. Nothing
    is recorded in the audit's store.

    Args:
        audit: An ``Audit``.
        treatment: One with a learning rate of its own, such as ``DPSGD(target_epsilon=3.0)``.
        rates: Learning rates; of equally good ones the smallest is chosen.
        n_models: Models for each rate.
        on_model: Called when a model is trained.

    Returns:
        The treatment with the chosen rate, and the table of all rates.

    Raises:
        ArgumentError: The treatment has no learning rate, a rate is not positive, or there is none.
        ConfigurationError: The treatment does not go with the module or the Trainer.

    Note:
        The choice depends on the data and is not covered by the ε of the treatment: that is the ε of training one model
        with the rate that was chosen. Intervals are Wilson's on as many trials as there are examples; they cover the
        draw of the examples, for these very models.

    Example:
        The rate is part of the arm from then on::

            found = search_learning_rate(audit, DPSGD(target_epsilon=3.0), rates=(0.1, 0.3, 1.0, 3.0))
            Audit(..., treatments=[found.treatment])
    """
    tried = _checked_rates(rates)
    candidates = [_with_rate(treatment, rate) for rate in tried]
    model_ids = _with_data(audit.plan, as_positive_int(n_models, name="n_models"))
    out = ~audit.plan.masks(model_ids)
    judged = out.any(axis=0)
    with tempfile.TemporaryDirectory(prefix="memaudit-search-") as folder:
        store = OutcomeStore(folder)
        population = audit.population.of_arm(splits=[_SPLIT], groups=None, keep_weights=frozenset())
        probe(population, audit.plan, store)
        regime = regime_of(audit.plan, population.length)
        table = []
        for number, (rate, candidate) in enumerate(zip(tried, candidates, strict=True)):
            name = f"rate-{number}"
            arm = population.of_arm(treatment=candidate, arm=name, regime=regime)
            probe(arm, audit.plan, store)
            for model_id in model_ids:
                train_model(arm, audit.plan, model_id, store)
                on_model()
            correct = store.load(name, _SPLIT, model_ids=model_ids, fields=("correct",)).correct
            right = float((correct * out).sum(axis=0)[judged] @ (1 / out.sum(axis=0)[judged]))
            low, high = wilson(min(right, judged.sum()), judged.sum())
            table.append(TriedRate(rate, right / int(judged.sum()), float(low), float(high)))
    best = max(range(len(table)), key=lambda i: table[i].accuracy)
    found = LearningRateSearch(candidates[best], tuple(table), len(model_ids), int(judged.sum()))
    chosen: Any = candidates[best]
    known = {field.name for field in dataclasses.fields(chosen)}
    if "lr_search" not in known:
        return found
    return dataclasses.replace(found, treatment=dataclasses.replace(chosen, lr_search=found.to_dict()))


def with_searched_rates(
    audit: _Audited,
    treatments: Sequence[Treatment],
    store: OutcomeStore,
    *,
    prefix: str = "",
    on_model: Callable[[], object] = bool,
) -> tuple[Treatment, ...]:
    """Treatments of one learning rate each: several are searched, and a name stands for the rate of that treatment.

    Args:
        audit: An ``Audit``.
        treatments: With whatever they were given as ``lr``.
        store: Of the audit; what an arm in it was searched for is not searched again.
        prefix: What stands before the names of the arms.
        on_model: Called when a model is trained.
    """
    found: dict[str, Any] = {}
    for treatment in treatments:
        rates: Any = getattr(treatment, "lr", None)
        if _are_several(rates):
            found[treatment.name] = _recorded(treatment, rates, store.arm(prefix + treatment.name)) or (
                search_learning_rate(audit, treatment, rates, on_model=on_model).treatment
            )
        else:
            found[treatment.name] = treatment
    for name, treatment in found.items():
        if isinstance(of := getattr(treatment, "lr", None), str):
            found[name] = dataclasses.replace(treatment, lr=found[of].lr, lr_search=found[of].lr_search)
    return tuple(found.values())


def n_models_to_search(treatments: Sequence[Treatment]) -> int:
    """How many models a search trains at most."""
    tried: list[Any] = [getattr(treatment, "lr", None) for treatment in treatments]
    return sum((_MODELS * len(set(rates)) for rates in tried if _are_several(rates)), 0)


def _are_several(rates: Any) -> bool:
    return isinstance(rates, Sequence) and not isinstance(rates, str)


def _recorded(treatment: Any, rates: Sequence[float], arm: Arm | None) -> Treatment | None:
    """The treatment as it was found before, if that was among the same rates."""
    if arm is None or arm.lr_search is None:
        return None
    if sorted(set(rates)) != [tried["rate"] for tried in arm.lr_search["table"]]:
        return None
    known: Treatment = dataclasses.replace(treatment, lr=arm.lr_search["rate"], lr_search=arm.lr_search)
    return known


def _checked_rates(rates: Any) -> list[float]:
    given = list(rates) if isinstance(rates, Iterable) and not isinstance(rates, str) else [rates]
    for rate in given:
        number = isinstance(rate, int | float | np.floating | np.integer) and not isinstance(rate, bool)
        if not (number and 0 < rate < np.inf):
            raise ArgumentError(f"rates={given!r}: {rate!r} is no positive number")
    if not given:
        raise ArgumentError("rates is empty: pass the learning rates to try, such as (0.1, 0.3, 1.0)")
    return sorted({float(rate) for rate in given})


def _with_rate(treatment: Any, rate: float) -> Treatment:
    is_instance = dataclasses.is_dataclass(treatment) and not isinstance(treatment, type)
    if not is_instance or not any(field.name == "lr" and field.init for field in dataclasses.fields(treatment)):
        raise ArgumentError(
            f"treatment={treatment!r}: a dataclass with a field lr is needed, such as DPSGD(target_epsilon=3.0) or "
            "ClipOnly()"
        )
    changed: Treatment = dataclasses.replace(treatment, lr=rate)
    return changed


def _with_data(plan: SubsetPlan, n_models: int) -> list[int]:
    """The first models whose subset is neither empty nor everything."""
    found: list[int] = []
    for model_id in count():
        if len(found) == n_models:
            break
        mask = plan.mask(model_id)
        if mask.any() and not mask.all():
            found.append(model_id)
    return found
