import json
import sys

import matplotlib
import numpy as np
import pytest

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.outcomes.store import OutcomeStore
from lightning_memaudit.record import Record
from lightning_memaudit.sections.memorization import memorization_section


@pytest.fixture(scope="module")
def result(lookup_store: OutcomeStore):
    return memorization_section(Record(lookup_store))


def test_singletons_are_memorized_and_crowds_are_not(result) -> None:
    assert (result.score[4:32] == 1).all()  # alone at their point, label other than the default class 0
    assert (result.score[32:] == 0).all()
    groups = {row["group"]: row for row in result.summary["by_group"]["kind"]}
    assert groups["single"]["mean_score"] == 1
    assert groups["single"]["n_memorized"] == 28
    assert groups["crowd"]["mean_score"] == 0
    assert 0.2 < groups["twin"]["mean_score"] < 0.4  # a twin hides it: 1 - .7
    assert groups["twin"]["low"] < groups["twin"]["mean_score"] < groups["twin"]["high"]


def test_twins_are_found_as_near_duplicates(result) -> None:
    pairs = {(pair["first"], pair["second"]) for pair in result.summary["near_duplicates"]["pairs"]}
    assert {(0, 1), (2, 3)} <= pairs
    assert all(j < 4 or i >= 32 for i, j in pairs)


def test_high_influence_pairs_are_those_of_the_same_point(result) -> None:
    influence = result.summary["influence"]
    assert influence["split"] == "test"
    assert {(pair["train_index"], pair["test_index"]) for pair in influence["pairs"]} <= {
        (i, i - 2) for i in range(4, 32)
    } | {
        (0, 0),
        (1, 0),
        (2, 1),
        (3, 1),
    }
    assert 0 < influence["false_discovery_rate"] < 1
    assert 0 < influence["minimum_detectable"] <= 1


def test_the_summary_is_ready_for_json_and_consistent(result) -> None:
    summary = json.loads(json.dumps(result.to_dict()))
    assert sum(summary["histogram"]["counts"]) == summary["arms"]["n_estimable"] == 52
    assert summary["prevalence"]["naive_count"] == int((result.score >= 0.25 - 1e-12).sum())
    assert summary["fit"]["status"] == "fitted"
    assert [row["index"] for row in summary["top"]] == list(dict.fromkeys(row["index"] for row in summary["top"]))
    scores = [row["score"] for row in summary["top"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(row["n"] for row in summary["by_class"]) == 52


def test_frames_have_one_row_per_example(result, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = result.to_frame()
    assert list(frame["index"]) == list(range(52))
    assert {"label", "memorization", "low", "high", "in_accuracy", "out_accuracy", "n_in", "n_out", "kind"} <= set(
        frame
    )
    monkeypatch.setitem(sys.modules, "pandas", None)
    plain = result.to_frame()
    assert isinstance(plain, dict)
    assert np.array_equal(plain["memorization"], result.score)


def test_plot_draws_on_the_given_axes_or_its_own(result) -> None:
    ax = result.plot()
    assert ax.get_xlabel() == "memorization score"
    figure = matplotlib.figure.Figure()
    own = figure.subplots()
    assert result.plot(own) is own


def test_two_models_are_the_least(tmp_path, lookup_store: OutcomeStore) -> None:
    one = OutcomeStore(tmp_path)
    one.storage.write("manifest.json", lookup_store.storage.read("manifest.json"))
    one.storage.write("examples/train.npz", lookup_store.storage.read("examples/train.npz"))
    name = "outcomes/baseline/000000.npz"
    one.storage.write(name, lookup_store.storage.read(name))
    with pytest.raises(MissingDataError, match="1 baseline models"):
        memorization_section(Record(one))
