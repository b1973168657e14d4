"""Every file of a store, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_memaudit.exceptions import StoreError
from lightning_memaudit.outcomes.example_files import examples_path, read_examples
from lightning_memaudit.outcomes.shard_files import arms_on_disk, ids_on_disk, read_shard, shard_path

if TYPE_CHECKING:
    from lightning_memaudit.outcomes.manifest import Manifest
    from lightning_memaudit.outcomes.storage import Storage

__all__ = ["ShardProblem", "problems_of"]


@dataclass(frozen=True, slots=True)
class ShardProblem:
    """One file that ``OutcomeStore.verify`` objects to.

    Attributes:
        path: The file.
        reason: What is wrong, and what to do.
    """

    path: str
    reason: str


def problems_of(storage: Storage, manifest: Manifest) -> list[ShardProblem]:
    """What is wrong with the examples files and the shards of a store."""
    problems = []
    for split in manifest.splits:
        try:
            read_examples(storage, manifest, split)
        except StoreError as error:
            problems.append(ShardProblem(examples_path(split), str(error)))
    for arm in arms_on_disk(storage):
        for model_id in ids_on_disk(storage, arm):
            try:
                read_shard(storage, manifest, arm, model_id, ())
            except StoreError as error:
                problems.append(ShardProblem(shard_path(arm, model_id), str(error)))
    return problems
