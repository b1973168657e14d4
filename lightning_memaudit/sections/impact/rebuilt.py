"""How models that were rebuilt from their seeds differ from the stored ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.outcomes.arms import BASELINE, FULL, REBUILT
from lightning_memaudit.record.pairs import scores_of
from lightning_memaudit.sections.entries import available, unavailable

if TYPE_CHECKING:
    from lightning_memaudit.record import Record
    from lightning_memaudit.record.pairs import PairedArm

__all__ = ["describe_rebuilt"]


def describe_rebuilt(record: Record, arm: PairedArm) -> dict[str, Any]:
    """How the rebuilt models among an arm's base differ from the stored ones of the same number."""
    rows = [row for row, source in enumerate(arm.sources) if source.removeprefix(FULL) == REBUILT]
    if not rows:
        return unavailable("no base model was rebuilt")
    stored = {row: arm.sources[row].removesuffix(REBUILT) + BASELINE for row in rows}
    known = [row for row in rows if int(arm.model_ids[row]) in record.model_ids(stored[row])]
    if not known:
        return unavailable("the stored models that were rebuilt are no longer in the store")
    before = scores_of(record, arm.split, [(stored[row], int(arm.model_ids[row])) for row in known])
    now = arm.base.correct[known]
    flips = (before.correct != now).mean(axis=1)
    counts = np.round(flips * now.shape[1]).astype(np.int64)
    return available(
        n_models=len(rows),
        n_compared=len(known),
        n_flips=int(counts.sum()),
        share=float(flips.mean()),
        by_model=[
            {"model": int(arm.model_ids[row]), "n_flips": int(count), "share": float(share)}
            for row, count, share in zip(known, counts, flips, strict=True)
        ],
    )
