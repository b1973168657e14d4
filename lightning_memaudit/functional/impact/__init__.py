"""What a treatment costs, and whom.

``accuracy_drop`` and ``value_drop`` give the drop by group with intervals; ``decompose_drop`` splits the cost of DP-SGD
into clipping and noise; ``hooker_test``, ``exemplars`` and ``taxicab_exemplars`` find what a treatment changes;
``memorization_slope`` and ``drop_by_memorization`` link the drop with memorization; ``error_rate`` and
``calibration_by_group`` describe one arm; ``decision_size`` and ``size_law`` say how much data would decide.
"""

from __future__ import annotations

from lightning_memaudit.functional.impact._calibration import (
    Calibration,
    calibration_by_group,
)
from lightning_memaudit.functional.impact._decomposition import (
    ClippingDecomposition,
    decompose_drop,
)
from lightning_memaudit.functional.impact._drop_bins import (
    DropByMemorization,
    drop_by_memorization,
)
from lightning_memaudit.functional.impact._drops import (
    DropResult,
    IntervalMethod,
    accuracy_drop,
    value_drop,
)
from lightning_memaudit.functional.impact._error_rate import (
    ErrorRate,
    error_rate,
)
from lightning_memaudit.functional.impact._exemplars import (
    ExemplarOdds,
    Exemplars,
    exemplar_odds,
    exemplars,
    taxicab_exemplars,
)
from lightning_memaudit.functional.impact._hooker import (
    HookerTest,
    hooker_test,
)
from lightning_memaudit.functional.impact._sample_size import (
    DecisionSize,
    SizesNeeded,
    decision_size,
    group_size,
    size_law,
)
from lightning_memaudit.functional.impact._slope import (
    MemorizationSlope,
    memorization_slope,
)

__all__ = [
    "Calibration",
    "ClippingDecomposition",
    "DecisionSize",
    "DropByMemorization",
    "DropResult",
    "ErrorRate",
    "ExemplarOdds",
    "Exemplars",
    "HookerTest",
    "IntervalMethod",
    "MemorizationSlope",
    "SizesNeeded",
    "accuracy_drop",
    "calibration_by_group",
    "decision_size",
    "decompose_drop",
    "drop_by_memorization",
    "error_rate",
    "exemplar_odds",
    "exemplars",
    "group_size",
    "hooker_test",
    "memorization_slope",
    "size_law",
    "taxicab_exemplars",
    "value_drop",
]
