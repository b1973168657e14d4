"""The shards of a store: where they lie, and that each belongs to the store's manifest."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from lightning_memaudit.data.plan import mask_checksum
from lightning_memaudit.exceptions import CorruptShardError, MismatchError, MissingDataError
from lightning_memaudit.outcomes.arms import BASELINE, FULL
from lightning_memaudit.outcomes.shard import Shard

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lightning_memaudit.outcomes.manifest import Manifest
    from lightning_memaudit.outcomes.storage import Storage

__all__ = ["arms_on_disk", "ids_on_disk", "read_shard", "shard_path", "write_shard"]

_NAME = re.compile(r"([0-9]{6}|[1-9][0-9]{6,})\.npz")


def shard_path(arm: str, model_id: int) -> str:
    """The file of a model of an arm.

    Example:
        >>> shard_path("baseline", 7)
        'outcomes/baseline/000007.npz'
    """
    return f"outcomes/{arm}/{model_id:06d}.npz"


def ids_on_disk(storage: Storage, arm: str) -> list[int]:
    """The models of an arm that have a shard, damaged or not, in order."""
    names = storage.names(f"outcomes/{arm}")
    return sorted(int(name.removesuffix(".npz")) for name in names if _NAME.fullmatch(name))


def arms_on_disk(storage: Storage) -> list[str]:
    """The arms that have at least one shard, ``baseline`` first."""
    arms = [name for name in storage.names("outcomes") if name != FULL.rstrip("/")]
    arms += [f"{FULL}{name}" for name in storage.names(f"outcomes/{FULL}".rstrip("/"))]
    return sorted((arm for arm in arms if ids_on_disk(storage, arm)), key=lambda arm: (arm != BASELINE, arm))


def read_shard(
    storage: Storage,
    manifest: Manifest,
    arm: str,
    model_id: int,
    fields: tuple[str, ...],
    *,
    mask: npt.NDArray[np.bool_] | None = None,
) -> Shard:
    """The shard of a model, checked in full.

    Args:
        storage: The files of the store.
        manifest: What the store was made for.
        arm: The arm.
        model_id: Which model.
        fields: The fields to return; all are checked, the others come back empty.
        mask: The model's mask, where the caller has it; None draws it from the plan.

    Raises:
        MissingDataError: There is none.
        CorruptShardError: It is damaged, or of another model, subset or size than it should be.
        MismatchError: It was recorded under another plan, data set, model, optimisation or scoring.
    """
    path = shard_path(arm, model_id)
    content = storage.read(path)
    if content is None:
        raise MissingDataError(
            f"store={storage.url!r} has no model {model_id} of arm {arm!r}; run the audit to train it"
        )
    shard = Shard.from_bytes(content, path=storage.path(path), fields=fields)
    mask = mask if shard.model_id == model_id else None
    _check(shard, arm, path=path, manifest=manifest, url=storage.url, mask=mask)
    if shard.model_id != model_id:
        raise CorruptShardError(f"shard {path} holds model {shard.model_id}; run again to train model {model_id} anew")
    return shard


def write_shard(storage: Storage, manifest: Manifest, arm: str, shard: Shard) -> None:
    """Record one model, with the digests of the manifest where the shard has none of its own.

    Raises:
        CorruptShardError: It is of another subset or size than it should be.
        MismatchError: It was made for another plan, data set, model, optimisation or scoring.
        StoreError: The disk is full or may not be written to.
    """
    shard = replace(shard, digests=shard.digests or manifest.digests)
    path = shard_path(arm, shard.model_id)
    _check(shard, arm, path=path, manifest=manifest, url=storage.url)
    storage.write(path, shard.to_bytes())


def _check(
    shard: Shard,
    arm: str,
    *,
    path: str,
    manifest: Manifest,
    url: str,
    mask: npt.NDArray[np.bool_] | None = None,
) -> None:
    for aspect, ours in manifest.digests.items():
        theirs = shard.plan_digest if aspect == "plan" else shard.digests.get(aspect)
        if theirs != ours:
            raise MismatchError(
                f"store={url!r}: shard {path} was recorded under another {aspect}: digest {theirs} there, {ours} in "
                "manifest.json. Nothing was mixed. Use a new store (--store NEW), or move that file away to have its "
                "model trained again"
            )
    if mask is None:
        plan = manifest.plan.complete() if arm.startswith(FULL) else manifest.plan
        mask = plan.mask(shard.model_id)
    if shard.mask_checksum != mask_checksum(mask):
        raise CorruptShardError(
            f"shard {path} was trained on another subset than the plan gives model {shard.model_id}; run again to "
            "train that model anew"
        )
    for split in manifest.splits:
        if split not in shard.splits:
            raise CorruptShardError(f"shard {path} has no split {split!r}; run again to train that model anew")
        n_rows, size = len(shard.splits[split].correct), manifest.identity.data[split]["n_examples"]
        if n_rows not in (0, size):
            raise CorruptShardError(
                f"shard {path} has {n_rows} rows of {split!r}, not {size}; run again to train that model anew"
            )
