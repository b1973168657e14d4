import csv
import io
import json
import math
import re

import pytest

from lightning_memaudit import AuditReport
from lightning_memaudit.loggers.payload import Picture, payload_of
from tests.helpers.reports import HOSTILE, small_store

PNG = b"\x89PNG"


def test_numbers_are_those_of_the_report(report, payload) -> None:
    content = report.content
    drop = content["impact"]["arms"]["prune-0.9"]["overall"]["drop"]
    assert payload.scalars["memaudit/n_models"] == payload.n_models == 12
    assert payload.scalars["memaudit/memorization/prevalence/naive"] == content["memorization"]["prevalence"]["naive"]
    assert payload.scalars["memaudit/impact/arms/prune-0_9/overall/drop"] == drop
    assert payload.histograms["memaudit/memorization/histogram"].counts == tuple(
        content["memorization"]["histogram"]["counts"]
    )
    everything = payload.scalars | payload.group_scalars
    assert all(math.isfinite(value) for value in everything.values())
    assert all(re.fullmatch(r"memaudit(/[\w-]+)+", name) and len(name) <= 250 for name in everything)


def test_groups_keep_their_names_in_tables(payload) -> None:
    table = payload.tables["memaudit/impact/arms/prune-0_9/by_group"]
    cells = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert {cell["group"] for cell in cells if cell["grouping"] == "kind"} == set(HOSTILE)
    assert {"drop", "low", "high", "excess", "verdict"} <= set(table.columns)
    assert len([name for name in payload.group_scalars if "/prune-0_9/by_group/kind/" in name]) == 2 * len(HOSTILE)


def test_the_most_memorized_examples_have_pictures(report, payload) -> None:
    table = payload.tables["memaudit/top"]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["index"] for row in rows] == [row["index"] for row in report.content["memorization"]["top"]]
    assert all(isinstance(row["example"], Picture) and row["example"].png.startswith(PNG) for row in rows)
    assert rows[0]["groups/kind"] in HOSTILE


@pytest.fixture
def lean(report) -> dict:
    """The content of a report that has few figures to draw, and texts for pictures."""
    content = json.loads(report.to_json())
    content |= {name: {"status": "unavailable", "reason": "left out"} for name in ("impact", "long_tail", "accuracy")}
    preview = {"kind": "text", "text": "<b>x"}
    content["gallery"] |= {"kind": "text", "train": dict.fromkeys(content["gallery"]["train"], preview)}
    return content


@pytest.mark.parametrize(
    ("preview", "shown"),
    [({"kind": "text", "text": "<b>x"}, "<b>x"), ({"kind": "row", "values": [1.5, 2.0]}, "[1.5, 2.0]")],
)
def test_texts_and_rows_are_shown_as_they_are(lean, preview, shown) -> None:
    lean["gallery"] |= {"kind": preview["kind"], "train": dict.fromkeys(lean["gallery"]["train"], preview)}
    table = payload_of(AuditReport(lean)).tables["memaudit/top"]
    assert {row[table.columns.index("example")] for row in table.rows} == {shown}


def test_no_more_pictures_than_wandb_takes_and_none_where_there_are_none(lean) -> None:
    lean["gallery"]["items"] *= 10
    assert len(payload_of(AuditReport(lean)).tables["memaudit/top"].rows) == 108
    lean["gallery"] = {"status": "unavailable", "reason": "left out"}
    table = payload_of(AuditReport(lean)).tables["memaudit/top"]
    assert {row[table.columns.index("example")] for row in table.rows} == {None}


def test_files_hold_everything(report, payload) -> None:
    assert {"report.json", "report.md", "report.html", "memorization.csv", "figures/memorization.png"} <= set(
        payload.files
    )
    assert json.loads(payload.files["report.json"]) == report.content
    rows = list(csv.DictReader(io.StringIO(payload.files["memorization.csv"].decode(), newline="")))
    assert [float(row["memorization"]) for row in rows] == report.memorization.score.tolist()
    assert {row["kind"] for row in rows} == set(HOSTILE)
    assert payload.figures["memaudit/figures/impact_prune-0_9"].caption.startswith(
        report.content["captions"]["impact_prune-0.9"]
    )
    assert payload.config["digests"] == report.content["digests"]
    assert payload.name == "memaudit-{data:.8}-{plan}".format(**report.content["digests"])


def test_one_model_is_enough_for_what_one_model_can_say(tmp_path) -> None:
    report = AuditReport.from_store(small_store(tmp_path, n_models=1), sections=["memorization", "accuracy"])
    payload = payload_of(report)
    assert report.content["memorization"]["status"] == "unavailable"
    assert payload.scalars["memaudit/n_models"] == payload.n_models == 1
    assert "memaudit/accuracy/arms/baseline/overall/accuracy" in payload.scalars


def test_a_report_that_was_read_from_its_file_has_all_but_the_scores(lean, payload) -> None:
    read = payload_of(AuditReport(lean))
    assert "memorization.csv" not in read.files
    assert {name for name in payload.scalars if "/memorization/" in name} <= read.scalars.keys() <= set(payload.scalars)
