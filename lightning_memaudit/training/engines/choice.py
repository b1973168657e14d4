"""Which way of training is right for a recipe, and the fastest of those: measured, with the reason."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.data.rows import NotInMemoryError, available_memory
from lightning_memaudit.exceptions import UnsupportedDataError
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.training.engines.ensemble.chunk import train_chunk
from lightning_memaudit.training.engines.ensemble.loop import Known
from lightning_memaudit.training.engines.equivalence import check_ensemble, check_in_memory, guard_steps
from lightning_memaudit.training.engines.in_memory.data import InMemoryData, read_into_memory
from lightning_memaudit.training.engines.malloc import freed_memory_kept
from lightning_memaudit.training.engines.support import NotHonoured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.task import Length, Population

__all__ = ["Choice", "Decision", "Engine", "choose", "decide", "record"]

Engine = Literal["trainer", "in-memory", "ensemble"]

_log = logging.getLogger(__name__)
_CHUNK_SIZES = (8, 32, 64)  # gains flatten after that, and the last chunk of a population is shared out the worse
_FEWEST_STEPS = 8
_SECONDS_OF_TRIAL = 0.2  # of each number at once, in which some steps are not disturbed by other work
_SHARE_OF_TRIAL = 0.04  # of all steps of all models, that one number at once may be tried for
_NOT_WORTH_A_TRIAL = 4.0  # seconds that all models take together
_BETTER_BY = 1.1
_AS_GOOD_AS = 1.1  # then the smaller number, which leaves more of the cache and the memory to other processes
_ASKED_FOR = "asked for"


@dataclass(frozen=True, slots=True)
class Choice:
    """How the models of a population are trained in one process.

    Attributes:
        engine: ``"trainer"`` (Lightning's loop), ``"in-memory"`` (the same steps without its cost) or ``"ensemble"``
            (many models at once).
        chunk_size: Models at once.
        reason: Why this one, in words.
        seconds_per_model: Expected time to train one model in one process, where it was measured.
        milliseconds_per_step: What was measured, by engine (``"ensemble-32"``: 32 models at once), for one model.
        compiled: Whether the training step of an ensemble is compiled.
    """

    engine: Engine
    chunk_size: int = 1
    reason: str = ""
    seconds_per_model: float | None = None
    milliseconds_per_step: dict[str, float] = field(default_factory=dict)
    compiled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Choice:
        """The choice in a record, which may say more, such as the number of processes."""
        return cls(**{field.name: state[field.name] for field in fields(cls) if field.name in state})


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """A choice, and what it needs in this process.

    Attributes:
        choice: How models are trained.
        data: The examples in memory; None for the plain Trainer.
        known: What chunks of models find out for those that follow.
    """

    choice: Choice
    data: InMemoryData | None
    known: Known = field(default_factory=Known)


def decide(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    store: OutcomeStore,
    *,
    allowed: Sequence[Engine],
    foresee: Callable[[float], None] | None = None,
) -> Decision:
    """``choose``, once for a population, and on record in the store.

    Args:
        population: Probed before.
        plan: The subset plan.
        model_ids: The models to train.
        store: Where the choice is kept; the next run of a population sticks to it.
        allowed: The ways to choose from.
        foresee: As for ``choose``.
    """
    if population.recipe.made_from and population.decision is None:
        population.decision = Decision(Choice("trainer", reason="made from trained models"), None)
    if population.decision is None:
        earlier = store.manifest.execution
        allowed = [engine for engine in allowed if engine == earlier.get("engine")] or allowed
        if len(allowed) > 1 and earlier.get("engine") == "trainer" and earlier["reason"] != _ASKED_FOR:
            population.decision = Decision(Choice.from_dict(earlier), None)  # which a trial found to be the only way
        else:
            with preserved_randomness():
                population.decision = choose(
                    population,
                    plan,
                    model_ids,
                    allowed=allowed,
                    length=population.length,
                    foresee=foresee,
                )
        record(population, store, population.decision.choice.to_dict())
    return population.decision


def record(population: Population, store: OutcomeStore, execution: Mapping[str, Any]) -> None:
    """Keep on record how baseline models are trained; other arms follow them as far as they can."""
    if population.recipe.arm == BASELINE:
        store.record_execution(execution)


def choose(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    *,
    allowed: Sequence[Engine] = ("in-memory", "ensemble"),
    length: Length,
    foresee: Callable[[float], None] | None = None,
) -> Decision:
    """Try the faster ways on a few models and take the fastest that gives the same weights.

    Args:
        population: Probed before.
        plan: The subset plan.
        model_ids: The models to train.
        allowed: The ways to choose from, where they are right for the recipe; the Trainer always is.
        length: How long training is.
        foresee: Told how many seconds all models take one after the other, before several at once are tried.
    """
    if not {"in-memory", "ensemble"} & set(allowed):
        return Decision(Choice("trainer", reason=_ASKED_FOR), None)
    n_steps, n_batches = guard_steps(length.batches_per_epoch), length.batches or 1
    try:
        data = read_into_memory(population)
        step = check_in_memory(population, plan, model_ids[0], data, n_steps=n_steps)
    except (NotHonoured, NotInMemoryError, UnsupportedDataError) as unsuited:
        return Decision(Choice("trainer", reason=f"the faster loops do not go with {unsuited}"), None)
    plain = Choice("in-memory", 1, "the same weights as the Trainer", step * n_batches, {"in-memory": step * 1e3})
    if "ensemble" not in allowed:
        return Decision(plain, data)
    if "in-memory" in allowed and step * n_batches * len(model_ids) < _NOT_WORTH_A_TRIAL:
        return Decision(replace(plain, reason="too few models to gain by training several at once"), data)
    if foresee is not None:
        foresee(step * n_batches * len(model_ids))
    known = Known()
    try:
        check_ensemble(population, plan, model_ids[:2], data, n_steps=n_steps)
        with freed_memory_kept():
            times = _ensemble_times(population, plan, model_ids, data, known, step=step, n_batches=n_batches)
    except NotHonoured as unsuited:
        return Decision(replace(plain, reason=f"training several models at once does not go with {unsuited}"), data)
    size = min(size for size, seconds in times.items() if seconds <= _AS_GOOD_AS * min(times.values()))
    milliseconds = {**plain.milliseconds_per_step}
    milliseconds |= {f"ensemble-{size}": seconds * 1e3 for size, seconds in times.items()}
    if "in-memory" in allowed and times[size] * _BETTER_BY > step:
        slower = f"{size} models at once would take {times[size] / step:.2f} times as long"
        return Decision(replace(plain, reason=slower, milliseconds_per_step=milliseconds), data)
    reason = f"{step / times[size]:.1f} times as fast as one model after the other"
    choice = Choice("ensemble", size, reason, times[size] * n_batches, milliseconds)
    return Decision(choice, data, known)


def _ensemble_times(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    data: InMemoryData,
    known: Known,
    *,
    step: float,
    n_batches: int,
) -> dict[int, float]:
    """Seconds per step and model, by number of models at once; ``step`` is that of one model by itself.

    More are tried as long as memory allows, more at once gain, and the trial is a small part of all the steps.
    """
    times: dict[int, float] = {}
    for size in _CHUNK_SIZES:
        ids = list(model_ids[:size])
        if times and (len(ids) in times or known.bytes_per_model * len(ids) > available_memory() / 4):
            break
        if len(times) > 1 and times[max(times)] * _BETTER_BY > times[min(times)]:
            break
        most = int(_SHARE_OF_TRIAL * n_batches * len(model_ids) / len(ids))
        if times and most < _FEWEST_STEPS:
            break
        expected = min(times.values(), default=step) * len(ids)
        n_steps = max(_FEWEST_STEPS, min(most, round(_SECONDS_OF_TRIAL / expected)))
        try:
            chunk = train_chunk(population, plan, ids, data, known, n_steps=n_steps)
        except NotHonoured:
            raise
        except Exception as error:  # such as too little memory for so many
            if times:
                _log.warning("not %d models at once: %s: %s", len(ids), type(error).__name__, error)
                break
            raise NotHonoured(f"{len(ids)} models at once: {type(error).__name__}") from error
        times[len(ids)] = chunk.seconds_per_step / len(ids)
    return times
