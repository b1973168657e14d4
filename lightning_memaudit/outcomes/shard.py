"""One model's file: its outcomes on every split, sealed with digests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.data.plan import mask_checksum
from lightning_memaudit.exceptions import CorruptShardError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from lightning_memaudit.data.plan import SubsetPlan

__all__ = ["FIELDS", "Shard", "SplitScores"]

FIELDS = ("correct", "margin", "loss", "prediction", "confidence")


@dataclass(frozen=True, slots=True, eq=False)
class SplitScores:
    """What one model did on every example of a split.

    Attributes:
        correct: bool[n], or float32[n] in [0, 1].
        margin: float32[n].
        loss: float32[n].
        prediction: int32[n].
        confidence: float32[n], the probability of the prediction; NaN where it is not known.
    """

    correct: npt.NDArray[Any]
    margin: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float32]
    prediction: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """What one trained model did, and how it came about.

    Attributes:
        model_id: Number of the model in the plan.
        plan_digest: Digest of the plan.
        mask_checksum: Checksum of the model's mask.
        seed: The model's seed.
        wall_seconds: Time for training and scoring.
        splits: Scores by split.
        digests: Digest of each aspect of the store's manifest; ``OutcomeStore.write`` puts them in.
        made_from: The arm of the trained model of the same number that this one was made from; empty where it was
            trained itself.
    """

    model_id: int
    plan_digest: str
    mask_checksum: str
    seed: int
    wall_seconds: float
    splits: Mapping[str, SplitScores]
    digests: Mapping[str, str] = field(default_factory=dict)
    made_from: str = ""

    @classmethod
    def of_model(
        cls,
        plan: SubsetPlan,
        model_id: int,
        splits: Mapping[str, SplitScores],
        *,
        wall_seconds: float,
        made_from: str = "",
    ) -> Shard:
        """The shard of a model of a plan."""
        checksum = mask_checksum(plan.mask(model_id))
        seed = plan.model_seed(model_id)
        return cls(model_id, plan.digest, checksum, seed, wall_seconds, splits, made_from=made_from)

    def to_bytes(self) -> bytes:
        """The content of ``outcomes/<arm>/<model_id>.npz``."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        sizes = {}
        for split, scores in self.splits.items():
            sizes[split] = len(scores.correct)
            binary = scores.correct.dtype == bool
            arrays[f"{split}/correct"] = np.packbits(scores.correct) if binary else scores.correct
            arrays[f"{split}/margin"] = scores.margin
            arrays[f"{split}/loss"] = scores.loss
            arrays[f"{split}/confidence"] = scores.confidence
            arrays[f"{split}/prediction"] = scores.prediction.astype(_smallest_integer(scores.prediction))
        meta = {
            "model_id": self.model_id,
            "plan_digest": self.plan_digest,
            "mask_checksum": self.mask_checksum,
            "seed": self.seed,
            "wall_seconds": self.wall_seconds,
            "sizes": sizes,
            "digests": dict(self.digests),
            "made_from": self.made_from,
        }
        arrays["meta"] = np.array(json.dumps(meta, sort_keys=True))
        file = BytesIO()
        np.savez(file, allow_pickle=False, digest=np.array(_content_digest(arrays)), **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, *, path: str, fields: tuple[str, ...] = FIELDS) -> Shard:
        """Read a shard and check it against its own digests.

        Args:
            content: The bytes of the file.
            path: Where they come from, for messages.
            fields: The fields to return; all are checked, the others come back empty.

        Raises:
            CorruptShardError: Truncated, altered, or a pickle.
        """
        try:
            with np.load(BytesIO(content), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            digest = str(arrays.pop("digest"))
            if digest != _content_digest(arrays):
                raise ValueError("altered: its content does not match its digest")
            meta = json.loads(str(arrays["meta"]))
            splits = {split: _scores(arrays, split, size, fields) for split, size in meta["sizes"].items()}
            return cls(
                meta["model_id"],
                meta["plan_digest"],
                meta["mask_checksum"],
                meta["seed"],
                meta["wall_seconds"],
                splits,
                meta["digests"],
                meta.get("made_from", ""),
            )
        except Exception as error:  # damaged bytes make zipfile, zlib and numpy fail in a dozen ways
            reason = f"is truncated or damaged ({error})"
            if isinstance(error, ValueError) and "pickle" in str(error):
                reason = "holds a pickle, which is never loaded"
            raise CorruptShardError(f"shard {path} {reason}; run again to train that model anew") from error


def _scores(arrays: Mapping[str, npt.NDArray[Any]], split: str, size: int, fields: tuple[str, ...]) -> SplitScores:
    unknown = np.full(size, np.nan, dtype=np.float32)  # in shards of a version that did not record it
    columns = {field: arrays[f"{split}/{field}"] for field in FIELDS if field != "confidence"}
    columns["confidence"] = arrays.get(f"{split}/confidence", unknown)
    if columns["correct"].dtype == np.uint8:
        columns["correct"] = np.unpackbits(columns["correct"], count=size).view(bool)
    if any(len(column) != size for column in columns.values()):
        raise ValueError(f"split {split!r} does not have {size} rows in every field")
    # An empty view of a column would keep all of it in memory.
    kept = {field: column if field in fields else np.empty(0, column.dtype) for field, column in columns.items()}
    kept["prediction"] = kept["prediction"].astype(np.int32)
    return SplitScores(**kept)


def _smallest_integer(values: npt.NDArray[np.int32]) -> type[np.signedinteger[Any]]:
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    return next(
        (kind for kind in (np.int8, np.int16) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), np.int32
    )


def _content_digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    content = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        content.update(array.tobytes())
    return content.hexdigest()[:32]
