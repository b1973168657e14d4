"""A small store with pictures, a treated arm and names of groups that mean harm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tests.helpers.treated import TreatedStore

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_memaudit.outcomes.store import OutcomeStore

HOSTILE = (
    "<script>alert('x')</script>",
    "\"quoted\", 'twice'; a\nnew line | `code`",
    "é" * 10_000,
    "🙂 and שלום עולם",
    "../../etc/passwd",
)


def small_store(folder: Path | str, *, n_models: int = 12) -> OutcomeStore:
    """Forty training images, of which eight are memorized, and thirty test images."""
    rng = np.random.default_rng(0)
    labels = {"train": np.arange(40) % 2, "test": np.arange(30) % 2}
    kinds = {split: [HOSTILE[i % len(HOSTILE)] for i in range(len(y))] for split, y in labels.items()}
    known = TreatedStore(folder, labels, {"kind": kinds}, n_classes=2)
    mask = known.plan.masks(range(n_models))
    base = {
        "train": mask | (np.arange(40) >= 8) & (rng.random(mask.shape) < 0.9),
        "test": rng.random((n_models, 30)) < 0.9,
    }
    known.fill("baseline", base)
    known.fill("prune-0.9", {split: right[:4] & (rng.random(right[:4].shape) < 0.7) for split, right in base.items()})
    for split in labels:
        examples = known.store.examples(split)
        pixels = rng.integers(0, 256, (examples.n_examples, 8, 8), dtype=np.uint8)
        known.store.write_examples(split, replace(examples, previews=pixels))
    return known.store
