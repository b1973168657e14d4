"""A treated arm beside the models that its models are compared with, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.uncertainty import example_means
from lightning_memaudit.outcomes.arms import BASELINE, FULL, REBUILT
from lightning_memaudit.record.arm import base_arm

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lightning_memaudit.functional.checks import BoolArray, FloatArray, IntArray
    from lightning_memaudit.record.arm import ArmRecord
    from lightning_memaudit.record.block import Block
    from lightning_memaudit.record.fields import Columns
    from lightning_memaudit.record.record import Record

__all__ = [
    "PairedArm",
    "Scores",
    "choose_split",
    "held_out_split",
    "is_treated",
    "paired_arm",
    "scores_of",
    "treated_arms",
]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Outcomes of K models of one or several arms on the n examples of a split; read when they are asked for.

    Attributes:
        split: The split.
        parts: For each arm what was read of it, the places of its models among the K, and their rows in the arm.
    """

    split: str
    parts: tuple[tuple[ArmRecord, IntArray, IntArray], ...]

    @property
    def correct(self) -> npt.NDArray[Any]:
        """bool[K, n], or float32 in [0, 1] for sequences."""
        return self._joined([arm.correct(self.split, rows) for arm, _, rows in self.parts])

    @property
    def is_binary(self) -> bool:
        """Whether outcomes are 0 or 1, and no shares."""
        return all(arm.is_binary(self.split) for arm, _, _ in self.parts)

    @property
    def margin(self) -> npt.NDArray[np.float32]:
        """float32[K, n]."""
        return self.values("margin")

    @property
    def loss(self) -> npt.NDArray[np.float32]:
        """float32[K, n]."""
        return self.values("loss")

    @property
    def prediction(self) -> npt.NDArray[np.int32]:
        """int32[K, n]."""
        return self.values("prediction")

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """float32[K, n], NaN where it is not on record."""
        return self.values("confidence")

    @property
    def largest_prediction(self) -> int:
        """The largest class number that any model predicts; −1 where none predicts one."""
        return max(int(arm.largest_prediction(self.split)[rows].max()) for arm, _, rows in self.parts)

    @property
    def n_diverged(self) -> int:
        """Models that are right nowhere because their output is not finite."""
        silent = self._joined([~arm.has_output(self.split)[rows] for arm, _, rows in self.parts])
        return int((silent & ~self.correct.any(axis=1)).sum())

    def values(self, name: str, columns: Columns = None) -> npt.NDArray[Any]:
        """A field of all K models."""
        return self._joined([arm.values(self.split, name, rows, columns) for arm, _, rows in self.parts])

    def of_block(self, block: Block, name: str) -> npt.NDArray[Any]:
        """A field of all K models on the examples of a block."""
        return self.values(name, block.columns)

    def _joined(self, values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Values of the models of all arms, each in its place."""
        if len(values) == 1:
            return values[0]
        joined = np.concatenate(values)
        order = np.concatenate([places for _, places, _ in self.parts])
        return np.asarray(joined[np.argsort(order)])


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


def paired_arm(record: Record, name: str, split: str) -> PairedArm:
    """One arm on one split, beside its base.

    Args:
        record: The record.
        name: The arm.
        split: The split.

    Raises:
        MissingDataError: No model of the arm has its counterpart in the store, or all saw every example of the split
            in training.
    """
    arm = record.arm(name)
    ids = arm.model_ids.tolist()
    if not ids:
        raise MissingDataError(f"arm {name!r} has no readable model; run the audit again")
    sources = [base_arm(name, made_from) for made_from in arm.made_from]
    known = {source: set(record.model_ids(source)) for source in set(sources)}
    rows = [row for row, model_id in enumerate(ids) if model_id in known[sources[row]]]
    if not rows:
        wanted = ", ".join(sorted(set(sources)))
        raise MissingDataError(
            f"none of the {len(ids)} models of arm {name!r} can be compared: the models of the same number are not "
            f"in arm {wanted}; train them (memaudit run, or audit.run())"
        )
    chosen = np.array(rows, dtype=np.int64)
    judged = np.ones((len(rows), arm.n_examples(split)), dtype=bool)
    if split == "train":
        judged = ~arm.mask(chosen)
        if not judged.any():
            raise MissingDataError(
                f"the models of arm {name!r} trained on every example of split 'train', and the store has no other "
                "split to judge them on; audit with a test or validation split"
            )
    labels = record.examples(split).labels
    return PairedArm(
        name=name,
        split=split,
        model_ids=arm.model_ids[chosen],
        sources=tuple(sources[row] for row in rows),
        base=scores_of(record, split, [(sources[row], ids[row]) for row in rows]),
        treated=Scores(split, ((arm, np.arange(len(rows)), chosen),)),
        judged=judged,
        labels=None if labels is None or bool((labels < 0).all()) else labels,
        without_base=tuple(model_id for row, model_id in enumerate(ids) if row not in set(rows)),
    )


def scores_of(record: Record, split: str, models: Sequence[tuple[str, int]]) -> Scores:
    """Outcomes of single models of several arms, in order.

    Args:
        record: The record.
        split: The split.
        models: Arm and number of each.
    """
    parts = []
    for name in dict.fromkeys(arm for arm, _ in models):
        places = [place for place, (arm, _) in enumerate(models) if arm == name]
        arm = record.arm(name)
        parts.append((arm, np.array(places, dtype=np.int64), arm.rows([models[place][1] for place in places])))
    return Scores(split, tuple(parts))


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


def held_out_split(splits: Sequence[str]) -> str | None:
    """The split to look at beside the training split: a test split, else a validation split, else None.

    Example:
        >>> held_out_split(("train", "val", "test")), held_out_split(("train",))
        ('test', None)
    """
    split, _ = choose_split(splits)
    return None if split == "train" else split


def is_treated(arm: str) -> bool:
    """Whether an arm is one whose cost is measured.

    Example:
        >>> is_treated("full/baseline"), is_treated("full/prune-0.9")
        (False, True)
    """
    return arm.removeprefix(FULL) not in (BASELINE, REBUILT)


def treated_arms(record: Record) -> list[str]:
    """The arms of a store whose cost is measured."""
    return [name for name in record.arms if is_treated(name)]
