"""What a record holds of one arm, and how it is read: every shard once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import CorruptShardError, MismatchError, StoreError
from lightning_memaudit.outcomes.arms import BASELINE, FULL
from lightning_memaudit.outcomes.shard import FIELDS
from lightning_memaudit.outcomes.shard_files import ids_on_disk, read_shard
from lightning_memaudit.record.fields import Columns, Correctness, HeldField, packed_width, unpacked

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt

    from lightning_memaudit.outcomes.shard import SplitScores
    from lightning_memaudit.outcomes.store import OutcomeStore
    from lightning_memaudit.record.scratch import Scratch

__all__ = ["ArmOutcomes", "ArmRecord", "Wish", "base_arm", "read_arm"]

#: By split and field, the models whose values are kept; None keeps those of all models.
Wish = dict[tuple[str, str], "Collection[int] | None"]


@dataclass(frozen=True, slots=True, eq=False)
class ArmOutcomes:
    """Whether the M models of an arm are right on the n examples of a split.

    Attributes:
        model_ids: int64[M].
        mask: bool[M, n_train]: the training examples of each model, whatever the split.
        correct: bool[M, n], or float32 in [0, 1] for sequences.
        labels: int64[n], or None when the store has none.
        blocks: int64[M], models drawn together (paired design), or None.
    """

    model_ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    correct: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None = None
    blocks: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SplitRecord:
    """What the models of an arm did on one split.

    Attributes:
        n_examples: n.
        correct: Whether they were right.
        fields: Further fields, as far as they were wished for.
        has_output: Whether a model has a margin that is not NaN, bool[M].
        largest_prediction: int64[M]; −1 where no example has a single prediction.
    """

    n_examples: int
    correct: Correctness
    fields: dict[str, HeldField]
    has_output: npt.NDArray[np.bool_]
    largest_prediction: npt.NDArray[np.int64]

    def put(self, row: int, scores: SplitScores, kept: Collection[str]) -> None:
        """Keep what one model did."""
        self.correct.put(row, scores.correct)
        self.has_output[row] = not len(scores.margin) or not np.isnan(scores.margin).all()
        self.largest_prediction[row] = scores.prediction.max() if len(scores.prediction) else -1
        for name in kept:
            self.fields[name].put(row, getattr(scores, name))


@dataclass(frozen=True, slots=True, eq=False)
class ArmRecord:
    """One arm, whose damaged shards are left out; rows are its models in the order of their numbers.

    Attributes:
        name: The arm.
        model_ids: int64[M].
        made_from: The arm of the trained model that each was made from; empty where it was trained itself.
        blocks: int64[M], models drawn together (paired design), or None.
        wish: What was kept beside ``correct``.
    """

    name: str
    model_ids: npt.NDArray[np.int64]
    made_from: tuple[str, ...]
    blocks: npt.NDArray[np.int64] | None
    wish: Wish
    _n_train: int
    _masks: npt.NDArray[np.uint8]
    _splits: Mapping[str, SplitRecord] = field(default_factory=dict)

    @property
    def n_models(self) -> int:
        """M."""
        return len(self.model_ids)

    def n_examples(self, split: str) -> int:
        """Examples of a split."""
        return self._splits[split].n_examples

    def rows(self, model_ids: Collection[int]) -> npt.NDArray[np.int64]:
        """Rows of some models of the arm."""
        row_of = {model_id: row for row, model_id in enumerate(self.model_ids.tolist())}
        return np.array([row_of[model_id] for model_id in model_ids], dtype=np.int64)

    def mask(self, rows: npt.NDArray[np.int64] | None = None, columns: Columns = None) -> npt.NDArray[np.bool_]:
        """Which examples models trained on, bool[K, n_train]."""
        return unpacked(self._masks if rows is None else self._masks[rows], self._n_train, columns)

    def is_binary(self, split: str) -> bool:
        """Whether outcomes on a split are 0 or 1, and no shares."""
        return self._splits[split].correct.is_binary

    def correct(
        self, split: str, rows: npt.NDArray[np.int64] | None = None, columns: Columns = None
    ) -> npt.NDArray[Any]:
        """Whether models are right, bool[K, n], or float32 for sequences."""
        return self._splits[split].correct.get(self._all(rows), columns)

    def values(
        self, split: str, name: str, rows: npt.NDArray[np.int64] | None = None, columns: Columns = None
    ) -> npt.NDArray[Any]:
        """Values of a field [K, n] that the record was asked to keep.

        Raises:
            KeyError: It was not.
        """
        return self._splits[split].fields[name].get(self._all(rows), columns)

    def has_output(self, split: str) -> npt.NDArray[np.bool_]:
        """Whether models have any output that is not NaN, bool[M]."""
        return self._splits[split].has_output

    def largest_prediction(self, split: str) -> npt.NDArray[np.int64]:
        """The largest class number that each model predicts, int64[M]; −1 where it predicts none."""
        return self._splits[split].largest_prediction

    def _all(self, rows: npt.NDArray[np.int64] | None) -> npt.NDArray[np.int64]:
        return np.arange(self.n_models) if rows is None else rows


def base_arm(arm: str, made_from: str) -> str:
    """The arm that a treated model is compared with.

    Args:
        arm: The treated arm.
        made_from: What the model's shard says that it was made from.

    Example:
        >>> base_arm("full/dpsgd-eps3", ""), base_arm("prune-0.9", "rebuilt")
        ('full/baseline', 'rebuilt')
    """
    source = made_from.removeprefix(FULL) or BASELINE
    return f"{FULL}{source}" if arm.startswith(FULL) else source


def read_arm(store: OutcomeStore, name: str, wish: Wish, scratch: Scratch) -> ArmRecord:
    """Read and check every shard of an arm once; damaged ones are named in a warning and left out.

    Args:
        store: The store.
        name: The arm.
        wish: What to keep beside ``correct``.
        scratch: Where that is put.

    Raises:
        MismatchError: A shard was recorded under another plan, data set, model, optimisation or scoring.
    """
    ids, manifest = ids_on_disk(store.storage, name), store.manifest
    plan = manifest.plan.complete() if name.startswith(FULL) else manifest.plan
    masks = np.zeros((len(ids), packed_width(plan.n_examples)), dtype=np.uint8)
    splits = {split: _split(store, split, ids, wish, scratch) for split in manifest.splits}
    valid: list[int] = []
    made_from: list[str] = []
    for model_id in ids:
        row, mask = len(valid), plan.mask(model_id)
        try:
            shard = read_shard(store.storage, manifest, name, model_id, FIELDS, mask=mask)
            for split, part in splits.items():
                if len(shard.splits[split].correct) != part.n_examples:
                    raise CorruptShardError(
                        f"arm {name!r}: the shard of model {model_id} lacks split {split!r}; run again to train that "
                        "model anew"
                    )
        except MismatchError:
            raise
        except StoreError as error:
            warnings.warn(f"{error}", UserWarning, stacklevel=2)
            continue
        masks[row] = np.packbits(mask)
        for split, part in splits.items():
            kept = [key for key in part.fields if _is_wished(wish.get((split, key)), model_id)]
            part.put(row, shard.splits[split], kept)
        valid.append(model_id)
        made_from.append(shard.made_from)
    n_valid = len(valid)
    return ArmRecord(
        name=name,
        model_ids=np.array(valid, dtype=np.int64),
        made_from=tuple(made_from),
        blocks=plan.blocks(valid),
        wish=wish,
        _n_train=plan.n_examples,
        _masks=masks[:n_valid],
        _splits={split: _trimmed(part, n_valid) for split, part in splits.items()},
    )


def _split(store: OutcomeStore, split: str, ids: list[int], wish: Wish, scratch: Scratch) -> SplitRecord:
    n_examples = int(store.manifest.identity.data[split]["n_examples"])
    fields = {}
    for (own, name), wanted in wish.items():
        if own == split:
            n_kept = sum(_is_wished(wanted, model_id) for model_id in ids)
            fields[name] = HeldField(name, n_kept, n_examples, scratch)
    return SplitRecord(
        n_examples=n_examples,
        correct=Correctness(len(ids), n_examples, scratch),
        fields=fields,
        has_output=np.zeros(len(ids), dtype=bool),
        largest_prediction=np.full(len(ids), -1, dtype=np.int64),
    )


def _trimmed(part: SplitRecord, n_models: int) -> SplitRecord:
    """Without the places of models that are damaged."""
    return SplitRecord(
        part.n_examples, part.correct, part.fields, part.has_output[:n_models], part.largest_prediction[:n_models]
    )


def _is_wished(wanted: Collection[int] | None, model_id: int) -> bool:
    return wanted is None or model_id in wanted
