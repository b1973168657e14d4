"""What a training example's presence adds to the accuracy on a test example (Feldman and Zhang 2020).

``influence`` gives all values, the largest of each row, or those above a threshold. ``high_influence_pairs`` selects
pairs, ``false_discovery_rate`` says how many of them are due to chance, ``near_duplicates`` finds training examples
that stand in for each other, and ``influence_mass`` sums the influence of memorized examples.
"""

from __future__ import annotations

from lightning_memaudit.functional.influence._false_discovery import (
    FalseDiscoveryRate,
    NearDuplicates,
    false_discovery_rate,
    near_duplicates,
    threshold_for_fdr,
)
from lightning_memaudit.functional.influence._influence import (
    expected_false_pairs,
    high_influence_pairs,
    influence,
    influence_given_out,
    minimum_detectable_influence,
)
from lightning_memaudit.functional.influence._mass import (
    influence_mass,
)
from lightning_memaudit.functional.influence._pairs import (
    InfluencePairs,
)

__all__ = [
    "FalseDiscoveryRate",
    "InfluencePairs",
    "NearDuplicates",
    "expected_false_pairs",
    "false_discovery_rate",
    "high_influence_pairs",
    "influence",
    "influence_given_out",
    "influence_mass",
    "minimum_detectable_influence",
    "near_duplicates",
    "threshold_for_fdr",
]
