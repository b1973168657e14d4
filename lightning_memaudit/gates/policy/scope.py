"""What a rule is about: as much of a rule as reading a report needs."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Scope"]


class Scope(Protocol):
    """Arms and groups that a rule is about."""

    @property
    def treatments(self) -> tuple[str, ...]:
        """Arms, by name or pattern; empty where the kind finds them."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups, by ``grouping=name``, pattern, ``overall`` or ``memorization=…``."""

    @property
    def exclude(self) -> tuple[str, ...]:
        """Groups that are left out."""

    @property
    def cross_fitted(self) -> bool:
        """Whether groups made from memorization scores are from other models than those judged."""
