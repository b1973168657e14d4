import re

from lightning_memaudit.loggers.walk import Histogram, Table, safe_names, walk
from tests.helpers.reports import HOSTILE

ROW = {"group": "a", "n": 3, "tpr": 0.5, "low": 0.1, "high": 0.9}


def test_a_section_nobody_has_heard_of_is_found() -> None:
    section = {
        "status": "ok",
        "reason": None,
        "auc": 0.75,
        "attack": "lira",
        "decided": True,
        "epsilon": None,
        "at": {"fpr": {"tpr": float("nan"), "low": 0.25}},
        "scores": {"edges": [0, 0.5, 1], "counts": [3, 4]},
        "arms": {"full/dpsgd-eps0.5": {"overall": {"auc": 0.5}, "by_group": {"race": {"rows": [ROW]}}}},
        "ids": [1, 2],
        "statistics": {"n": 3},
    }
    found = walk({"later": section, "absent": {"status": "unavailable", "reason": "no data", "n": 1}, "schema": 1})
    arm = "memaudit/later/arms/full_dpsgd-eps0_5"
    assert found.scalars == {
        "memaudit/later/auc": 0.75,
        "memaudit/later/at/fpr/low": 0.25,
        f"{arm}/overall/auc": 0.5,
    }
    assert found.group_scalars == {f"{arm}/by_group/race/a/tpr": 0.5}
    assert found.histograms == {"memaudit/later/scores": Histogram((0, 0.5, 1), (3, 4))}
    expected = Table(("grouping", "group", "n", "tpr", "low", "high"), (("race", "a", 3, 0.5, 0.1, 0.9),))
    assert found.tables == {f"{arm}/by_group": expected}


def test_what_is_unavailable_within_a_section_is_left_out() -> None:
    part = {"status": "unavailable", "reason": "too few models", "n_models": 2, "rows": [ROW]}
    found = walk({"later": {"status": "ok", "n": 1, "part": part}})
    assert (list(found.scalars), found.tables) == (["memaudit/later/n"], {})


def test_users_name_their_groupings_as_they_like() -> None:
    names = ["rows", "statistics", "record", "a.b", "<5", "edges"]
    found = walk({"later": {"status": "ok", "by_group": {name: {"rows": [ROW]} for name in names}}})
    table = found.tables["memaudit/later/by_group"]
    assert [row[table.columns.index("grouping")] for row in table.rows] == names
    assert len(found.group_scalars) == len(names)
    assert found == walk({"later": {"status": "ok", "by_group": {name: [ROW] for name in names}}})


def test_groupings_share_a_table_and_cells_of_it_have_no_scalar() -> None:
    cells = [ROW | {"label": label} for label in (0, 1)]
    part = {"by_group": {"a": [ROW], "b": [ROW, ROW | {"group": "c"}]}, "cells": {"a": cells}, "by_class": [ROW]}
    found = walk({"later": {"status": "ok", **part}})
    assert {name: len(table.rows) for name, table in found.tables.items()} == {
        "memaudit/later/by_group": 3,
        "memaudit/later/cells/a": 2,
        "memaudit/later/by_class": 1,
    }
    assert len(found.group_scalars) == 4


def test_names_are_safe_short_and_different() -> None:
    long = ["x" * 10_000, "x" * 9_999]
    names = ["", "a b", "a_b", "A b", *long, *HOSTILE]
    safe = safe_names(names)
    assert len(set(map(str.lower, safe))) == len(names)
    assert all(re.fullmatch(r"[\w-]{1,60}", name) for name in safe)
    assert safe_names(["Black", "White"]) == ["Black", "White"]


def test_deep_names_fit_where_mlflow_cuts_them() -> None:
    deep = {"status": "ok", "by_group": {"g" * 99: {"k" * 99: {"k" * 99: {"m" * 99: {"rows": [ROW]}}}}}}
    (name,) = walk({"section" * 9: deep}).group_scalars
    assert len(name) == 250
