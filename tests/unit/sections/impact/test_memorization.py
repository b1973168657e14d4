"""Training examples whose memorization is known: the first ten are right only in models that trained on them."""

import numpy as np
import pytest

from lightning_memaudit.record import Record
from lightning_memaudit.sections.impact import impact_section
from lightning_memaudit.sections.impact.memorization import free_models
from tests.helpers.treated import TreatedStore

N, N_MEMORIZED = 100, 10
LABELS = {"train": np.arange(N) % 2, "test": np.arange(40) % 2}


def filled(url, n_models=60, n_treated=10, **options):
    """Memorized examples cannot lose; of the others models without them lose every second one."""
    known = TreatedStore(url, LABELS, **options)
    mask = known.plan.masks(range(n_models))
    memorized = np.arange(N) < N_MEMORIZED
    base = np.where(memorized, mask, True)
    even = (np.arange(n_models)[:, None] + np.arange(N)) % 2 == 0
    treated = base & (mask | memorized | even)
    # test example j < 4 is right where its training example j is in, and treated models lose just these
    test = np.ones((n_models, 40), dtype=bool)
    test[:, :4] = mask[:, :4]
    lost = test.copy()
    lost[:, :4] = False
    known.fill("baseline", {"train": base, "test": test})
    known.fill("prune-0.9", {"train": treated[:n_treated], "test": lost[:n_treated]}, made_from="baseline")
    return known


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return impact_section(Record(filled(tmp_path_factory.mktemp("memorized")).store)).to_dict()


def test_the_slope_is_what_was_put_in(summary) -> None:
    slope = summary["arms"]["prune-0.9"]["by_memorization"]["slope"]
    assert slope["status"] == "ok"
    assert slope["slope"] == pytest.approx(-0.5, abs=0.05)
    assert slope["low"] < slope["slope"] < slope["high"] < 0
    assert (slope["condition"], slope["n_treated"], slope["decided"]) == ("out", 10, True)
    assert not slope["weak_first_stage"]


def test_bins_show_who_loses(summary) -> None:
    bins = summary["arms"]["prune-0.9"]["by_memorization"]["bins"]
    lowest, *_, highest = bins["rows"]
    assert (lowest["from"], lowest["to"], highest["to"]) == (-1, 0.1, 1)
    assert lowest["n"] + lowest["n_missing"] == N - N_MEMORIZED
    assert lowest["drop"] == pytest.approx(0.5, abs=0.05)
    assert (highest["memorization"], highest["drop"]) == (1, 0)
    assert [row["n"] for row in bins["rows"][1:-1]] == [0, 0, 0]
    assert bins["rows"][1]["verdict"] == "no examples"


def test_odds_of_exemplars_have_memorization_from_other_models(summary) -> None:
    odds = summary["arms"]["prune-0.9"]["by_memorization"]["exemplar_odds"]
    assert odds["n_models_for_memorization"] == 50
    assert odds["rows"][-1]["n_exemplars"] == 0
    assert odds["rows"][0]["n_exemplars"] > 0
    assert odds["rows"][0]["n"] + odds["rows"][-1]["n"] + odds["n_unscored"] == N
    assert odds["rows"][1]["odds"] is None


def test_influence_mass_finds_what_rests_on_memorized_examples(tmp_path) -> None:
    summary = impact_section(Record(filled(tmp_path, n_models=310).store)).to_dict()
    mass = summary["influence_mass"]
    assert (mass["status"], mass["n_models"], mass["split"]) == ("ok", 300, "test")
    assert mass["n_pairs"] >= 4
    assert mass["false_discovery_rate"] <= 0.2
    rows = {row["mass"]: row for row in summary["arms"]["prune-0.9"]["by_influence_mass"]["rows"]}
    assert rows["above 0.5"]["n"] == 4
    assert rows["above 0.5"]["drop"] > 0.5
    assert (rows["none"]["n"], rows["none"]["drop"]) == (36, 0)
    label = {row["group"]: row for row in mass["by_group"]["label"]}
    assert label["0"]["share_with_mass"] == 2 / 20


def test_influence_that_may_be_chance_is_not_used(summary) -> None:
    mass = summary["influence_mass"]
    assert (mass["status"], mass["n_models"]) == ("unavailable", 50)
    assert mass["false_discovery_rate"] > 0.2
    assert mass["models_needed"] > 60
    assert "would be there with no influence at all at 50 models" in mass["reason"]


def test_numbers_of_models_that_do_not_allow_it_are_said(tmp_path) -> None:
    found = impact_section(Record(filled(tmp_path, n_models=5, n_treated=5).store)).to_dict()
    link = found["arms"]["prune-0.9"]["by_memorization"]
    for key in ("slope", "bins"):
        assert "there are 5 baseline models and 5 treated models; at least 6" in link[key]["reason"]
    assert "train at least 4 more baseline models" in link["exemplar_odds"]["reason"]
    assert "train at least 4 more baseline models" in found["influence_mass"]["reason"]
    assert found["arms"]["prune-0.9"]["by_influence_mass"]["reason"] == found["influence_mass"]["reason"]


def test_memorization_that_does_not_vary_has_no_slope(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS)
    same = {"train": np.ones((12, N), dtype=bool)}
    known.fill("baseline", same).fill("prune-0.9", {"train": same["train"][:6]}, made_from="baseline")
    slope = impact_section(Record(known.store)).to_dict()["arms"]["prune-0.9"]["by_memorization"]["slope"]
    assert (slope["status"], slope["slope"]) == ("unavailable", None)
    assert "does not vary" in slope["reason"]


def test_noise_alone_is_too_weak_and_says_how_many_models_would_do(tmp_path) -> None:
    known = TreatedStore(tmp_path, LABELS)
    train = np.random.default_rng(0).random((12, N)) < 0.5
    known.fill("baseline", {"train": train}).fill("prune-0.9", {"train": train[:6]}, made_from="baseline")
    slope = impact_section(Record(known.store)).to_dict()["arms"]["prune-0.9"]["by_memorization"]["slope"]
    assert slope["status"] == "unavailable"
    assert "too poorly" in slope["reason"] or "does not vary" in slope["reason"]


def test_pairs_of_models_stay_together(tmp_path) -> None:
    known = filled(tmp_path, n_models=40, n_treated=5, design="paired")
    baseline = known.store.load(fields=())
    free = free_models(baseline, {0, 1, 2, 3, 4})
    assert np.flatnonzero(~free).tolist() == [0, 1, 2, 3, 4, 5]  # model 5 is the complement of model 4
    odds = impact_section(Record(known.store)).to_dict()["arms"]["prune-0.9"]["by_memorization"]["exemplar_odds"]
    assert odds["n_models_for_memorization"] == 34
