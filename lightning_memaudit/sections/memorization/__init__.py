"""What the population memorizes: scores, fit, prevalence, groups, and who influences whom."""

from lightning_memaudit.sections.memorization.groups import group_rows
from lightning_memaudit.sections.memorization.scores import reads, scored
from lightning_memaudit.sections.memorization.section import SECTION, MemorizationResult, memorization_section
from lightning_memaudit.sections.memorization.top import top_examples

__all__ = [
    "SECTION",
    "MemorizationResult",
    "group_rows",
    "memorization_section",
    "reads",
    "scored",
    "top_examples",
]
