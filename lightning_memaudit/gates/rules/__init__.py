"""Kinds of rules. A new one is a class like those below and its entry in ``KINDS``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_memaudit.gates.rules.accuracy import Accuracy, Gap
from lightning_memaudit.gates.rules.drop import Drop, ExcessDrop
from lightning_memaudit.gates.rules.epsilon import Epsilon
from lightning_memaudit.gates.rules.memorization import Memorization, MemorizationPrevalence
from lightning_memaudit.gates.rules.regression import Regression

if TYPE_CHECKING:
    from lightning_memaudit.gates.rules.base import RuleKind

__all__ = ["KINDS"]

KINDS: dict[str, type[RuleKind]] = {
    kind.name: kind
    for kind in (Drop, ExcessDrop, Accuracy, Gap, Memorization, MemorizationPrevalence, Epsilon, Regression)
}
