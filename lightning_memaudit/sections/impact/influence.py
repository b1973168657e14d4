"""How much of a held-out example's accuracy rests on memorized training examples, and its drop by that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.impact import accuracy_drop
from lightning_memaudit.functional.influence import influence_mass, minimum_detectable_influence
from lightning_memaudit.functional.memorization import memorization_score
from lightning_memaudit.functional.subgroups import by_group
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.record.levels import INFLUENTIAL, LEVEL, MEMORIZED
from lightning_memaudit.sections.entries import available, unavailable
from lightning_memaudit.sections.impact.groups import drop_row
from lightning_memaudit.sections.impact.memorization import LEAST_FREE
from lightning_memaudit.sections.influence import InfluentialPairs, has_classes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.functional.checks import BoolArray, FloatArray
    from lightning_memaudit.record import ArmOutcomes, Record
    from lightning_memaudit.record.pairs import PairedArm
    from lightning_memaudit.record.partitions import Partition

__all__ = ["InfluenceMass", "describe_drop_by_mass", "find_influence_mass"]

_MOST_FALSE = 0.2
_MASS_EDGES = (0.0, 0.5)
_MASS_NAMES = ("none", "up to 0.5", "above 0.5")


@dataclass(frozen=True, slots=True, eq=False)
class InfluenceMass:
    """Influence mass of the held-out examples.

    Attributes:
        mass: float64[n], or None where it cannot be told from chance.
        summary: What reports show.
    """

    mass: FloatArray | None
    summary: dict[str, Any]


def find_influence_mass(
    record: Record, split: str, baseline: ArmOutcomes, free: BoolArray, divided: Mapping[str, Partition | None]
) -> InfluenceMass:
    """Influence mass of held-out examples, from baseline models that are compared with no treated one."""
    n_models, n_free = len(free), int(free.sum())
    if split == "train":
        return InfluenceMass(None, unavailable("there is no test or validation split"))
    if n_free < LEAST_FREE:
        return InfluenceMass(
            None,
            unavailable(
                f"{n_free} of the {n_models} baseline models are compared with no treated one, and influence is "
                f"estimated from those; train at least {LEAST_FREE - n_free} more baseline models"
            ),
        )
    labels_train, labels_test = baseline.labels, record.examples(split).labels
    if not has_classes(labels_train) or not has_classes(labels_test):
        return InfluenceMass(None, unavailable("the examples have no class labels, and influence is within a class"))
    correct, mask = baseline.correct[free], baseline.mask[free]
    tested = record.arm(BASELINE).correct(split, np.flatnonzero(free))
    score = memorization_score(correct, mask).score
    known = InfluentialPairs.find(tested, mask, score, labels_train=labels_train, labels_test=labels_test)
    pairs = known.pairs
    rate, needed = 0.0, None
    if len(pairs.influence):
        rate, _ = known.by_chance(
            np.ones(n_free, dtype=bool), None if baseline.blocks is None else baseline.blocks[free]
        )
        n_in = float(np.clip(np.median(mask.sum(axis=0)), 1, n_free - 1))
        detectable = minimum_detectable_influence(n_in, n_free - n_in, known.n_tests)
        needed = int(np.ceil(n_models - n_free + n_free * (detectable / INFLUENTIAL) ** 2))
    facts = {
        "n_models": n_free,
        "n_pairs": len(pairs.influence),
        "false_discovery_rate": rate,
        "models_needed": needed,
        "influence_threshold": INFLUENTIAL,
        "memorization_threshold": MEMORIZED,
    }
    if not rate <= _MOST_FALSE:
        reason = (
            f"an estimated {100 * rate:.0f} % of {len(pairs.influence)} pairs with influence ≥ {INFLUENTIAL} would "
            f"be there with no influence at all at {n_free} models; {needed} baseline models in all would tell such an "
            "influence from chance"
        )
        return InfluenceMass(None, unavailable(reason) | facts)
    mass = influence_mass(pairs, score, n_test=len(labels_test))
    groups = {
        name: [
            {
                "group": group,
                "n": int((part.codes == g).sum()),
                "mean_mass": float(mean),
                "share_with_mass": float(share),
            }
            for g, (group, mean, share) in enumerate(
                zip(
                    part.names,
                    by_group(mass, part.codes, n_groups=len(part.names)),
                    by_group(mass > 0, part.codes, n_groups=len(part.names)),
                    strict=True,
                )
            )
        ]
        for name, part in divided.items()
        if part is not None
    }
    return InfluenceMass(mass, available(**facts, split=split, by_group=groups))


def describe_drop_by_mass(arm: PairedArm, influence: InfluenceMass) -> dict[str, Any]:
    """Drop of held-out examples by how much of their accuracy rests on memorized training examples."""
    if influence.mass is None:
        return unavailable(influence.summary["reason"])
    codes = np.searchsorted(_MASS_EDGES, influence.mass, side="left")
    drop = accuracy_drop(*arm.outcomes(), codes, paired=True, level=LEVEL, n_groups=len(_MASS_NAMES))
    return available(rows=[{"mass": name, **drop_row(drop, g)} for g, name in enumerate(_MASS_NAMES)])
