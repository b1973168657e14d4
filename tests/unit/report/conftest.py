import numpy as np
import pytest

from lightning_memaudit import AuditReport
from lightning_memaudit.outcomes.examples import Examples
from tests.helpers.treated import TreatedStore


def previews_of(kind: str, n_examples: int):
    rng = np.random.default_rng(n_examples)
    if kind == "image":
        return rng.integers(0, 255, (n_examples, 8, 8), dtype=np.uint8)
    if kind == "row":
        return rng.normal(size=(n_examples, 5)).astype(np.float32)
    return np.array([f"text {i} <b>&amp;</b> שלום" for i in range(n_examples)])


def with_previews(known: TreatedStore, kind: str) -> None:
    for split, labels in known.labels.items():
        examples = known.store.examples(split)
        known.store.write_examples(
            split, Examples(len(labels), labels, examples.groups, previews=previews_of(kind, len(labels)))
        )


def small_store(folder, kind: str, n_treated: int = 6) -> TreatedStore:
    """Twelve models of 60 examples with previews, and a pruned arm."""
    rng = np.random.default_rng(1)
    labels = {"train": np.arange(60) % 3, "test": np.arange(90) % 3}
    groups = {"race": {split: np.array(["a", "b"])[np.arange(len(y)) % 2].tolist() for split, y in labels.items()}}
    known = TreatedStore(folder, labels, groups)
    mask = known.plan.masks(range(12))
    base = {"train": mask | (rng.random(mask.shape) < 0.7), "test": rng.random((12, 90)) < 0.8}
    known.fill("baseline", base)
    worse = {split: value[:n_treated] & (rng.random(value[:n_treated].shape) < 0.8) for split, value in base.items()}
    known.fill("prune-0.9", worse)
    with_previews(known, kind)
    return known


@pytest.fixture(scope="module")
def image_report(tmp_path_factory) -> AuditReport:
    return AuditReport.from_store(small_store(tmp_path_factory.mktemp("images"), "image").store)
