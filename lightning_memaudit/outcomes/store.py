"""The record of an audit: one manifest, one file of examples per split, one shard per model."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import CorruptShardError, MismatchError, MissingDataError, StoreError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.outcomes.arms import BASELINE, FULL, Arm
from lightning_memaudit.outcomes.example_files import examples_path, read_examples, write_examples
from lightning_memaudit.outcomes.manifest import Manifest
from lightning_memaudit.outcomes.outcomes import Outcomes, stack
from lightning_memaudit.outcomes.shard import FIELDS
from lightning_memaudit.outcomes.shard_files import (
    arms_on_disk,
    ids_on_disk,
    read_shard,
    shard_path,
    write_shard,
)
from lightning_memaudit.outcomes.storage import PARTIAL_SUFFIX, Storage
from lightning_memaudit.outcomes.verification import ShardProblem, problems_of
from lightning_memaudit.outcomes.weights import read_weights, weights_path, write_weights

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from lightning_memaudit.data.plan import SubsetPlan
    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.outcomes.shard import Shard

__all__ = ["OutcomeStore", "Outcomes", "ShardProblem"]

_MANIFEST, _STOPPING, _ARM = "manifest.json", "stopping.json", "arm.json"
_STALE_SECONDS = 3600.0


class OutcomeStore:
    """The record of an audit, in a folder or behind an fsspec URL.

    Any number of processes on any number of machines may write to one store at once, without a lock: a shard is whole
    or absent, and the manifest is created once and compared ever after.

    Args:
        url: A folder, or a URL such as ``s3://bucket/audit``; or the ``Storage`` of one.

    Example:
        >>> store = OutcomeStore("memory://doc-store")
        >>> store.exists
        False
    """

    def __init__(self, url: str | os.PathLike[str] | Storage) -> None:
        self.storage = url if isinstance(url, Storage) else Storage(url)
        self.url = self.storage.url
        self._manifest: Manifest | None = None

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
        return self.manifest.plan

    def open(self, manifest: Manifest) -> Manifest:
        """Make the store for this run, or check that the run belongs to the one there is.

        Returns:
            The manifest on disk.

        Raises:
            MismatchError: The store belongs to another plan, data set, model, optimisation or scoring.
        """
        self.storage.create(_MANIFEST, manifest.to_json())
        self._manifest = None  # whoever made it, what counts is what is there
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
        write_examples(self.storage, self.manifest, split, examples)

    def has_examples(self, split: str) -> bool:
        """Whether the examples of a split are recorded."""
        return self.storage.exists(examples_path(split))

    def examples(self, split: str = "train") -> Examples:
        """The examples of a split.

        Raises:
            MissingDataError: The split was not recorded.
            CorruptShardError: The file is damaged, or holds other labels than the audit was made with.
        """
        return read_examples(self.storage, self.manifest, split)

    def splits(self) -> tuple[str, ...]:
        """The recorded splits."""
        return self.manifest.splits

    def treatments(self) -> list[str]:
        """The arms that have at least one shard, ``baseline`` first."""
        return arms_on_disk(self.storage)

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

    def write_weights(self, model_id: int, state: Mapping[str, Any], *, arm: str = BASELINE) -> None:
        """Keep the trained weights of a model.

        Args:
            model_id: Which model.
            state: Its ``state_dict``.
            arm: Its arm.
        """
        write_weights(self.storage, arm, model_id, state)

    def weights(self, model_id: int, arm: str = BASELINE) -> dict[str, Any] | None:
        """The ``state_dict`` of a trained model, where it was kept.

        Raises:
            CorruptShardError: The file is damaged.
        """
        return read_weights(self.storage, arm, model_id)

    def has_weights(self, model_id: int, arm: str = BASELINE) -> bool:
        """Whether the weights of a model were kept."""
        return self.storage.exists(weights_path(arm, model_id))

    def remove(self, model_id: int, arm: str) -> None:
        """Remove the shard of a model, if there is one."""
        if self.has(model_id, arm):
            self.storage.remove(shard_path(arm, model_id))

    def remove_weights(self, model_id: int, arm: str = BASELINE) -> None:
        """Forget the weights of a model."""
        if self.has_weights(model_id, arm):
            self.storage.remove(weights_path(arm, model_id))

    def write(self, shard: Shard, *, arm: str = BASELINE) -> None:
        """Record one model.

        Raises:
            MismatchError: The shard was made for another plan, data set, model, optimisation or scoring.
            StoreError: The disk is full or may not be written to; what is stored is kept.
        """
        write_shard(self.storage, self.manifest, arm, shard)

    def has(self, model_id: int, arm: str = BASELINE) -> bool:
        """Whether a model has a shard; it is not read, and may be damaged."""
        return self.storage.exists(shard_path(arm, model_id))

    def model_ids(self, arm: str = BASELINE) -> list[int]:
        """The models with a valid shard; damaged shards are named in a warning and not counted.

        Raises:
            MismatchError: A shard was recorded under another plan, data set, model, optimisation or scoring.
        """
        ids = ids_on_disk(self.storage, arm)
        if not ids:
            return []
        manifest = self.manifest  # one that cannot be read is not the shards' fault
        valid: list[int] = []
        for model_id in ids:
            try:
                read_shard(self.storage, manifest, arm, model_id, ())
            except MismatchError:
                raise
            except StoreError as error:
                warnings.warn(f"{error}", UserWarning, stacklevel=2)
            else:
                valid.append(model_id)
        return valid

    def check(self, model_id: int, arm: str = BASELINE) -> None:
        """Read the shard of a model back.

        Raises:
            MissingDataError: There is none.
            CorruptShardError: It is damaged.
            MismatchError: It was recorded under another plan, data set, model, optimisation or scoring.
        """
        read_shard(self.storage, self.manifest, arm, model_id, ())

    def missing(self, model_ids: Iterable[int], arm: str = BASELINE) -> list[int]:
        """The models of ``model_ids`` that have no valid shard yet.

        Raises:
            MismatchError: A shard was recorded under another plan, data set, model, optimisation or scoring.
        """
        stored = set(self.model_ids(arm))
        return [model_id for model_id in model_ids if model_id not in stored]

    def load(
        self,
        arm: str = BASELINE,
        split: str = "train",
        *,
        model_ids: Sequence[int] | None = None,
        fields: Sequence[str] = FIELDS,
    ) -> Outcomes:
        """All outcomes of one arm on one split.

        Args:
            arm: The arm.
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
            raise argument_error(
                "fields", list(fields), f"names out of {', '.join(FIELDS)} are needed, and {unknown[0]!r} is none"
            )
        ids = ids_on_disk(self.storage, arm) if model_ids is None else list(model_ids)
        if not ids:
            raise MissingDataError(
                f"store={self.url!r} has no model of arm {arm!r}; it has {', '.join(self.treatments()) or 'none'}"
            )
        if split not in self.splits():
            raise MissingDataError(f"store={self.url!r} has no split {split!r}; it has {', '.join(self.splits())}")
        kept = ("correct", *fields)
        shards = [read_shard(self.storage, self.manifest, arm, model_id, kept) for model_id in ids]
        plan = self.plan.complete() if arm.startswith(FULL) else self.plan
        return stack(shards, split, plan=plan, labels=self.examples(split).labels)

    def verify(self) -> list[ShardProblem]:
        """Check the manifest, every examples file and every shard; an empty list means that all is well."""
        self._manifest = None
        try:
            manifest = self.manifest
        except CorruptShardError as error:
            return [ShardProblem(_MANIFEST, str(error))]
        return problems_of(self.storage, manifest)

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
        paths = [shard_path(arm, k) for arm in self.treatments() for k in ids_on_disk(self.storage, arm)]
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
