"""Which way of training is right for a recipe, and the fastest of those: measured, with the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from lightning_memaudit.data.randomness import preserved_randomness
from lightning_memaudit.data.rows import NotInMemoryError, available_memory
from lightning_memaudit.exceptions import UnsupportedDataError
from lightning_memaudit.training.ensemble.chunk import train_chunk
from lightning_memaudit.training.ensemble.loop import Known
from lightning_memaudit.training.guard import check_ensemble, check_in_memory, guard_steps
from lightning_memaudit.training.loops.honoured import NotHonoured
from lightning_memaudit.training.memory import InMemoryData, read_into_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.training.task import Length, Population

__all__ = ["Choice", "Decision", "Engine", "choose", "decide"]

Engine = Literal["trainer", "in-memory", "ensemble"]

_CHUNK_SIZES = (8, 32)  # gains flatten after that, and the last chunk of a population is shared out the worse
_TIMED_STEPS = 8
_NOT_WORTH_A_TRIAL = 4.0  # seconds that all models take together
_BETTER_BY = 1.1


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
    """

    engine: Engine
    chunk_size: int = 1
    reason: str = ""
    seconds_per_model: float | None = None
    milliseconds_per_step: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


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
) -> Decision:
    """``choose``, once for a population, and on record in the store.

    Args:
        population: Probed before.
        plan: The subset plan.
        model_ids: The models to train.
        store: Where the choice is kept; the next run of a population sticks to it.
        allowed: The ways to choose from.
    """
    if population.decision is None:
        earlier = store.manifest.execution.get("engine")
        allowed = [engine for engine in allowed if engine == earlier] or allowed
        with preserved_randomness():
            choice, data = choose(population, plan, model_ids, allowed=allowed, length=population.length)
        population.decision = Decision(choice, data)
        store.record_execution(choice.to_dict())
    return population.decision


def choose(
    population: Population,
    plan: SubsetPlan,
    model_ids: Sequence[int],
    *,
    allowed: Sequence[Engine] = ("trainer", "in-memory", "ensemble"),
    length: Length,
) -> tuple[Choice, InMemoryData | None]:
    """Try the faster ways on a few models and take the fastest that gives the same weights.

    Args:
        population: Probed before.
        plan: The subset plan.
        model_ids: The models to train.
        allowed: The ways to choose from; ``"trainer"`` is always one of them.
        length: How long training is.

    Returns:
        The choice, and the examples in memory where they are needed.
    """
    if not {"in-memory", "ensemble"} & set(allowed):
        return Choice("trainer", reason="asked for"), None
    n_steps = guard_steps(length.batches_per_epoch)
    try:
        data = read_into_memory(population)
        step = check_in_memory(population, plan, model_ids[0], data, n_steps=n_steps)
    except (NotHonoured, NotInMemoryError, UnsupportedDataError) as unsuited:
        return Choice("trainer", reason=f"the faster loops do not go with {unsuited}"), None
    milliseconds = {"in-memory": step * 1e3}
    total = step * (length.batches or 1)
    plain = Choice("in-memory", 1, "the same weights as the Trainer", total, milliseconds)
    if "ensemble" not in allowed:
        return plain, data
    if "in-memory" in allowed and total * len(model_ids) < _NOT_WORTH_A_TRIAL:
        return replace(plain, reason="too few models to gain by training several at once"), data
    try:
        check_ensemble(population, plan, model_ids[:2], data, n_steps=n_steps)
        times = _ensemble_times(population, plan, model_ids, data)
    except NotHonoured as unsuited:
        return replace(plain, reason=f"training several models at once does not go with {unsuited}"), data
    milliseconds |= {f"ensemble-{size}": seconds * 1e3 for size, seconds in times.items()}
    plain = replace(plain, milliseconds_per_step=milliseconds)
    size = min(times, key=lambda size: times[size])
    if "in-memory" in allowed and times[size] * _BETTER_BY > step:
        slower = f"{size} models at once would take {times[size] / step:.2f} times as long"
        return replace(plain, reason=slower), data
    reason = f"{step / times[size]:.1f} times as fast as one model after the other"
    return Choice("ensemble", size, reason, times[size] * (length.batches or 1), milliseconds), data


def _ensemble_times(
    population: Population, plan: SubsetPlan, model_ids: Sequence[int], data: InMemoryData
) -> dict[int, float]:
    """Seconds per step and model, by number of models at once, as far as memory allows."""
    times: dict[int, float] = {}
    known = Known()
    for size in _CHUNK_SIZES:
        ids = list(model_ids[:size])
        if times and (len(ids) in times or known.bytes_per_model * len(ids) > available_memory() / 4):
            break
        chunk = train_chunk(population, plan, ids, data, known, n_steps=_TIMED_STEPS)
        times[len(ids)] = chunk.seconds_per_step / len(ids)
    return times
