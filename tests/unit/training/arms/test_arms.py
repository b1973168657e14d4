import re

import numpy as np
import pytest

from lightning_memaudit import Audit, OutcomeStore, SubsetPlan
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.training.arms.arms import Arms, checked_treatments, regime_of, to_keep
from lightning_memaudit.training.run import Length
from lightning_memaudit.treatments import DPSGD, Baseline, ClipOnly, Prune, Quantize, Regime, Treatment
from tests.helpers import zoo

N = 1000
PLANS = {
    "fixed size": (SubsetPlan(N, subset_fraction=0.7), 700),
    "paired": (SubsetPlan(N, subset_fraction=0.5, design="paired"), 500),
    "paired, odd": (SubsetPlan(N + 1, subset_fraction=0.5, design="paired"), 500),
    "bernoulli": (SubsetPlan(N, subset_fraction=0.3, design="bernoulli"), 300),
    "stratified": (SubsetPlan(N, subset_fraction=0.55, design="stratified", strata=np.arange(N) // 10), 600),
    "canaries": (SubsetPlan(N, design="canaries", canaries=np.arange(100)), 950),
    "canaries in units": (SubsetPlan(N, design="canaries", canaries=[0, 10], units=np.arange(N) // 10), 990),
    "equal units": (SubsetPlan(N, subset_fraction=0.7, units=np.arange(N) // 10), 700),
    "unequal units": (SubsetPlan(N, subset_fraction=0.5, units=np.maximum(np.arange(N) - 900, 0)), 500),
    "all data": (SubsetPlan(N, subset_fraction=0.3, design="bernoulli").complete(), N),
}


class Unnamed(Treatment):
    pass


@pytest.mark.parametrize("kind", PLANS)
def test_the_regime_follows_from_the_plan(kind):
    plan, expected = PLANS[kind]
    regime = regime_of(plan, Length(batches=30, batches_per_epoch=10, max_steps=None))
    assert regime == Regime(expected, steps_per_epoch=10, max_epochs=3)


@pytest.mark.parametrize("kind", ["bernoulli", "canaries", "canaries in units", "paired, odd"])
def test_the_size_of_a_subset_is_that_of_many_subsets_on_average(kind):
    plan, expected = PLANS[kind]
    sizes = np.array([plan.mask(k).sum() for k in range(200)])
    assert abs(sizes.mean() - expected) < 5 * sizes.std() / np.sqrt(len(sizes)) + 0.5


def test_steps_end_where_the_trainer_ends():
    plan, _ = PLANS["fixed size"]
    regime = regime_of(plan, Length(batches=25, batches_per_epoch=10, max_steps=25))
    assert regime == Regime(700, steps_per_epoch=10, max_epochs=3, max_steps=25)
    for private in (ClipOnly(), ClipOnly(max_epochs=30), DPSGD(noise_multiplier=1.0)):
        assert private.callbacks(regime)[-1].steps == 25
    assert ClipOnly(max_epochs=2).callbacks(regime)[0].steps == 20
    assert DPSGD(noise_multiplier=1.0).privacy(regime)["steps"] == 25


@pytest.mark.parametrize("length", [Length(None, 10), Length(30, None), Length(0, 0)])
def test_training_without_a_fixed_length(length):
    with pytest.raises(ConfigurationError, match=r"treatments: .* no fixed length .*set max_epochs"):
        regime_of(PLANS["fixed size"][0], length)


def test_treatments_come_as_they_are_given():
    prune, clip = Prune(0.5), ClipOnly()
    assert checked_treatments([prune, clip]) == (prune, clip)
    assert checked_treatments(iter([clip])) == (clip,)
    assert checked_treatments(prune) == (prune,)
    assert checked_treatments([Baseline(), prune]) == (prune,)
    assert checked_treatments(()) == ()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (Prune, "treatments=<class 'lightning_memaudit.treatments.prune.Prune'>: a treatment is needed, an instance"),
        ([Quantize], "quantize.Quantize'>: a treatment is needed"),
        (["prune"], "treatments='prune': a treatment is needed"),
        ("prune", "treatments='prune': a treatment is needed"),
        (None, "treatments=None: a treatment is needed"),
        (3, "treatments=3: a treatment is needed"),
        ([zoo.Net()], "treatments=Net("),
        ([Prune(0.5), Prune(0.5)], "name='prune-0.5': two treatments have this name; give one of them another"),
        ([Prune(0.5, name="a"), ClipOnly(name="a")], "name='a': two treatments"),
        ([Prune(0.5, name="baseline")], "name='baseline': another name is needed"),
        ([ClipOnly(name="rebuilt")], "name='rebuilt': another name is needed"),
        ([ClipOnly(name="full")], "name='full': another name is needed"),
        ([Prune(0.5, name="a/b")], "name='a/b': letters, digits"),
        ([Unnamed()], "name=None: letters, digits"),
    ],
)
def test_what_is_no_treatment_or_has_no_name_of_its_own(given, named):
    with pytest.raises(ArgumentError, match=re.escape(named)):
        checked_treatments(given)
    with pytest.raises(ArgumentError, match=re.escape(named)):
        Audit(zoo.Net, zoo.Data, treatments=given)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"n_treated_models": 0}, "n_treated_models.*a whole number of at least 1"),
        ({"n_treated_models": 2.5}, "n_treated_models"),
        ({"n_treated_models": True}, "n_treated_models"),
        ({"impact_on": "x"}, "impact_on='x': 'subset' or 'full' is needed"),
        ({"impact_on": None}, "impact_on=None"),
    ],
)
def test_options_out_of_range(option, named):
    with pytest.raises(ArgumentError, match=named):
        Audit(zoo.Net, zoo.Data, treatments=[Prune(0.5)], **option)


def test_weights_are_kept_for_models_that_an_arm_still_lacks(tmp_path, monkeypatch):
    store = OutcomeStore(tmp_path)
    there = {("prune-0.5", 0), ("prune-0.5", 1), ("quantize-int8", 0)}
    monkeypatch.setattr(store, "has", lambda model_id, name: (name, model_id) in there)
    both = (Prune(0.5), Quantize(), ClipOnly())
    assert to_keep(store, Arms(both, (0, 1, 2), on_full_data=False, keep_weights=False)) == {1, 2}
    assert to_keep(store, Arms(both[:1], (0, 1), on_full_data=False, keep_weights=False)) == set()
    assert to_keep(store, Arms(both[:1], (0, 1), on_full_data=False, keep_weights=True)) == {0, 1}
    assert to_keep(store, Arms(both[2:], (0, 1, 2), on_full_data=False, keep_weights=False)) == set()
