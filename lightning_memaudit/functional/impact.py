"""What a treatment costs, and whom: everything about the impact of a treatment, gathered from its modules.

``drops`` has the drop by group and its intervals, ``decomposition`` its split into clipping and noise, ``hooker`` the
test of relative change, ``exemplars`` the examples whose prediction changed, ``slope``, ``drop_bins`` and
``influence_mass`` the link with memorization, ``multiplicity`` and ``sample_size`` what is needed to decide.
"""

from __future__ import annotations

from lightning_memaudit.functional.bins import MEMORIZATION_BINS, memorization_bins
from lightning_memaudit.functional.decomposition import ClippingDecomposition, decompose_drop
from lightning_memaudit.functional.drop_bins import DropByMemorization, drop_by_memorization
from lightning_memaudit.functional.drops import DropResult, IntervalMethod, accuracy_drop, value_drop
from lightning_memaudit.functional.exemplars import (
    ExemplarOdds,
    Exemplars,
    exemplar_odds,
    exemplars,
    taxicab_exemplars,
)
from lightning_memaudit.functional.hooker import HookerTest, hooker_test
from lightning_memaudit.functional.influence_mass import influence_mass
from lightning_memaudit.functional.multiplicity import adjust_p_values
from lightning_memaudit.functional.sample_size import DecisionSize, decision_size, group_size
from lightning_memaudit.functional.slope import MemorizationSlope, memorization_slope

__all__ = [
    "MEMORIZATION_BINS",
    "ClippingDecomposition",
    "DecisionSize",
    "DropByMemorization",
    "DropResult",
    "ExemplarOdds",
    "Exemplars",
    "HookerTest",
    "IntervalMethod",
    "MemorizationSlope",
    "accuracy_drop",
    "adjust_p_values",
    "decision_size",
    "decompose_drop",
    "drop_by_memorization",
    "exemplar_odds",
    "exemplars",
    "group_size",
    "hooker_test",
    "influence_mass",
    "memorization_bins",
    "memorization_slope",
    "taxicab_exemplars",
    "value_drop",
]
