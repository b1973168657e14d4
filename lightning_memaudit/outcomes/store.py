"""The record of an audit: one manifest, one file of examples per split, one shard per model."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_memaudit.data.plan import mask_checksum
from lightning_memaudit.exceptions import ArgumentError, CorruptShardError, MismatchError, MissingDataError, StoreError
from lightning_memaudit.outcomes.arms import BASELINE, FULL, Arm
from lightning_memaudit.outcomes.examples import Examples, label_digest
from lightning_memaudit.outcomes.manifest import Manifest
from lightning_memaudit.outcomes.scoring import FIELDS
from lightning_memaudit.outcomes.shard import Shard
from lightning_memaudit.outcomes.storage import PARTIAL_SUFFIX, Storage

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from lightning_memaudit.data.plan import SubsetPlan

__all__ = ["OutcomeStore", "Outcomes", "ShardProblem"]

_MANIFEST, _STOPPING, _ARM = "manifest.json", "stopping.json", "arm.json"
_SHARD_NAME = re.compile(r"([0-9]{6}|[1-9][0-9]{6,})\.npz")
_STALE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What M models did on the n examples of a split.

    Attributes:
        model_ids: int64[M].
        mask: bool[M, n_train]: the training examples of each model, whatever the split.
        correct: bool[M, n], or float32 in [0, 1] for sequences.
        margin: float32[M, n]; with no columns when it was not asked for, as all that follow.
        loss: float32[M, n].
        prediction: int32[M, n].
        confidence: float32[M, n], the probability of the prediction; NaN where it is not on record.
        labels: int64[n], or None when the store has none.
        blocks: int64[M], models drawn together (paired design), or None.
        wall_seconds: float64[M].
        made_from: The arm of the trained model that each was made from; empty where it was trained itself.
    """

    model_ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    correct: npt.NDArray[Any]
    margin: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float32]
    prediction: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None
    blocks: npt.NDArray[np.int64] | None
    wall_seconds: npt.NDArray[np.float64]
    made_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardProblem:
    """One file that ``OutcomeStore.verify`` objects to.

    Attributes:
        path: The file.
        reason: What is wrong, and what to do.
    """

    path: str
    reason: str


class OutcomeStore:
    """The record of an audit, in a folder or behind an fsspec URL.

    Any number of processes on any number of machines may write to one store at once, without a lock: a shard is whole
    or absent, and the manifest is created once and compared ever after.

    Args:
        url: A folder, or a URL such as ``s3://bucket/audit``.

    Example:
        >>> store = OutcomeStore("memory://doc-store")
        >>> store.exists
        False
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.storage = Storage(url)
        self.url = self.storage.url
        self._manifest: Manifest | None = None
        self._plan: SubsetPlan | None = None
        self._digests: dict[str, str] | None = None

    @property
    def exists(self) -> bool:
        """Whether something was recorded here."""
        return self.storage.read(_MANIFEST) is not None

    @property
    def manifest(self) -> Manifest:
        """What the store was made for.

        Raises:
            MissingDataError: There is no store at this place.
        """
        if self._manifest is None:
            content = self.storage.read(_MANIFEST)
            if content is None:
                raise MissingDataError(
                    f"store={self.url!r}: no audit is recorded there (no {_MANIFEST}); check the path"
                )
            self._manifest = Manifest.from_json(content, url=self.url)
        return self._manifest

    @property
    def plan(self) -> SubsetPlan:
        """The subset plan of the population."""
        if self._plan is None:
            self._plan = self.manifest.plan
        return self._plan

    def open(self, manifest: Manifest) -> Manifest:
        """Make the store for this run, or check that the run belongs to the one there is.

        Returns:
            The manifest on disk.

        Raises:
            MismatchError: The store belongs to another plan, data set, model, optimisation or scoring.
        """
        self.storage.create(_MANIFEST, manifest.to_json())
        self._manifest = self._plan = self._digests = None  # whoever made it, what counts is what is there
        self.manifest.check(manifest, url=self.url)
        return self.manifest

    def record_execution(self, execution: Mapping[str, Any]) -> None:
        """Keep in the manifest how models are trained; what the store was made for stays as it is."""
        if self.manifest.execution != execution:
            self._manifest = replace(self.manifest, execution=dict(execution))
            self.storage.write(_MANIFEST, self._manifest.to_json())

    def write_examples(self, split: str, examples: Examples) -> None:
        """Record what is known of the examples of a split.

        Groupings that were recorded before are kept; of one name, the new one counts.
        """
        try:
            recorded = self.examples(split)
        except (MissingDataError, CorruptShardError):
            pass  # nothing to keep
        else:
            examples = replace(examples, groups=recorded.groups | examples.groups)
        self.storage.write(f"examples/{split}.npz", examples.to_bytes())

    def has_examples(self, split: str) -> bool:
        """Whether the examples of a split are recorded."""
        return self.storage.exists(f"examples/{split}.npz")

    def examples(self, split: str = "train") -> Examples:
        """The examples of a split.

        Raises:
            MissingDataError: The split was not recorded.
            CorruptShardError: The file is damaged, or holds other labels than the audit was made with.
        """
        content = self.storage.read(f"examples/{split}.npz")
        if content is None:
            raise MissingDataError(
                f"store={self.url!r} has no examples of split {split!r}; it has {', '.join(self.splits())}"
            )
        fingerprint = self.manifest.identity.data.get(split, {})
        try:
            examples = Examples.from_bytes(content)
            if not _match(examples, fingerprint):
                raise ValueError("its examples are not those of the manifest")
        except Exception as error:  # damaged bytes make zipfile, zlib and numpy fail in a dozen ways
            raise CorruptShardError(
                f"store={self.url!r}: examples/{split}.npz is damaged ({error}); remove it and run the audit again"
            ) from error
        return replace(examples, fingerprint=fingerprint)

    def splits(self) -> tuple[str, ...]:
        """The recorded splits."""
        return self.manifest.splits

    def treatments(self) -> list[str]:
        """The arms that have at least one shard, ``baseline`` first."""
        arms = [name for name in self.storage.names("outcomes") if name != "full"]
        arms += [f"full/{name}" for name in self.storage.names("outcomes/full")]
        return sorted((arm for arm in arms if self._ids_on_disk(arm)), key=lambda arm: (arm != "baseline", arm))

    def open_arm(self, arm: Arm) -> None:
        """Record what is done to the models of an arm, or check that it is what was done to those there are.

        Raises:
            MismatchError: The arm was made by another treatment.
        """
        self.storage.create(f"outcomes/{arm.name}/{_ARM}", arm.to_json())
        self.check_arm(arm)

    def check_arm(self, arm: Arm) -> None:
        """Refuse an arm whose name belongs to another treatment.

        Raises:
            MismatchError: The arm was made by another treatment.
        """
        recorded = self.arm(arm.name)
        if recorded is not None:
            recorded.check(arm, url=self.url)

    def arm(self, name: str) -> Arm | None:
        """What was done to the models of an arm, or None where nothing is on record, as for the baseline.

        Raises:
            CorruptShardError: The record is damaged.
        """
        path = f"outcomes/{name}/{_ARM}"
        content = self.storage.read(path)
        return None if content is None else Arm.from_json(content, path=self.storage.path(path))

    def write_weights(self, model_id: int, state: Mapping[str, Any], *, treatment: str = BASELINE) -> None:
        """Keep the trained weights of a model.

        Args:
            model_id: Which model.
            state: Its ``state_dict``.
            treatment: Its arm.
        """
        file = BytesIO()
        torch.save({name: _on_cpu(value) for name, value in state.items()}, file)
        self.storage.write(_weights(treatment, model_id), file.getvalue())

    def weights(self, model_id: int, treatment: str = BASELINE) -> dict[str, Any] | None:
        """The ``state_dict`` of a trained model, where it was kept.

        Raises:
            CorruptShardError: The file is damaged.
        """
        path = _weights(treatment, model_id)
        content = self.storage.read(path)
        if content is None:
            return None
        try:
            state: dict[str, Any] = torch.load(BytesIO(content), weights_only=True)
        except Exception as error:  # damaged bytes make zipfile and pickle fail in a dozen ways
            raise CorruptShardError(
                f"store={self.url!r}: {path} is damaged ({type(error).__name__}); remove it and run again"
            ) from error
        return state

    def has_weights(self, model_id: int, treatment: str = BASELINE) -> bool:
        """Whether the weights of a model were kept."""
        return self.storage.exists(_weights(treatment, model_id))

    def remove(self, model_id: int, treatment: str) -> None:
        """Remove the shard of a model, if there is one."""
        if self.has(model_id, treatment):
            self.storage.remove(self._path(treatment, model_id))

    def remove_weights(self, model_id: int, treatment: str = BASELINE) -> None:
        """Forget the weights of a model."""
        if self.has_weights(model_id, treatment):
            self.storage.remove(_weights(treatment, model_id))

    def write(self, shard: Shard, *, treatment: str = "baseline") -> None:
        """Record one model.

        Raises:
            MismatchError: The shard was made for another plan, data set, model, optimisation or scoring.
            StoreError: The disk is full or may not be written to; what is stored is kept.
        """
        shard = replace(shard, digests=shard.digests or self._known_digests())
        self._check(shard, self._path(treatment, shard.model_id))
        self.storage.write(self._path(treatment, shard.model_id), shard.to_bytes())

    def has(self, model_id: int, treatment: str = "baseline") -> bool:
        """Whether a model has a shard; it is not read, and may be damaged."""
        return self.storage.exists(self._path(treatment, model_id))

    def model_ids(self, treatment: str = "baseline") -> list[int]:
        """The models with a valid shard; damaged shards are named in a warning and not counted.

        Raises:
            MismatchError: A shard was recorded under another plan, data set, model, optimisation or scoring.
        """
        valid: list[int] = []
        ids = self._ids_on_disk(treatment)
        if ids:
            self.plan  # noqa: B018 - a manifest that cannot be read is not the shards' fault
        for model_id in ids:
            try:
                self._read(treatment, model_id, ())
            except MismatchError:
                raise
            except StoreError as error:
                warnings.warn(f"{error}", UserWarning, stacklevel=2)
            else:
                valid.append(model_id)
        return valid

    def missing(self, model_ids: Iterable[int], treatment: str = "baseline") -> list[int]:
        """The models of ``model_ids`` that have no valid shard yet.

        Raises:
            MismatchError: A shard was recorded under another plan, data set, model, optimisation or scoring.
        """
        stored = set(self.model_ids(treatment))
        return [model_id for model_id in model_ids if model_id not in stored]

    def load(
        self,
        treatment: str = "baseline",
        split: str = "train",
        *,
        model_ids: Sequence[int] | None = None,
        fields: Sequence[str] = FIELDS,
    ) -> Outcomes:
        """All outcomes of one arm on one split.

        Args:
            treatment: The arm.
            split: The split.
            model_ids: Which models; None takes every one on disk.
            fields: Which of ``correct, margin, loss, prediction, confidence`` to hold in memory; ``correct`` always
                comes along.

        Raises:
            ArgumentError: An unknown field.
            MissingDataError: The arm, the split or a model is not there.
            CorruptShardError: A shard is damaged; it is named.
            MismatchError: A shard was recorded under another plan, data set, model, optimisation or scoring.
        """
        unknown = sorted(set(fields) - set(FIELDS))
        if unknown:
            raise ArgumentError(f"fields={list(fields)!r}: {unknown[0]!r} is none of {', '.join(FIELDS)}")
        ids = self._ids_on_disk(treatment) if model_ids is None else list(model_ids)
        if not ids:
            raise MissingDataError(
                f"store={self.url!r} has no model of arm {treatment!r}; it has {', '.join(self.treatments()) or 'none'}"
            )
        if split not in self.splits():
            raise MissingDataError(f"store={self.url!r} has no split {split!r}; it has {', '.join(self.splits())}")
        kept = ("correct", *fields)
        shards = [self._read(treatment, model_id, kept) for model_id in ids]
        rows = [shard.splits[split] for shard in shards]
        plan = self.plan.complete() if treatment.startswith(FULL) else self.plan
        return Outcomes(
            model_ids=np.array(ids, dtype=np.int64),
            mask=plan.masks(ids),
            correct=np.stack([row.correct for row in rows]),
            margin=np.stack([row.margin for row in rows]),
            loss=np.stack([row.loss for row in rows]),
            prediction=np.stack([row.prediction for row in rows]),
            confidence=np.stack([row.confidence for row in rows]),
            labels=self.examples(split).labels,
            blocks=plan.blocks(ids),
            wall_seconds=np.array([shard.wall_seconds for shard in shards]),
            made_from=tuple(shard.made_from for shard in shards),
        )

    def verify(self) -> list[ShardProblem]:
        """Check the manifest, every examples file and every shard; an empty list means that all is well."""
        problems = []
        try:
            self._manifest = self._plan = self._digests = None
            self.manifest  # noqa: B018 - reads it
        except CorruptShardError as error:
            return [ShardProblem(_MANIFEST, str(error))]
        for split in self.splits():
            try:
                self.examples(split)
            except StoreError as error:
                problems.append(ShardProblem(f"examples/{split}.npz", str(error)))
        for treatment in self.treatments():
            for model_id in self._ids_on_disk(treatment):
                try:
                    self._read(treatment, model_id, ())
                except StoreError as error:
                    problems.append(ShardProblem(self._path(treatment, model_id), str(error)))
        return problems

    def partial_writes(self) -> list[str]:
        """Files that a writer, living or killed, has not finished; they are never read."""
        names = [name for folder in self._folders() for name in self.storage.names(folder)]
        return [name for name in names if name.endswith(PARTIAL_SUFFIX)]

    def remove_stale_partial_writes(self) -> None:
        """Remove what writers that were killed more than an hour ago left behind."""
        for folder in self._folders():
            self.storage.remove_partial(folder, older_than=_STALE_SECONDS)

    def bytes_on_disk(self) -> int:
        """Size of all shards."""
        paths = [self._path(arm, k) for arm in self.treatments() for k in self._ids_on_disk(arm)]
        return sum(self.storage.size(path) for path in paths)

    def write_stopping(self, record: dict[str, Any]) -> None:
        """Record how adaptive stopping went, for reports."""
        self.storage.write(_STOPPING, json.dumps(record, indent=1).encode())

    def stopping(self) -> dict[str, Any] | None:
        """The record of adaptive stopping, if there was any."""
        content = self.storage.read(_STOPPING)
        if content is None:
            return None
        record: dict[str, Any] = json.loads(content)
        return record

    def _folders(self) -> list[str]:
        folders = ["outcomes", "outcomes/full"]
        return ["", "examples", *(f"{folder}/{arm}" for folder in folders for arm in self.storage.names(folder))]

    def _ids_on_disk(self, treatment: str) -> list[int]:
        names = self.storage.names(f"outcomes/{treatment}")
        return sorted(int(name.removesuffix(".npz")) for name in names if _SHARD_NAME.fullmatch(name))

    def _read(self, treatment: str, model_id: int, fields: tuple[str, ...]) -> Shard:
        path = self._path(treatment, model_id)
        content = self.storage.read(path)
        if content is None:
            raise MissingDataError(
                f"store={self.url!r} has no model {model_id} of arm {treatment!r}; run the audit to train it"
            )
        shard = Shard.from_bytes(content, path=self.storage.path(path), fields=fields)
        self._check(shard, path)
        if shard.model_id != model_id:
            raise CorruptShardError(
                f"shard {path} holds model {shard.model_id}; run again to train model {model_id} anew"
            )
        return shard

    def _known_digests(self) -> dict[str, str]:
        if self._digests is None:
            self._digests = self.manifest.digests
        return self._digests

    def _check(self, shard: Shard, path: str) -> None:
        manifest, plan = self.manifest, self.plan
        for aspect, ours in self._known_digests().items():
            theirs = shard.plan_digest if aspect == "plan" else shard.digests.get(aspect)
            if theirs != ours:
                raise MismatchError(
                    f"store={self.url!r}: shard {path} was recorded under another {aspect}: digest {theirs} there, "
                    f"{ours} in {_MANIFEST}. Nothing was mixed. Use a new store (--store NEW), or move that file away "
                    "to have its model trained again"
                )
        plan = plan.complete() if path.startswith(f"outcomes/{FULL}") else plan
        if shard.mask_checksum != mask_checksum(plan.mask(shard.model_id)):
            raise CorruptShardError(
                f"shard {path} was trained on another subset than the plan gives model {shard.model_id}; run again to "
                "train that model anew"
            )
        for split, size in ((split, manifest.identity.data[split]["n_examples"]) for split in manifest.splits):
            if split not in shard.splits:
                raise CorruptShardError(f"shard {path} has no split {split!r}; run again to train that model anew")
            if len(shard.splits[split].correct) not in (0, size):
                raise CorruptShardError(
                    f"shard {path} has {len(shard.splits[split].correct)} rows of {split!r}, not {size}; run again to "
                    "train that model anew"
                )

    @staticmethod
    def _path(treatment: str, model_id: int) -> str:
        return f"outcomes/{treatment}/{model_id:06d}.npz"


def _weights(treatment: str, model_id: int) -> str:
    return f"weights/{treatment}/{model_id:06d}.pt"


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value


def _match(examples: Examples, fingerprint: Mapping[str, Any]) -> bool:
    """Whether labels (where they are class numbers, and so comparable) and their number are those of the manifest."""
    labels = examples.labels
    if examples.n_examples != fingerprint.get("n_examples", examples.n_examples):
        return False
    if labels is None or bool((labels == -1).all()):
        return True
    return label_digest(labels) == fingerprint.get("labels")
