"""Treatments as users write them."""

import copy

import numpy as np
import pytest
import torch

from lightning_memaudit import Audit
from lightning_memaudit.exceptions import ConfigurationError, MismatchError
from lightning_memaudit.treatments import Treatment
from tests.helpers import zoo
from tests.helpers.treatments import Answers, Decayed, Rounded

TRAINER = {"max_epochs": 2, "accelerator": "cpu"}


NOTEBOOK = """
class Sharper(Treatment):
    name = "sharper"
    by = 2.0
    transform = lambda self, pl_module: scaled(pl_module, self.by)

def scaled(pl_module, by):
    copied = copy.deepcopy(pl_module)
    copied.net[2].weight.data *= by
    return copied
"""


def audit(store, *treatments, executor="sequential", **options):
    settings = {"n_models": 2, "n_treated_models": 2, "trainer": TRAINER, "model": zoo.Net, "data": zoo.Data}
    return Audit(**settings | options, store=store, executor=executor, treatments=treatments)


def test_a_treatment_in_a_file(tmp_path):
    store = audit(tmp_path, Rounded(decimals=0)).train(progress=False)
    assert store.treatments() == ["baseline", "rounded"]
    assert store.arm("rounded").treatment == {
        "class": f"{Rounded.__module__}.Rounded",
        "decimals": 0,
        "name": "rounded",
    }
    base, rounded = store.load(), store.load("rounded")
    assert rounded.made_from == ("baseline", "baseline")
    assert not np.array_equal(base.margin, rounded.margin)


def test_a_treatment_in_a_notebook(tmp_path):
    cell = {"__name__": "__main__", "Treatment": Treatment, "copy": copy}
    exec(NOTEBOOK, cell)
    store = audit(tmp_path, cell["Sharper"]()).train(progress=False)
    base, sharper = store.load(split="test"), store.load("sharper", split="test")
    assert np.abs(sharper.margin).mean() > 1.3 * np.abs(base.margin).mean()
    assert store.arm("sharper").treatment["class"] == "__main__.Sharper"


def test_a_plain_class_that_trains(tmp_path):
    store = audit(tmp_path, Decayed()).train(progress=False)
    arm = store.arm("decayed")
    assert arm.trains
    assert arm.treatment == {"class": f"{Decayed.__module__}.Decayed", "factor": 0.5, "name": "decayed"}
    assert store.load("decayed").made_from == ("", "")
    assert np.abs(store.load("decayed").margin).mean() < np.abs(store.load().margin).mean()


def test_what_a_plain_class_holds_tells_treatments_apart(tmp_path):
    audit(tmp_path, Decayed()).train(progress=False)
    with pytest.raises(MismatchError, match=r"treatment\.factor: 0\.5 there, 0\.25 here"):
        audit(tmp_path, Decayed(0.25)).train(progress=False)


def test_an_object_that_answers_is_one(tmp_path):
    store = audit(tmp_path, Answers()).train(progress=False)
    assert store.arm("answers").privacy == {"epsilon": 1.5, "steps": 3}
    np.testing.assert_array_equal(store.load("answers").margin, store.load().margin)


def test_a_copy_of_the_module_has_no_trainer_in_it(tmp_path):
    class Looks(Treatment):
        name = "looks"

        def transform(self, pl_module):
            assert pl_module._trainer is None
            return copy.deepcopy(pl_module)

    audit(tmp_path, Looks()).train(progress=False)


@pytest.mark.parametrize("given", [None, torch.nn.Linear(1, 1)])
def test_a_transform_that_gives_no_module_is_named_before_anything_is_trained(tmp_path, given):
    class Forgets(Treatment):
        name = "forgets"

        def transform(self, pl_module):
            return given

    with pytest.raises(ConfigurationError, match=rf"'forgets': transform must .* {type(given).__name__}"):
        audit(tmp_path, Forgets()).train(progress=False)
    assert not list((tmp_path / "outcomes").rglob("*.npz"))
