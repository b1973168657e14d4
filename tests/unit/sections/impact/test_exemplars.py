import json
from pathlib import Path

import numpy as np
import pytest

from lightning_memaudit.record import Record
from lightning_memaudit.sections.impact import impact_section
from lightning_memaudit.sections.impact.exemplars import VoteCount
from tests.helpers.treated import TreatedStore

HOOKER = json.loads((Path(__file__).parents[3] / "golden" / "hooker.json").read_text())


def test_exemplars_are_those_of_the_golden_predictions(tmp_path) -> None:
    golden = HOOKER["pie"]
    labels, base, treated = (np.array(golden[key]) for key in ("y", "preds_base", "preds_comp"))
    known = TreatedStore(tmp_path, {"train": np.arange(12) % 4, "test": labels}, n_classes=4)
    known.fill("baseline", {"test": base == labels}, prediction={"test": base})
    known.fill("prune-0.9", {"test": treated == labels}, prediction={"test": treated}, made_from="baseline")
    pie = impact_section(Record(known.store)).to_dict()["arms"]["prune-0.9"]["exemplars"]
    assert pie["n_exemplars"] == sum(golden["pie_mask_tie_max"])
    assert pie["n_if_smallest"] == sum(golden["pie_mask_tie_min"])
    assert (pie["tie_rule"], pie["n"], pie["n_models"]) == ("largest", 40, 9)
    assert pie["taxicab"]["mean"] == pytest.approx(np.mean(golden["taxicab"]))
    assert {row["index"] for row in pie["top"]} == set(np.flatnonzero(golden["pie_mask_tie_max"]).tolist())
    first = pie["top"][0]
    i = first["index"]
    assert golden["taxicab"][i] == max(np.array(golden["taxicab"])[np.array(golden["pie_mask_tie_max"]) == 1])
    assert (first["label"], first["base"]) == (golden["y"][i], golden["modal_base_tie_max"][i])
    assert first["base_votes"] == {str(v): int((base[:, i] == v).sum()) for v in np.unique(base[:, i])}
    by_label = {row["group"]: row["n_exemplars"] for row in pie["by_group"]["label"]}
    assert by_label == {
        str(label): int(np.array(golden["pie_mask_tie_max"])[labels == label].sum()) for label in range(4)
    }


def test_only_judged_models_vote_whatever_their_number(tmp_path) -> None:
    known = TreatedStore(tmp_path, {"train": np.arange(40) % 3})
    rng = np.random.default_rng(0)
    mask = known.plan.masks(range(6))
    base, treated = rng.integers(0, 3, (2, 6, 40))
    known.fill("baseline", {"train": base == 0}, prediction={"train": base})
    known.fill("prune-0.9", {"train": treated == 0}, prediction={"train": treated}, made_from="baseline")
    seen = Record(known.store, block_examples=16).result(VoteCount("prune-0.9", "train"))
    for i in range(40):
        counts = [np.bincount(side[~mask[:, i], i], minlength=3) for side in (base, treated)]
        if not counts[0].sum():
            assert not seen.judged[i]
            assert not seen.exemplar[i]
            continue
        modes = [2 - int(count[::-1].argmax()) for count in counts]
        assert seen.exemplar[i] == (modes[0] != modes[1])
        assert [seen.base_mode[i], seen.treated_mode[i]] == modes
        shares = [count / count.sum() for count in counts]
        assert seen.taxicab[i] == pytest.approx(np.abs(shares[0] - shares[1]).sum())


@pytest.mark.parametrize("form", ["per_model", "population_mean"])
def test_the_test_of_hooker_gives_the_golden_values(tmp_path, form) -> None:
    given = HOOKER["input"]
    labels = np.repeat(np.arange(given["C"]), given["N_per_class"])
    within = np.tile(np.arange(given["N_per_class"]), given["C"])
    known = TreatedStore(tmp_path, {"train": np.arange(12) % 8, "test": labels}, n_classes=8)
    for arm, key in (("baseline", "correct_base"), ("dpsgd-eps3", "correct_comp")):
        known.fill(arm, {"test": within < np.array(given[key])[:, labels]})
    rows = impact_section(Record(known.store)).to_dict()["arms"]["dpsgd-eps3"]["hooker"][form]
    for row, expected in zip(rows, HOOKER[form]["classes"], strict=True):
        assert row["label"] == str(expected["cls"])
        assert [row["t"], row["df"], row["p"], row["relative_drop"], row["low"], row["high"], row["p_holm"]] == (
            pytest.approx(
                [
                    expected["t"],
                    expected["df"],
                    expected["p"],
                    expected["rel_drop"],
                    *expected["ci"],
                    expected["p_holm"],
                ],
                abs=1e-9,
            )
        )
