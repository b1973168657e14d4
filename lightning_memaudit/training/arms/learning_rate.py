"""A learning rate for treatments that train, found without a look at the data that are reported on."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import as_positive_int
from lightning_memaudit.functional.intervals import wilson
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.training.arms.arms import regime_of
from lightning_memaudit.training.probe import probe
from lightning_memaudit.training.task import train_model
from lightning_memaudit.treatments.base import Tunable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.arms import Arm
    from lightning_memaudit.training.run import Run
    from lightning_memaudit.treatments.base import Treatment

__all__ = ["LearningRateSearch", "TriedRate", "n_models_to_search", "search_learning_rate", "with_searched_rates"]

_SPLIT = "train"
_MODELS = 2  # of each rate


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
    run: Run,
    treatment: Tunable,
    rates: Iterable[float],
    *,
    n_models: int = _MODELS,
    on_model: Callable[[], object] = bool,
) -> LearningRateSearch:
    """Train a few models of a treatment with each learning rate and take the rate that does best without the example.

    The models have the subsets and seeds of the first baseline models. They are judged on the training examples that
    their plan leaves out; test data are not read, and validation data only where training itself looks at them. Nothing
    is recorded in the store of the run.

    Args:
        run: Of baseline models, such as ``Audit(...).prepared``.
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

            found = search_learning_rate(audit.prepared, DPSGD(target_epsilon=3.0), rates=(0.1, 0.3, 1.0, 3.0))
            Audit(..., treatments=[found.treatment])
    """
    tried = _checked_rates(rates)
    if isinstance(treatment, type) or not isinstance(treatment, Tunable):
        raise ArgumentError(
            f"treatment={treatment!r}: one with a learning rate of its own (a treatments.Tunable) is needed, such as "
            "DPSGD(target_epsilon=3.0) or ClipOnly()"
        )
    candidates = [treatment.with_lr(rate) for rate in tried]
    model_ids = _with_data(run.plan, as_positive_int(n_models, name="n_models"))
    out = ~run.plan.masks(model_ids)
    judged = out.any(axis=0)
    with tempfile.TemporaryDirectory(prefix="memaudit-search-") as folder:
        store = OutcomeStore(folder)
        baseline = run.of_arm(splits=[_SPLIT], groups=None, keep_weights=frozenset())
        baseline = dataclasses.replace(baseline, store=store, notes=())
        regime = regime_of(run.plan, probe(baseline).length)
        table = []
        for number, (rate, candidate) in enumerate(zip(tried, candidates, strict=True)):
            name = f"rate-{number}"
            arm = baseline.of_arm(treatment=candidate, arm=name, regime=regime)
            arm = dataclasses.replace(arm, probe=probe(arm))
            for model_id in model_ids:
                train_model(arm, model_id)
                on_model()
            correct = store.load(name, _SPLIT, model_ids=model_ids, fields=("correct",)).correct
            right = float((correct * out).sum(axis=0)[judged] @ (1 / out.sum(axis=0)[judged]))
            low, high = wilson(min(right, judged.sum()), judged.sum())
            table.append(TriedRate(rate, right / int(judged.sum()), float(low), float(high)))
    best = max(range(len(table)), key=lambda i: table[i].accuracy)
    found = LearningRateSearch(candidates[best], tuple(table), len(model_ids), int(judged.sum()))
    return dataclasses.replace(found, treatment=treatment.with_lr(found.rate, found.to_dict()))


def with_searched_rates(
    run: Run, treatments: Sequence[Treatment], *, prefix: str = "", on_model: Callable[[], object] = bool
) -> tuple[Treatment, ...]:
    """Treatments of one learning rate each: several are searched, and a name stands for the rate of that treatment.

    Args:
        run: Of the baseline; what an arm in its store was searched for is not searched again.
        treatments: With whatever they were given as ``lr``.
        prefix: What stands before the names of the arms.
        on_model: Called when a model is trained.
    """
    found: dict[str, Treatment] = {}
    for treatment in treatments:
        found[treatment.name] = treatment
        if isinstance(treatment, Tunable) and (rates := _several(treatment)):
            known = _recorded(treatment, rates, run.store.arm(prefix + treatment.name))
            found[treatment.name] = known or search_learning_rate(run, treatment, rates, on_model=on_model).treatment
    for name, treatment in found.items():
        if isinstance(treatment, Tunable) and isinstance(treatment.lr, str):
            other: Any = found[treatment.lr]  # a Tunable, as ``checked_treatments`` has seen to
            found[name] = treatment.with_lr(other.lr, other.lr_search)
    return tuple(found.values())


def n_models_to_search(treatments: Sequence[Treatment]) -> int:
    """How many models a search trains at most."""
    return sum(_MODELS * len(set(_several(each))) for each in treatments if isinstance(each, Tunable))


def _several(treatment: Tunable) -> tuple[float, ...]:
    """The learning rates to try; none where there is one, or the name of another treatment."""
    return tuple(treatment.lr) if isinstance(treatment.lr, Sequence) and not isinstance(treatment.lr, str) else ()


def _recorded(treatment: Tunable, rates: Sequence[float], arm: Arm | None) -> Treatment | None:
    """The treatment as it was found before, if that was among the same rates."""
    if arm is None or arm.lr_search is None:
        return None
    if sorted(set(rates)) != [tried["rate"] for tried in arm.lr_search["table"]]:
        return None
    return treatment.with_lr(arm.lr_search["rate"], arm.lr_search)


def _checked_rates(rates: Any) -> list[float]:
    given = list(rates) if isinstance(rates, Iterable) and not isinstance(rates, str) else [rates]
    for rate in given:
        number = isinstance(rate, int | float | np.floating | np.integer) and not isinstance(rate, bool)
        if not (number and 0 < rate < np.inf):
            raise ArgumentError(f"rates={given!r}: positive numbers are needed, and {rate!r} is not one")
    if not given:
        raise ArgumentError("rates=[]: at least one learning rate to try is needed, such as (0.1, 0.3, 1.0)")
    return sorted({float(rate) for rate in given})


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
