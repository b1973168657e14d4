"""The section from stores whose outcomes are known; the numbers are derived in the comments."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit.exceptions import ArgumentError, MissingDataError
from lightning_memaudit.record import Record
from lightning_memaudit.sections.impact import impact_section
from tests.helpers.treated import TreatedStore

GOLDEN = Path(__file__).parents[3] / "golden"
LABELS = {"train": np.arange(12) % 3, "test": np.arange(8) % 2}
GROUPS = {
    "race": {"train": ["a", "b", "c"] * 4, "test": ["a"] * 4 + ["b"] * 4},
    "one": {"train": ["x"] * 12, "test": ["x"] * 8},
    "train only": {"train": ["p", "q"] * 6},
}


def right(n_models, n=8):
    return np.ones((n_models, n), dtype=bool)


def wrong_at(*cells, n_models=2, n=8):
    correct = right(n_models, n)
    for row, column in cells:
        correct[row, column] = False
    return correct


def prune(amount=0.9):
    return {"treatment": {"class": "lightning_memaudit.treatments.prune.Prune", "amount": amount}, "trains": False}


@pytest.fixture
def filled(tmp_path):
    """Base right everywhere; treated models 0 and 1 wrong on 4 and 5, and on 4."""
    known = TreatedStore(tmp_path, LABELS, GROUPS)
    known.fill("baseline", {"test": right(2)})
    treated = wrong_at((0, 4), (0, 5), (1, 4))
    return known.fill("prune-0.9", {"test": treated}, made_from="baseline", record=prune())


def arm_of(known, name="prune-0.9"):
    summary = impact_section(Record(known.store)).to_dict()
    json.dumps(summary, allow_nan=False)
    return summary["arms"][name]


def rows_of(arm, grouping):
    return {row["group"]: row for row in arm["by_group"][grouping]["rows"]}


def test_drops_of_two_paired_models_by_hand(filled) -> None:
    arm = arm_of(filled)
    assert (arm["status"], arm["n_models"], arm["base"], arm["data"]) == ("ok", 2, {"baseline": 2}, "subset")
    overall, race = arm["overall"], rows_of(arm, "race")
    assert overall["drop"] == pytest.approx(3 / 16)
    assert (race["a"]["drop"], race["b"]["drop"]) == (0, pytest.approx(3 / 8))
    assert race["b"]["excess"] == pytest.approx(3 / 8 - 3 / 16)
    assert race["a"]["excess"] == pytest.approx(-3 / 16)
    assert race["b"]["relative"] == pytest.approx(3 / 8)
    # three of eight cells lose 2.0 instead of 0.1
    assert race["b"]["loss"]["rise"] == pytest.approx(3 * 1.9 / 8)
    assert race["b"]["loss"]["low"] < race["b"]["loss"]["rise"] < race["b"]["loss"]["high"]
    part = arm["by_group"]["race"]
    assert part["worst"]["treated"] == {"group": "b", "n": 4, "accuracy": pytest.approx(5 / 8)}
    assert (part["gap"]["base"], part["gap"]["treated"]) == (0, pytest.approx(3 / 8))
    assert {row["verdict"] for row in race.values()} == {"undecided", "no examples"}
    assert race["b"]["factor_needed"] > 1


def test_groups_that_the_split_lacks_are_there(filled) -> None:
    arm = arm_of(filled)
    absent = rows_of(arm, "race")["c"]
    assert (absent["n"], absent["drop"], absent["p"], absent["p_holm"]) == (0, None, None, None)
    assert (absent["method"], absent["verdict"]) == ("none", "no examples")
    assert rows_of(arm, "label")["2"]["n"] == 0
    assert "no grouping 'train only'" in arm["by_group"]["train only"]["reason"]
    assert arm["by_group"]["one"]["is_overall"]
    assert rows_of(arm, "one")["x"]["drop"] == arm["overall"]["drop"]
    assert rows_of(arm, "one")["x"]["excess_low"] is None


def test_p_values_are_adjusted_over_all_groups_of_the_arm(filled) -> None:
    arm = arm_of(filled)
    rows = [row for part in arm["by_group"].values() for row in part.get("rows", ()) if row["n"]]
    raw = np.array([row["p"] for row in rows])
    assert len(raw) == 5  # labels 0 and 1, races a and b, x
    assert rows[int(raw.argmin())]["p_holm"] == pytest.approx(min(1, 5 * raw.min()))
    assert all(row["p"] <= row["p_bh"] <= row["p_holm"] <= 1 for row in rows)


def test_recall_by_group_and_label_by_hand(filled) -> None:
    cells = arm_of(filled)["by_group_and_label"]
    found = {(row["group"], row["label"]): (row["n"], row["drop"]) for row in cells["race"]["rows"]}
    # 4 and 6 are b with label 0, and both models miss 4; 5 and 7 have label 1, and one model misses 5
    assert found == {("a", "0"): (2, 0), ("a", "1"): (2, 0), ("b", "0"): (2, 0.5), ("b", "1"): (2, 0.25)}
    assert cells["race"]["n_empty_cells"] == 3 * 3 - 4
    assert cells["label"]["status"] == "unavailable"


def test_a_group_that_pays_is_named_with_its_numbers(tmp_path) -> None:
    n = 200
    known = TreatedStore(
        tmp_path,
        {"train": np.arange(12) % 3, "test": np.zeros(n, dtype=int)},
        {"race": {"train": ["a"] * 12, "test": ["a"] * 150 + ["b"] * 50}},
    )
    treated = right(6, n)
    treated[:, 150:175] = False
    known.fill("baseline", {"test": right(6, n)}).fill("dpsgd-eps3", {"test": treated})
    arm = arm_of(known, "dpsgd-eps3")
    race = rows_of(arm, "race")
    assert race["b"]["verdict"] == "costs"
    assert race["b"]["low"] > 0.3
    assert (race["a"]["verdict"], race["a"]["n_needed"]) == ("undecided", None)
    pays = arm["who_pays"]
    assert (pays["decided"], pays["grouping"], pays["group"]) == (True, "race", "b")
    assert pays["excess"] == pytest.approx(0.5 - 25 / 200)
    assert pays["stands_corrected"]
    assert "race = b pays most: accuracy drop +50 points against +12.5 overall" in pays["sentence"]
    assert "50 examples, 6 pairs of models" in pays["sentence"]
    assert arm["record"]["status"] == "unavailable"


def test_who_pays_cannot_be_said_of_small_groups(filled) -> None:
    pays = arm_of(filled)["who_pays"]
    assert not pays["decided"]
    assert pays["factor_needed"] > 1
    assert "race = b: accuracy drop +38 points" in pays["sentence"]
    assert "4 examples, 2 pairs of models" in pays["sentence"]


def test_without_flips_the_interval_is_tangos(tmp_path) -> None:
    golden = {
        (case["a"], case["d"]): case["tango"]
        for case in json.loads((GOLDEN / "impact.json").read_text())["paired_degenerate_95"]
    }
    labels = {"train": np.arange(12) % 3, "test": np.zeros(100, dtype=int)}
    groups = {"g": {"train": ["25/25"] * 12, "test": ["25/25"] * 50 + ["49/1"] * 50}}
    known = TreatedStore(tmp_path, labels, groups)
    same = {"test": np.tile(np.r_[np.arange(50) < 25, np.arange(50) < 49], (3, 1))}
    known.fill("baseline", same).fill("prune-0.9", same, made_from="baseline")
    rows = rows_of(arm_of(known), "g")
    for group, key in (("25/25", (25, 25)), ("49/1", (49, 1))):
        assert [rows[group]["low"], rows[group]["high"]] == pytest.approx(golden[key], abs=1e-9)
        assert (rows[group]["method"], rows[group]["drop"], rows[group]["verdict"]) == ("tango", 0, "undecided")
        assert rows[group]["factor_needed"] is None  # no number decides a drop of 0


def test_one_model_an_arm_gives_tangos_interval_and_says_what_is_not_covered(tmp_path) -> None:
    cases = json.loads((GOLDEN / "intervals.json").read_text())["paired_95"]
    sides = [np.repeat([1, 1, 0, 0], [case[key] for key in "abcd"]) for case in cases]
    others = [np.repeat([1, 0, 1, 0], [case[key] for key in "abcd"]) for case in cases]
    names = [str(i) for i, side in enumerate(sides) for _ in side]
    n = len(names)
    known = TreatedStore(
        tmp_path, {"train": np.arange(12) % 3, "test": np.arange(n) % 3}, {"case": {"train": ["0"] * 12, "test": names}}
    )
    known.fill("baseline", {"test": np.concatenate(sides)[None] == 1})
    known.fill("prune-0.9", {"test": np.concatenate(others)[None] == 1}, made_from="baseline")
    arm = arm_of(known)
    rows = rows_of(arm, "case")
    for i, case in enumerate(cases):
        assert [rows[str(i)]["low"], rows[str(i)]["high"]] == pytest.approx(case["tango"], abs=1e-6)
        assert not rows[str(i)]["covers_models"]
        assert rows[str(i)]["loss"]["low"] is None
    assert any("seed variance is not covered" in note for note in arm["notes"])
    assert "seed variance not covered" in arm["who_pays"]["sentence"]
    assert "train more than one pair of models" in arm["who_pays"]["sentence"] or arm["who_pays"]["decided"]
    assert "at least 2" in arm["hooker"]["reason"]
    assert "there are 1 baseline models and 1 treated models; at least 6" in arm["by_memorization"]["slope"]["reason"]


def test_rebuilt_models_are_the_base_and_their_flips_are_counted(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS, GROUPS)
    known.fill("baseline", {"test": right(2)})
    known.fill("rebuilt", {"test": wrong_at((1, 0), (1, 1))[1:]}, ids=[1])
    treated = {"test": wrong_at((1, 0), (1, 1), (1, 2))}
    known.fill("prune-0.9", {"test": treated["test"][:1]}, ids=[0], made_from="baseline")
    known.fill("prune-0.9", {"test": treated["test"][1:]}, ids=[1], made_from="rebuilt")
    summary = impact_section(Record(known.store)).to_dict()
    assert list(summary["arms"]) == ["prune-0.9"]  # the rebuilt models are no treatment
    arm = summary["arms"]["prune-0.9"]
    assert arm["base"] == {"baseline": 1, "rebuilt": 1}
    assert arm["overall"]["drop"] == pytest.approx(1 / 16)  # 3/16 against the stored models
    assert (arm["rebuilt"]["n_models"], arm["rebuilt"]["n_flips"], arm["rebuilt"]["share"]) == (1, 2, 0.25)
    assert arm["rebuilt"]["by_model"] == [{"model": 1, "n_flips": 2, "share": 0.25}]


def test_models_without_a_base_are_left_out_and_named(filled) -> None:
    filled.fill("prune-0.9", {"test": ~right(1)}, ids=[7], made_from="baseline")
    arm = arm_of(filled)
    assert (arm["n_models"], arm["without_base"], arm["overall"]["drop"]) == (2, [7], pytest.approx(3 / 16))
    assert any(note.startswith("Models 7 are left out") for note in arm["notes"])


def test_damaged_base_models_are_left_out(filled) -> None:
    Path(filled.store.url, "outcomes/baseline/000000.npz").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="000000"):
        arm = arm_of(filled)
    assert (arm["n_models"], arm["without_base"]) == (1, [0])


def test_arms_on_all_data_pair_with_the_baseline_on_all_data(filled) -> None:
    filled.fill("full/baseline", {"test": wrong_at((0, 0))}, record={"treatment": {}, "trains": True})
    filled.fill("full/prune-0.9", {"test": wrong_at((0, 0), (0, 1))}, made_from="full/baseline")
    summary = impact_section(Record(filled.store)).to_dict()
    assert list(summary["arms"]) == ["full/prune-0.9", "prune-0.9"]
    arm = summary["arms"]["full/prune-0.9"]
    assert (arm["data"], arm["base"], arm["overall"]["drop"]) == ("full", {"full/baseline": 2}, pytest.approx(1 / 16))
    assert "trained on every example" in arm["by_memorization"]["slope"]["reason"]


def test_arms_on_all_data_need_theirs(filled) -> None:
    filled.fill("full/dpsgd-eps3", {"test": right(2)})
    summary = impact_section(Record(filled.store)).to_dict()
    arm = summary["arms"]["full/dpsgd-eps3"]
    assert arm["status"] == "unavailable"
    assert "full/baseline" in arm["reason"]
    assert impact_section(Record(filled.store)).arms == ("prune-0.9",)


def test_on_the_training_split_only_models_without_the_example_are_judged(tmp_path) -> None:
    known = TreatedStore(tmp_path, {"train": np.arange(60) % 3})
    mask = known.plan.masks(range(4))
    known.fill("baseline", {"train": right(4, 60)})
    known.fill("in", {"train": ~mask})  # wrong where the example was in
    known.fill("out", {"train": mask})
    known.fill("full/baseline", {"train": right(4, 60)}).fill("full/out", {"train": right(4, 60)})
    summary = impact_section(Record(known.store)).to_dict()
    assert summary["split"]["judged_by"] == "models without the example"
    assert summary["arms"]["in"]["overall"]["drop"] == 0
    assert summary["arms"]["out"]["overall"]["drop"] == 1
    never_out = int(mask.all(axis=0).sum())
    assert never_out > 0
    assert summary["arms"]["out"]["overall"]["n"] == 60 - never_out
    assert summary["arms"]["out"]["overall"]["n_missing"] == never_out
    assert "different examples" in summary["arms"]["out"]["hooker"]["reason"]
    assert summary["arms"]["out"]["exemplars"]["n_exemplars"] == 60 - never_out
    assert summary["arms"]["in"]["exemplars"]["n_exemplars"] == 0
    assert "no other split" in summary["arms"]["full/out"]["reason"]


def test_a_validation_split_is_named_as_what_it_is(tmp_path) -> None:
    known = TreatedStore(tmp_path, {"train": np.arange(12) % 3, "val": np.arange(8) % 2})
    known.fill("baseline", {"val": right(2)}).fill("prune-0.9", {"val": right(2)}, made_from="baseline")
    split = impact_section(Record(known.store)).to_dict()["split"]
    assert (split["name"], split["kind"], split["n"], split["not_used"]) == ("val", "validation", 8, ["train"])


def test_without_a_treated_arm_the_message_says_what_to_pass(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS).fill("baseline", {"test": right(2)}).fill("rebuilt", {"test": right(2)})
    with pytest.raises(MissingDataError, match="pass treatments="):
        impact_section(Record(known.store))


def test_sequences_without_labels_have_drops_and_reasons(tmp_path) -> None:
    known = TreatedStore(tmp_path, {"train": np.full(12, -1), "test": np.full(8, -1)})
    none = {"test": np.full((2, 8), -1)}
    share = np.full((2, 8), 0.75, dtype=np.float32)
    known.fill("baseline", {"train": np.ones((2, 12), np.float32), "test": share}, prediction=none)
    half = {"train": np.ones((2, 12), np.float32), "test": share - 0.25}
    known.fill("quantize-int8", half, prediction=none, made_from="baseline")
    arm = arm_of(known, "quantize-int8")
    assert arm["overall"]["drop"] == pytest.approx(0.25)
    assert arm["by_group"] == {}
    assert "no class labels" in arm["hooker"]["reason"]
    assert "no single prediction" in arm["exemplars"]["reason"]
    assert "shares of tokens" in arm["calibration"]["reason"]
    assert "no grouping has two groups" in arm["who_pays"]["sentence"]


def test_diverged_models_are_counted(filled, tmp_path) -> None:
    gone = {"margin": {"test": np.full((1, 8), np.nan)}, "loss": {"test": np.full((1, 8), np.nan)}}
    filled.fill("dpsgd-eps1", {"test": ~right(1)}, prediction={"test": np.full((1, 8), -1)}, **gone)
    arm = arm_of(filled, "dpsgd-eps1")
    assert arm["n_diverged"] == {"base": 0, "treated": 1}
    assert (arm["overall"]["drop"], arm["overall"]["loss"]["rise"]) == (1, None)
    assert arm["overall"]["loss"]["n_cells_not_finite"] == 8
    assert arm["exemplars"]["n_exemplars"] == 8


def test_frames_have_one_row_per_arm_and_group(filled, monkeypatch: pytest.MonkeyPatch) -> None:
    result = impact_section(Record(filled.store))
    frame = result.to_frame()
    assert len(frame["drop"]) == 1 + 3 + 3 + 1  # overall, labels, races, x
    monkeypatch.setitem(sys.modules, "pandas", None)
    plain = result.to_frame()
    assert isinstance(plain, dict)
    assert plain["group"][:2] == ["all", "0"]
    assert plain["loss_rise"][0] == pytest.approx(3 * 1.9 / 16)


def test_plots_draw_the_arm_that_is_asked_for(filled) -> None:
    result = impact_section(Record(filled.store))
    names = [text.get_text() for text in result.plot().get_yticklabels()]
    assert names[-1] == "one: x (n = 8)"
    assert "race: b (n = 4)" in names
    assert len(names) == 5  # no group without examples
    assert "cannot be said" in result.plot_memorization(arm="prune-0.9").texts[0].get_text()
    with pytest.raises(ArgumentError, match="prune-0\\.9 to draw"):
        result.plot(arm="prune-0.8")
