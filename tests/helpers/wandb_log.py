"""Reads what an offline run of W&B wrote, so that tests see what would be uploaded.

A run log is a header of seven bytes and then LevelDB blocks of 32768 bytes; a record is a checksum, a length, a type
and its bytes, and long records go on in the next block.
"""

from __future__ import annotations

import json
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb.proto.wandb_internal_pb2 import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK, HEADER = 32768, 7
FULL, FIRST, LAST = 1, 2, 4


@dataclass
class RunLog:
    """What a run was told.

    ``history`` has one dict a logged row, media as dicts; ``files`` what the run itself holds, below its folder.
    """

    run_id: str = ""
    project: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    metrics: list[Any] = field(default_factory=list)
    artifacts: list[Any] = field(default_factory=list)
    exited: bool = False
    folder: Path = Path()

    def last(self, key: str) -> Any:
        return [row[key] for row in self.history if key in row][-1]

    def table(self, key: str) -> dict[str, Any]:
        """The JSON file of a table, ``columns`` and ``data``, from the artifact that W&B shows it from."""
        owner, _, path = self.last(key)["artifact_path"].removeprefix("wandb-client-artifact://").partition("/")
        return json.loads(self.files(owner)[path].read_bytes())

    def files(self, client_id: str) -> dict[str, Path]:
        """The files of an artifact."""
        (artifact,) = [artifact for artifact in self.artifacts if artifact.client_id == client_id]
        return {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}


def read_run(path: Path, patience: float = 60.0) -> RunLog:
    """Read the log of a finished run; the process that writes it may be a moment behind ``finish()``."""
    end = time.monotonic() + patience
    while not (log := _read(path)).exited and time.monotonic() < end:
        time.sleep(0.1)
    assert log.exited, f"{path} has no end after {patience} seconds"
    return log


def _read(path: Path) -> RunLog:
    log = RunLog(folder=path.parent)
    for content in records(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            log.run_id, log.project = record.run.run_id, record.run.project
            log.config.update(items(record.run.config.update))
        elif kind == "config":
            log.config.update(items(record.config.update))
        elif kind == "history":
            log.history.append(items(record.history.item))
        elif kind == "summary":
            log.summary.update(items(record.summary.update))
        elif kind == "metric":
            log.metrics.append(record.metric)
        elif kind == "artifact":
            log.artifacts.append(record.artifact)
        elif kind == "exit":
            log.exited = True
    return log


def items(entries: Any) -> dict[str, Any]:
    """Values by key; what W&B took apart (``key.path``, ``key.size``) is a mapping again."""
    found: dict[str, Any] = {}
    for entry in entries:
        first, *rest = list(entry.nested_key) or entry.key.split(".")
        value = json.loads(entry.value_json)
        if rest:
            found.setdefault(first, {})[".".join(rest)] = value
        else:
            found[first] = value
    return found


def records(content: bytes) -> Iterator[bytes]:
    """The whole records of a log, which may still be growing."""
    parts, at = b"", HEADER
    while at + HEADER <= len(content):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        at += HEADER
        if at + length > len(content):
            return
        parts = (b"" if kind in (FULL, FIRST) else parts) + content[at : at + length]
        if kind in (FULL, LAST):
            yield parts
        at += length
