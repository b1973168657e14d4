"""The files ``examples/<split>.npz``: what a store knows of the examples, held to its manifest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import CorruptShardError, MissingDataError
from lightning_memaudit.outcomes.examples import Examples, label_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.outcomes.manifest import Manifest
    from lightning_memaudit.outcomes.storage import Storage

__all__ = ["examples_path", "read_examples", "write_examples"]


def examples_path(split: str) -> str:
    """The file of the examples of a split."""
    return f"examples/{split}.npz"


def read_examples(storage: Storage, manifest: Manifest, split: str) -> Examples:
    """The examples of a split.

    Raises:
        MissingDataError: The split was not recorded.
        CorruptShardError: The file is damaged, or holds other labels than the audit was made with.
    """
    path = examples_path(split)
    content = storage.read(path)
    if content is None:
        raise MissingDataError(
            f"store={storage.url!r} has no examples of split {split!r}; it has {', '.join(manifest.splits)}"
        )
    fingerprint = manifest.identity.data.get(split, {})
    try:
        examples = Examples.from_bytes(content)
        if not _match(examples, fingerprint):
            raise ValueError("its examples are not those of the manifest")
    except Exception as error:  # damaged bytes make zipfile, zlib and numpy fail in a dozen ways
        raise CorruptShardError(
            f"store={storage.url!r}: {path} is damaged ({error}); remove it and run the audit again"
        ) from error
    return replace(examples, fingerprint=fingerprint)


def write_examples(storage: Storage, manifest: Manifest, split: str, examples: Examples) -> None:
    """Record the examples of a split; groupings that were recorded before are kept, and of one name the new one counts.

    Raises:
        StoreError: The disk is full or may not be written to.
    """
    try:
        recorded = read_examples(storage, manifest, split)
    except (MissingDataError, CorruptShardError):
        pass  # nothing to keep
    else:
        examples = replace(examples, groups=recorded.groups | examples.groups)
    storage.write(examples_path(split), examples.to_bytes())


def _match(examples: Examples, fingerprint: Mapping[str, Any]) -> bool:
    """Whether labels (where they are class numbers, and so comparable) and their number are those of the manifest."""
    labels = examples.labels
    if examples.n_examples != fingerprint.get("n_examples", examples.n_examples):
        return False
    if labels is None or bool((labels == -1).all()):
        return True
    return label_digest(labels) == fingerprint.get("labels")
