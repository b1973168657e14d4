"""What would decide an undecided estimate, in numbers and in words: the same words in reports and in gates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_memaudit.record.levels import PRACTICAL_FACTOR

__all__ = ["NOTHING", "Needed", "is_practical", "times"]


@dataclass(frozen=True, slots=True)
class Needed:
    """What would decide if the estimate is right; None where nothing of the kind would, or unknown.

    Attributes:
        n: Examples, with the models there are.
        models: Models in the smaller arm, with the examples there are.
        factor: How many times as many of both; infinite where no number of them would.
    """

    n: int | None = None
    models: int | None = None
    factor: float | None = None

    def words(self) -> str:
        """A clause without a capital or a full stop.

        Example:
            >>> Needed(n=480, models=25, factor=3.2).words()
            'about 480 examples or 25 models would decide it'
            >>> Needed(factor=3.21).words()
            'about 3.2 times as many examples and models would decide it'
            >>> Needed(factor=300.0).words(), Needed().words()
            ('no practical number of examples and models would decide it', 'more models may decide it')
        """
        if self.factor is not None and not is_practical(self.factor):
            return "no practical number of examples and models would decide it"
        counts = ((self.n, "example"), (self.models, "model"))
        ways = [f"{count} {noun}" if count == 1 else f"{count} {noun}s" for count, noun in counts if count is not None]
        if ways:
            return f"about {' or '.join(ways)} would decide it"
        if self.factor is None:
            return "more models may decide it"
        return f"about {times(self.factor)} as many examples and models would decide it"


NOTHING = Needed()


def is_practical(factor: float) -> bool:
    """Whether somebody may be told to get this many times as many examples and models."""
    return math.isfinite(factor) and factor <= PRACTICAL_FACTOR


def times(factor: float) -> str:
    """A factor in words.

    Example:
        >>> times(1.44), times(86.2)
        ('1.4 times', '86 times')
    """
    return f"{factor:.1f} times" if factor < 10 else f"{factor:.0f} times"
