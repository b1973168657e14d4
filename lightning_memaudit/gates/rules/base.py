"""What a kind of rule is: one class, registered in ``rules.KINDS``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_memaudit.gates.judged_report import Subject
    from lightning_memaudit.gates.policy.scope import Scope
    from lightning_memaudit.gates.tables import Batch, Problem

__all__ = ["Direction", "RuleKind", "Unit"]

Direction = Literal["at most", "at least"]
Unit = Literal["points", "share", "number"]


class RuleKind(Protocol):
    """A kind of rule: a frozen dataclass whose fields are the options that it has beyond those of every rule.

    Its docstring is what ``memaudit gate --explain`` prints.

    Attributes:
        name: How policies call it.
        direction: Whether the margin is the most or the least that is allowed.
        unit: How values are written: differences of shares in points, shares in percent, or plain numbers.
        margin_means: The margin in words.
        default_treatments: Arms that a rule is about where it does not say; empty leaves it to the kind.
        default_groups: Groups likewise.
        compares: Whether it needs a baseline.
        ignores: Keys of every rule that it has no use for, which policies may not give it.
        section: The section of the report that it reads.
    """

    name: ClassVar[str]
    direction: ClassVar[Direction]
    unit: ClassVar[Unit]
    margin_means: ClassVar[str]
    default_treatments: ClassVar[tuple[str, ...]]
    default_groups: ClassVar[tuple[str, ...]]
    compares: ClassVar[bool]
    ignores: ClassVar[tuple[str, ...]]

    @property
    def section(self) -> str: ...  # noqa: D102 - see above

    def evidence(self, rule: Scope, subject: Subject, reference: Subject | None) -> Iterator[Batch | Problem]:
        """Everything that a rule of this kind is about, larger values being worse (an error rate, not an accuracy)."""
