"""What follows from an estimate: its row in a report, its bounds, and what would decide it; one class for all kinds.

A section writes ``DROP.to_row(found, g)``; a gate restores and judges ``DROP.of_rows(rows)``.
"""

from lightning_memaudit.record.estimates.kinds import DROP, ERROR, EXCESS, GAP, MEAN, PREVALENCE, Estimate, Kind
from lightning_memaudit.record.estimates.needed import NOTHING, Needed, is_practical, times
from lightning_memaudit.record.estimates.sizes import by_factor, by_models, by_sizes

__all__ = [
    "DROP",
    "ERROR",
    "EXCESS",
    "GAP",
    "MEAN",
    "NOTHING",
    "PREVALENCE",
    "Estimate",
    "Kind",
    "Needed",
    "by_factor",
    "by_models",
    "by_sizes",
    "is_practical",
    "times",
]
