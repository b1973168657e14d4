"""What a store was made for, and the refusal to mix it with anything else."""

from __future__ import annotations

import hashlib
import json
import platform
import zlib
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.exceptions import CorruptShardError, MismatchError
from lightning_memaudit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SCHEMA", "Identity", "Manifest", "digest", "library_versions"]

SCHEMA = 1
_ASPECTS = ("plan", "data", "model", "optimisation", "scoring")
_OWN = "lightning-memaudit"
_LIBRARIES = ("lightning", _OWN, "numpy", "opacus", "torch", "torchmetrics")


@dataclass(frozen=True, slots=True)
class Identity:
    """What must not change while a store is filled: each aspect as a JSON-ready description.

    Attributes:
        plan: ``SubsetPlan.to_dict()``.
        data: Fingerprint of each split.
        model: Class, layers, hyperparameters; what is known of its initial weights.
        optimisation: Optimizers, schedulers and the Trainer arguments that change training.
        scoring: The score function.
    """

    plan: dict[str, Any]
    data: dict[str, Any]
    model: dict[str, Any]
    optimisation: dict[str, Any]
    scoring: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """The file ``manifest.json``.

    Attributes:
        identity: What the store was made for.
        splits: The scored splits.
        executor: The executor that was chosen first.
        notes: What a reader of the report must know, such as Trainer arguments that were left out.
        versions: Libraries and Python of the first writer.
        execution: How models are trained (engine, models at once, why), once it was decided; no part of the identity.
        schema: Version of the format.
    """

    identity: Identity
    splits: tuple[str, ...]
    executor: str = "sequential"
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @cached_property
    def digests(self) -> dict[str, str]:
        """The digest of each aspect; the plan's is ``SubsetPlan.digest``."""
        aspects = {aspect: digest(getattr(self.identity, aspect)) for aspect in _ASPECTS}
        return aspects | {"plan": self.plan.digest}

    @property
    def trained_by(self) -> str:
        """How models are trained, in words."""
        if not self.execution:
            return self.executor
        size = self.execution["chunk_size"]
        at_once = f", {size} models at once" if size > 1 else ""
        compiled = ", compiled" if self.execution.get("compiled") else ""
        return f"{self.executor}: {self.execution['engine']}{at_once}{compiled} ({self.execution['reason']})"

    @cached_property
    def plan(self) -> SubsetPlan:
        """The subset plan."""
        return SubsetPlan.from_dict(self.identity.plan)

    def to_json(self) -> bytes:
        """The content of the file."""
        return json.dumps({**asdict(self), "digests": self.digests}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes, *, url: str) -> Manifest:
        """Read the file.

        Raises:
            CorruptShardError: It is not a manifest.
            MismatchError: It was written in another format.
        """
        try:
            state = json.loads(content)
            if state["schema"] == SCHEMA:
                manifest = cls(
                    Identity(**state["identity"]),
                    tuple(state["splits"]),
                    state["executor"],
                    tuple(state["notes"]),
                    state["versions"],
                    state.get("execution", {}),
                )
                if manifest.digests != state["digests"]:
                    raise ValueError("its content does not match its digests")
                return manifest
            written_by = state.get("versions", {}).get(_OWN, "unknown")
        except (ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise CorruptShardError(
                f"store={url!r}: manifest.json cannot be read ({error}); restore it from a copy, or "
                "remove it and run the audit again (shards are checked one by one)"
            ) from error
        raise MismatchError(
            f"store={url!r} is of schema {state['schema']} and this version reads schema {SCHEMA}; use another "
            f"--store, or the lightning_memaudit that wrote it ({written_by})"
        )

    def check(self, other: Manifest, *, url: str) -> None:
        """Refuse ``other``, the run that is about to start, unless it belongs to this store.

        Raises:
            MismatchError: An aspect changed; the message names both digests, what changed, and the way out.
        """
        for aspect in _ASPECTS:
            ours, theirs = getattr(self.identity, aspect), getattr(other.identity, aspect)
            if aspect == "plan" and self.plan.digest == other.plan.digest:
                continue  # compressed columns may differ in bytes between versions of zlib
            changes = _changes(*(_comparable(ours, theirs) if aspect != "plan" else (ours, theirs)))
            if changes:
                raise MismatchError(
                    f"store={url!r} belongs to another {aspect}: digest {self.digests[aspect]} there, "
                    f"{other.digests[aspect]} here ({'; '.join(changes[:4])}{'; …' if len(changes) > 4 else ''}). "
                    "Nothing was mixed. Use a new store (--store NEW), or go back to the settings that made this one"
                )


def digest(description: Mapping[str, Any]) -> str:
    """Hexadecimal SHA-256 of a JSON-ready description, 32 characters."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:32]


@cache
def library_versions() -> dict[str, str]:
    """Versions of Python and the libraries that bear on results."""
    libraries = {name: __version__ if name == _OWN else version(name) for name in _LIBRARIES}
    return libraries | {"python": platform.python_version()}


def _comparable(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries that only one side could determine (initial weights need a factory) are not compared."""
    known = [key for key in ours if key in theirs and ours[key] is not None and theirs[key] is not None]
    return {key: ours[key] for key in known}, {key: theirs[key] for key in known}


def _changes(ours: Any, theirs: Any, path: str = "") -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted({*ours, *theirs})
        return [
            change for key in keys for change in _changes(ours.get(key), theirs.get(key), f"{path}.{key}".strip("."))
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [change for i, (a, b) in pairs for change in _changes(a, b, f"{path}[{i}]")]
    return [] if ours == theirs else [f"{path}: {_short(ours)} there, {_short(theirs)} here"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
