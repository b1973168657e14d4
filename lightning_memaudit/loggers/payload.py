"""What of a report goes to a logger: made once, the same for all of them."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.loggers.walk import PREFIX, Histogram, Table, flat, safe_names, walk
from lightning_memaudit.report.tables import csv_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.report.audit_report import AuditReport

__all__ = ["STEP", "Payload", "Picture", "payload_of"]

STEP = f"{PREFIX}/n_models"
_MOST_PICTURES = 108  # more of them are cut by W&B
_CONFIG = ("model", "digests", "data", "versions", "executor")


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG file, and what it shows."""

    png: bytes
    caption: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """What sinks log.

    Attributes:
        name: Of the audit: ``memaudit-<data>-<plan digest>``.
        n_models: Baseline models so far, the x-axis of everything.
        scalars: Finite numbers, by names below ``memaudit/``.
        group_scalars: One number a group.
        tables: Groups of each arm, and the most memorized examples with their pictures.
        histograms: As the sections stored them.
        figures: By name.
        files: Everything as files, by relative path.
        summary: A few sentences.
        config: Digests, model, data and versions.
    """

    name: str
    n_models: int
    scalars: dict[str, float]
    group_scalars: dict[str, float]
    tables: dict[str, Table]
    histograms: dict[str, Histogram]
    figures: dict[str, Picture]
    files: dict[str, bytes]
    summary: str
    config: dict[str, Any]


def payload_of(report: AuditReport | Payload) -> Payload:
    """Take from a report what sinks log; a payload stays what it is, so that several sinks can share one."""
    if isinstance(report, Payload):
        return report
    content, found, drawn = report.content, walk(report.content), report.figures()
    tables = dict(found.tables)
    if top := _top(content):
        tables[f"{PREFIX}/top"] = top
    n_models = _n_models(content)
    digests = content["digests"]
    return Payload(
        name=f"{PREFIX}-{digests['data'][:8]}-{digests['plan']}",
        n_models=n_models,
        scalars={STEP: float(n_models)} | found.scalars,
        group_scalars=found.group_scalars,
        tables=tables,
        histograms=found.histograms,
        figures=_figures(drawn, content.get("captions", {})),
        files=_files(report, drawn, tables),
        summary=report.summary(),
        config={name: content[name] for name in _CONFIG} | {"n_models": n_models},
    )


def _n_models(content: Mapping[str, Any]) -> int:
    known = [content["memorization"], content.get("accuracy", {}).get("arms", {}).get("baseline", {})]
    return next((int(part["n_models"]) for part in known if "n_models" in part), 0)


def _figures(drawn: Mapping[str, bytes], captions: Mapping[str, str]) -> dict[str, Picture]:
    known = [name.removesuffix(".png") for name in drawn if name.endswith(".png")]
    return {
        f"{PREFIX}/figures/{safe}": Picture(drawn[f"{name}.png"], captions.get(name))
        for name, safe in zip(known, safe_names(known), strict=True)
    }


def _top(content: Mapping[str, Any]) -> Table | None:
    gallery, memorization = content.get("gallery", {}), content["memorization"]
    shown = gallery if gallery.get("status") == "ok" else {"items": memorization.get("top", []), "train": {}}
    rows = [
        {"example": _cell(shown["train"].get(str(item["index"])))} | flat(item) | _helped(item)
        for item in shown["items"][:_MOST_PICTURES]
    ]
    return Table.of(rows) if rows else None


def _cell(preview: Mapping[str, Any] | None) -> Picture | str | None:
    if preview is None:
        return None
    if preview["kind"] == "image":
        return Picture(base64.b64decode(preview["png"]))
    return str(preview["text"] if preview["kind"] == "text" else preview["values"])


def _helped(item: Mapping[str, Any]) -> dict[str, Any]:
    return {f"helps/{key}": value for key, value in (item.get("helped") or [{}])[0].items()}


def _files(report: AuditReport, drawn: Mapping[str, bytes], tables: Mapping[str, Table]) -> dict[str, bytes]:
    files = {
        "report.json": report.to_json().encode("utf-8", "replace"),
        "report.md": report.to_markdown().encode("utf-8", "replace"),
        "report.html": report.to_html().encode("utf-8", "replace"),
        **{f"figures/{name}": picture for name, picture in drawn.items()},
    }
    for name, table in tables.items():
        kept = [i for i, column in enumerate(table.columns) if column != "example"]
        rows = [[row[i] for i in kept] for row in table.rows]
        files[f"tables/{name.removeprefix(f'{PREFIX}/')}.csv"] = csv_bytes([table.columns[i] for i in kept], rows)
    with suppress(MissingDataError):  # a report that was loaded from its file has no scores
        columns = report.memorization.columns()
        scores = zip(*(column.tolist() for column in columns.values()), strict=True)
        files["memorization.csv"] = csv_bytes(list(columns), scores)
    return files
