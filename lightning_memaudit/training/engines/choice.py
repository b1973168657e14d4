"""Which engine trains the models of a run in one process, and what it needs there."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.training.engines.ensemble.loop import ChunkMemo
from lightning_memaudit.training.timing import Thresholds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.data.rows import InMemoryData
    from lightning_memaudit.training.run import Run

__all__ = [
    "ChosenEngine",
    "Decision",
    "EngineChoice",
    "EngineName",
    "EngineOptions",
    "Tuning",
    "engines_to_try",
    "record",
]

EngineName = Literal["trainer", "in-memory", "ensemble"]
Tuning = Literal["full", "off"]


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """How the models of a run are trained in one process.

    Attributes:
        engine: ``"trainer"`` (Lightning's loop), ``"in-memory"`` (the same steps without its cost) or ``"ensemble"``
            (many models at once).
        chunk_size: Models at once.
        reason: Why this one, in words.
        seconds_per_model: Expected time to train one model in one process, where it was measured.
        milliseconds_per_step: What was measured, by engine (``"ensemble-32"``: 32 models at once), for one model.
        compiled: Whether the training step of an ensemble is compiled.
    """

    engine: EngineName
    chunk_size: int = 1
    reason: str = ""
    seconds_per_model: float | None = None
    milliseconds_per_step: dict[str, float] = field(default_factory=dict)
    compiled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> EngineChoice:
        """The choice in a record, which may say more, such as the number of processes."""
        return cls(**{field.name: state[field.name] for field in fields(cls) if field.name in state})


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an executor asks of engines.

    Attributes:
        tuning: ``"full"``, or ``"off"``: neither compile a step nor change how the C library keeps memory.
        thresholds: When faster ways are tried and taken.

    Raises:
        ArgumentError: There is no such tuning.
    """

    tuning: Tuning = "full"
    thresholds: Thresholds = field(default_factory=Thresholds)

    def __post_init__(self) -> None:
        if self.tuning not in get_args(Tuning):
            raise ArgumentError(f"tuning={self.tuning!r}: one of {', '.join(get_args(Tuning))} is needed")


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """A choice, and what it needs in this process.

    Attributes:
        choice: How models are trained.
        data: The examples in memory; None for the plain Trainer.
        memo: What chunks of models find out for those that follow.
        options: What was asked for.
    """

    choice: EngineChoice
    data: InMemoryData | None = None
    memo: ChunkMemo = field(default_factory=ChunkMemo)
    options: EngineOptions = EngineOptions()


@dataclass(slots=True, eq=False)
class ChosenEngine:
    """Keeps what was decided for the models of one arm, from one call of an executor to the next.

    Attributes:
        decision: None until the first models are trained.
    """

    decision: Decision | None = None


def engines_to_try(engine: EngineName | None) -> tuple[EngineName, ...]:
    """The engines to choose from, where one may be asked for by name.

    Raises:
        ArgumentError: There is no such engine.
    """
    if engine is None:
        return ("in-memory", "ensemble")
    if engine not in get_args(EngineName):
        raise ArgumentError(f"engine={engine!r}: one of {', '.join(get_args(EngineName))} is needed, or None")
    return (engine,)


def record(run: Run, execution: Mapping[str, Any]) -> None:
    """Keep on record how baseline models are trained; other arms follow them as far as they can."""
    if run.arm == BASELINE:
        run.store.record_execution(execution)
