"""How much a model is right on an example only because it was trained on it (Feldman and Zhang 2020).

``memorization_score`` and its intervals, groups of examples (``grouped_memorization``), how many examples are memorized
(``prevalence``, ``prevalence_bounds``), how far scores can be trusted (``reliability``), when enough models are trained
(``Settled``, ``Reliable``), and scores adjusted for unequal models (``adjusted_memorization_score``).
"""

from __future__ import annotations

from lightning_memaudit.functional.memorization._adjustment import (
    AdjustedMemorization,
    adjusted_memorization_score,
)
from lightning_memaudit.functional.memorization._bins import (
    MEMORIZATION_BINS,
    memorization_bins,
)
from lightning_memaudit.functional.memorization._group_floor import (
    GroupFloor,
)
from lightning_memaudit.functional.memorization._group_mean import (
    GroupMean,
)
from lightning_memaudit.functional.memorization._in_out import (
    InOut,
    in_out_sums,
)
from lightning_memaudit.functional.memorization._prevalence import (
    EstimatedShare,
    Prevalence,
    ShareOfExamples,
    prevalence,
)
from lightning_memaudit.functional.memorization._prevalence_bounds import (
    LOWER_TAIL,
    UPPER_TAIL,
    PrevalenceBounds,
    prevalence_bounds,
)
from lightning_memaudit.functional.memorization._reliability import (
    Reliability,
    models_for_reliability,
    reliability,
    split_half_reliability,
)
from lightning_memaudit.functional.memorization._score import (
    GroupedMemorization,
    IntervalMethod,
    MemorizationScore,
    c_score,
    grouped_memorization,
    interval_method,
    memorization_interval,
    memorization_score,
    models_for_in_and_out,
    worst_case_standard_error,
)
from lightning_memaudit.functional.memorization._stopping import (
    Reliable,
    Settled,
    StoppingLook,
    reached,
)

__all__ = [
    "LOWER_TAIL",
    "MEMORIZATION_BINS",
    "UPPER_TAIL",
    "AdjustedMemorization",
    "EstimatedShare",
    "GroupFloor",
    "GroupMean",
    "GroupedMemorization",
    "InOut",
    "IntervalMethod",
    "MemorizationScore",
    "Prevalence",
    "PrevalenceBounds",
    "Reliability",
    "Reliable",
    "Settled",
    "ShareOfExamples",
    "StoppingLook",
    "adjusted_memorization_score",
    "c_score",
    "grouped_memorization",
    "in_out_sums",
    "interval_method",
    "memorization_bins",
    "memorization_interval",
    "memorization_score",
    "models_for_in_and_out",
    "models_for_reliability",
    "prevalence",
    "prevalence_bounds",
    "reached",
    "reliability",
    "split_half_reliability",
    "worst_case_standard_error",
]
