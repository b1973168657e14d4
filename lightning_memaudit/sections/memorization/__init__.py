"""What the population memorizes: scores, fit, prevalence, groups, and who influences whom."""

from lightning_memaudit.sections.memorization.fit import NOT_FITTED_BELOW
from lightning_memaudit.sections.memorization.groups import MEMORIZED, group_rows
from lightning_memaudit.sections.memorization.scores import scored
from lightning_memaudit.sections.memorization.section import SECTION, MemorizationResult, memorization_section
from lightning_memaudit.sections.memorization.top import top_examples

__all__ = [
    "MEMORIZED",
    "NOT_FITTED_BELOW",
    "SECTION",
    "MemorizationResult",
    "group_rows",
    "memorization_section",
    "scored",
    "top_examples",
]
