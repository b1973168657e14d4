"""A stretch of examples of a split, and who takes part in the pass over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from lightning_memaudit.record.arm import ArmRecord

__all__ = ["Block", "Consumer", "Reads", "Reduction", "Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Fields that a section reads beside ``correct``, which is always there.

    Attributes:
        arm: The arm.
        split: The split.
        fields: Some of ``margin``, ``loss``, ``prediction``, ``confidence``.
        with_base: Whether those of the models that the arm is compared with are read too.
    """

    arm: str
    split: str
    fields: tuple[str, ...]
    with_base: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What all models did on a stretch of the examples of a split.

    Attributes:
        split: The split.
        columns: The stretch.
        arms: What was read of each arm.
    """

    split: str
    columns: slice
    arms: Mapping[str, ArmRecord]

    def correct(self, arm: str, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[Any]:
        """Whether models are right, bool[K, b], or float32 for sequences."""
        return self.arms[arm].correct(self.split, rows, self.columns)

    def values(self, arm: str, name: str, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[Any]:
        """Values of a field [K, b]."""
        return self.arms[arm].values(self.split, name, rows, self.columns)


class Reduction(Protocol):
    """What is made of the blocks of a split, in their order."""

    def consume(self, block: Block) -> None:
        """Take one block."""

    def finish(self) -> Any:
        """What came of all of them."""


class Consumer(Protocol):
    """Someone who takes part in the pass: hashable, and equal to one that makes the same.

    Attributes:
        split: The split whose blocks it takes.
        wants: Fields that it reads from them.
    """

    @property
    def split(self) -> str: ...  # noqa: D102 - see above

    @property
    def wants(self) -> Sequence[Wanted]: ...  # noqa: D102

    def __hash__(self) -> int: ...

    def start(self, record: Any) -> Reduction:
        """Begin, once the shards are read and before the first block.

        Args:
            record: The ``Record``.

        Raises:
            MissingDataError: There is nothing to make it from; asking for the result raises it again.
        """


@dataclass(frozen=True, slots=True)
class Reads:
    """What a section reads beside ``correct``.

    Attributes:
        consumers: Those who take it block by block.
        whole: Fields that the section reads as a whole, for a pair of arms at a time.
    """

    consumers: tuple[Consumer, ...] = ()
    whole: tuple[Wanted, ...] = ()

    def wanted(self) -> tuple[Wanted, ...]:
        """All fields."""
        return (*self.whole, *(wanted for consumer in self.consumers for wanted in consumer.wants))
