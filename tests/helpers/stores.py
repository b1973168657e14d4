"""Small stores with invented outcomes, and a file system that is as awkward as an object store may be."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import numpy as np
from fsspec.spec import AbstractFileSystem

from lightning_memaudit.data.groups import Grouping
from lightning_memaudit.data.plan import SubsetPlan, mask_checksum
from lightning_memaudit.outcomes.examples import Examples, label_digest
from lightning_memaudit.outcomes.manifest import Identity, Manifest
from lightning_memaudit.outcomes.shard import Shard, SplitScores
from lightning_memaudit.outcomes.storage import Storage
from lightning_memaudit.outcomes.store import OutcomeStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PLAN = SubsetPlan(21, seed=3)
LABELS = {"train": np.arange(21) % 3, "test": np.arange(5) % 3}


def manifest(plan: SubsetPlan = PLAN, **aspects: Any) -> Manifest:
    data = {
        split: {"n_examples": len(labels), "labels": label_digest(labels), "inputs": "x"}
        for split, labels in LABELS.items()
    }
    described = {"model": {"class": "Net"}, "optimisation": {"lr": 0.1}, "scoring": {"score_fn": "f"}} | aspects
    return Manifest(Identity(plan=plan.to_dict(), data=data, **described), ("train", "test"))


def shard(model_id: int, plan: SubsetPlan = PLAN, *, shares: bool = False, n_test: int = 5) -> Shard:
    rng = np.random.default_rng(model_id)

    def scores(n: int) -> SplitScores:
        correct = rng.random(n).astype(np.float32) if shares else rng.random(n) < 0.5
        margin = rng.normal(size=n).astype(np.float32)
        margin[:2] = np.nan, -np.inf
        loss, confidence = rng.random((2, n)).astype(np.float32)
        return SplitScores(correct, margin, loss, rng.integers(-1, 3, n).astype(np.int32), confidence)

    checksum = mask_checksum(plan.mask(model_id))
    splits = {"train": scores(21), "test": scores(n_test)}
    return Shard(model_id, plan.digest, checksum, plan.model_seed(model_id), 1.5, splits)


def fill(url: str | Path | Storage, ids: Iterable[int] = range(4)) -> OutcomeStore:
    """A store of some models."""
    store = OutcomeStore(url)
    store.open(manifest())
    for split, labels in LABELS.items():
        store.write_examples(split, Examples(len(labels), labels, {"g": Grouping(labels, ("a", "b", "c"))}))
    for model_id in ids:
        store.write(shard(model_id))
    return store


class Damaging(Storage):
    """Cuts off the end of every shard of one arm that it writes."""

    def __init__(self, url: str | Path, *, arm: str) -> None:
        super().__init__(url)
        self._arm = arm

    def write(self, name: str, content: bytes) -> None:
        is_shard = name.startswith(f"outcomes/{self._arm}/") and name.endswith(".npz")
        super().write(name, content[:-40] if is_shard else content)


class Objects(AbstractFileSystem):
    """``objects://``: no folders, moves that copy and remove, and listings that are old until one asks anew."""

    protocol = "objects"
    cachable = False
    files: ClassVar[dict[str, tuple[bytes, float]]] = {}
    listings: ClassVar[dict[str, list[dict[str, Any]]]] = {}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path).rstrip("/")
        if path not in self.listings:
            found: dict[str, dict[str, Any]] = {}
            for name, (content, _) in self.files.items():
                if name == path:
                    found[name] = {"name": name, "size": len(content), "type": "file"}
                elif name.startswith(f"{path}/" if path else ""):
                    below = name[len(path) :].lstrip("/")
                    child = f"{path}/{below.split('/')[0]}" if path else below.split("/")[0]
                    entry = {"name": child, "size": len(content), "type": "file"}
                    found[child] = entry if child == name else {"name": child, "size": 0, "type": "directory"}
            self.listings[path] = list(found.values())
        entries = self.listings[path]
        if not entries:
            raise FileNotFoundError(path)
        return entries if detail else [entry["name"] for entry in entries]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listings.clear()

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        try:
            return self.files[self._strip_protocol(path)][0][start:end]
        except KeyError:
            raise FileNotFoundError(path) from None

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self.files[self._strip_protocol(path)] = (bytes(value), time.time())

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self.pipe_file(path2, self.cat_file(path1))

    def rm_file(self, path: str) -> None:
        if self.files.pop(self._strip_protocol(path), None) is None:
            raise FileNotFoundError(path)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        root = self._strip_protocol(path)
        for name in [name for name in self.files if name == root or (recursive and name.startswith(f"{root}/"))]:
            self.rm_file(name)

    def mv(self, path1: str, path2: str, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        self.cp_file(path1, path2)
        self.rm_file(path1)

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(self.files[self._strip_protocol(path)][1], UTC)


fsspec.register_implementation("objects", Objects, clobber=True)
