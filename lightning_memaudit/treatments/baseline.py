"""Nothing is done."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_memaudit.treatments.base import Treatment

__all__ = ["Baseline"]


@dataclass(frozen=True)
class Baseline(Treatment):
    """The models as they are.

    Args:
        name: The arm's name.
    """

    name: str = "baseline"

    @property
    def trains(self) -> bool:
        """The baseline is trained."""
        return True

    @property
    def starts_trained(self) -> bool:
        """It starts from nothing."""
        return False
