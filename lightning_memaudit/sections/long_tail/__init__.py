"""The long tail of the data, what the theory says of it, and what treatments cost along it."""

from lightning_memaudit.sections.long_tail.section import (
    SECTION,
    LongTailResult,
    choose_subpopulations,
    long_tail_section,
)

__all__ = ["SECTION", "LongTailResult", "choose_subpopulations", "long_tail_section"]
