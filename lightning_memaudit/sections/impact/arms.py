"""A treated arm beside the models that its models are compared with, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.uncertainty import example_means
from lightning_memaudit.outcomes.arms import BASELINE, FULL, REBUILT
from lightning_memaudit.outcomes.scoring import FIELDS
from lightning_memaudit.sections.entries import found, unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray
    from lightning_memaudit.outcomes.store import Outcomes, OutcomeStore

__all__ = ["ArmReader", "PairedArm", "Scores", "choose_split", "is_treated"]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Outcomes of K models on n examples; fields that were not asked for have no columns.

    Attributes:
        correct: bool[K, n], or float32 in [0, 1] for sequences.
        margin: float32[K, n].
        loss: float32[K, n].
        prediction: int32[K, n].
        confidence: float32[K, n], NaN where it is not on record.
    """

    correct: npt.NDArray[Any]
    margin: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float32]
    prediction: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]

    @property
    def n_diverged(self) -> int:
        """Models that are right nowhere because their output is not finite."""
        if not self.margin.size:
            return 0
        return int((~self.correct.any(axis=1) & np.isnan(self.margin).all(axis=1)).sum())


@dataclass(frozen=True, slots=True, eq=False)
class PairedArm:
    """Row k of ``base`` and of ``treated`` share subset and seed, and for post-training treatments the training too.

    Attributes:
        name: The arm's name.
        split: The split that was scored.
        model_ids: int64[K].
        sources: The arm of each base model.
        base: What the base models did.
        treated: What the treated models did.
        judged: Cells that count, bool[K, n]: on the training split those of models without the example; else all.
        labels: int64[n], or None where examples have no class number.
        without_base: Treated models that are left out, since the model to compare them with is not in the store.
    """

    name: str
    split: str
    model_ids: IntArray
    sources: tuple[str, ...]
    base: Scores
    treated: Scores
    judged: BoolArray
    labels: IntArray | None
    without_base: tuple[int, ...]

    @property
    def n_models(self) -> int:
        """K."""
        return len(self.model_ids)

    @property
    def is_complete(self) -> bool:
        """Whether every model is judged on every example."""
        return bool(self.judged.all())

    def outcomes(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Correctness in both arms [K, n], NaN where a model is not judged."""
        return self.kept(self.base.correct), self.kept(self.treated.correct)

    def kept(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values [K, n] with NaN in the cells that do not count."""
        return values if self.is_complete else np.where(self.judged, values, np.nan)

    def means(self) -> tuple[FloatArray, FloatArray]:
        """Accuracy on each example in both arms, float64[n]; NaN where no model is judged."""
        first, second = self.outcomes()
        return example_means(first), example_means(second)


class ArmReader:
    """Reads the arms of a store, damaged shards left out.

    Args:
        store: The store.
    """

    def __init__(self, store: OutcomeStore) -> None:
        self.store = store
        self.model_ids = cache(store.model_ids)

    def read(self, name: str, split: str, fields: Sequence[str] = FIELDS) -> PairedArm:
        """One arm on one split, beside its base.

        Args:
            name: The arm.
            split: The split.
            fields: What to hold in memory besides ``correct``.

        Raises:
            MissingDataError: No model of the arm has its counterpart in the store, or all saw every example of the
                split in training.
        """
        ids = self.model_ids(name)
        if not ids:
            raise MissingDataError(f"arm {name!r} has no readable model; run the audit again")
        treated = self.store.load(name, split, model_ids=ids, fields=fields)
        sources = [_base_of(name, made_from) for made_from in treated.made_from]
        rows = [row for row, k in enumerate(ids) if k in self.model_ids(sources[row])]
        if not rows:
            wanted = ", ".join(sorted(set(sources)))
            raise MissingDataError(
                f"none of the {len(ids)} models of arm {name!r} can be compared: the models of the same number are not "
                f"in arm {wanted}; train them (memaudit run, or audit.run())"
            )
        base = self._base([(sources[row], ids[row]) for row in rows], split, fields)
        kept = Scores(*(getattr(treated, field)[rows] for field in FIELDS))
        judged = np.ones(kept.correct.shape, dtype=bool)
        if split == "train":
            judged = ~treated.mask[rows]
            if not judged.any():
                raise MissingDataError(
                    f"the models of arm {name!r} trained on every example of split 'train', and the store has no other "
                    "split to judge them on; audit with a test or validation split"
                )
        return PairedArm(
            name=name,
            split=split,
            model_ids=np.array([ids[row] for row in rows], dtype=np.int64),
            sources=tuple(sources[row] for row in rows),
            base=base,
            treated=kept,
            judged=judged,
            labels=_class_numbers(treated),
            without_base=tuple(k for row, k in enumerate(ids) if row not in set(rows)),
        )

    def rebuilt(self, arm: PairedArm) -> dict[str, Any]:
        """How the rebuilt models among an arm's base differ from the stored ones of the same number."""
        rows = [row for row, source in enumerate(arm.sources) if source.removeprefix(FULL) == REBUILT]
        if not rows:
            return unavailable("no base model was rebuilt")
        stored = {row: arm.sources[row].removesuffix(REBUILT) + BASELINE for row in rows}
        known = [row for row in rows if int(arm.model_ids[row]) in self.model_ids(stored[row])]
        if not known:
            return unavailable("the stored models that were rebuilt are no longer in the store")
        pairs = [(stored[row], int(arm.model_ids[row])) for row in known]
        flips = (self._base(pairs, arm.split, ()).correct != arm.base.correct[known]).mean(axis=1)
        counts = np.round(flips * arm.base.correct.shape[1]).astype(np.int64)
        return found(
            n_models=len(rows),
            n_compared=len(known),
            n_flips=int(counts.sum()),
            share=float(flips.mean()),
            by_model=[
                {"model": int(arm.model_ids[row]), "n_flips": int(count), "share": float(share)}
                for row, count, share in zip(known, counts, flips, strict=True)
            ],
        )

    def _base(self, wanted: Sequence[tuple[str, int]], split: str, fields: Sequence[str]) -> Scores:
        """Outcomes of single models of several arms, in order."""
        by_arm = {
            name: [k for source, k in wanted if source == name] for name in dict.fromkeys(name for name, _ in wanted)
        }
        loaded = [
            self.store.load(name, split, model_ids=model_ids, fields=fields) for name, model_ids in by_arm.items()
        ]
        order = [(name, k) for name, model_ids in by_arm.items() for k in model_ids]
        rows = [order.index(pair) for pair in wanted]
        return Scores(*(np.concatenate([getattr(part, field) for part in loaded])[rows] for field in FIELDS))


def choose_split(splits: Sequence[str]) -> tuple[str, str]:
    """The split to judge on, and what it is: a test split if there is one, else a validation split, else training.

    Example:
        >>> choose_split(("train", "val"))
        ('val', 'validation')
    """
    for prefix, kind in (("test", "test"), ("val", "validation")):
        for split in splits:
            if split.startswith(prefix):
                return split, kind
    return "train", "training"


def is_treated(arm: str) -> bool:
    """Whether an arm is one whose cost is measured.

    Example:
        >>> is_treated("full/baseline"), is_treated("full/prune-0.9")
        (False, True)
    """
    return arm.removeprefix(FULL) not in (BASELINE, REBUILT)


def _base_of(arm: str, made_from: str) -> str:
    source = made_from.removeprefix(FULL) or BASELINE
    return f"{FULL}{source}" if arm.startswith(FULL) else source


def _class_numbers(outcomes: Outcomes) -> IntArray | None:
    labels = outcomes.labels
    return None if labels is None or bool((labels < 0).all()) else labels
