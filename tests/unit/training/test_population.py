"""A population is what it was when it was prepared, whoever trains its models."""

from __future__ import annotations

import logging
from dataclasses import FrozenInstanceError

import pytest

from lightning_memaudit import OutcomeStore
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.training.engines.choice import ChosenEngine
from lightning_memaudit.training.executors import Ensemble
from lightning_memaudit.training.factories import data_factory, model_factory, trainer_recipe
from lightning_memaudit.training.population import Population, Recipe, prepare_population, silenced
from lightning_memaudit.training.run import Run
from tests.helpers import zoo
from tests.helpers.engines import PLAN, probed


class Counted(zoo.Data):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.setups = self.reads = 0

    def setup(self, stage: str | None = None) -> None:
        self.setups += 1

    def test_dataloader(self):
        self.reads += 1
        return super().test_dataloader()


def prepared(data: object = zoo.Data, **options: object) -> Population:
    trainer = trainer_recipe({"max_epochs": 1, "accelerator": "cpu"})
    return prepare_population(Recipe(model_factory(zoo.Net, None), data_factory(data), trainer, **options), 3)


@pytest.mark.parametrize("thing", [prepared(), Run(prepared(), PLAN, OutcomeStore("memory://frozen"))])
def test_nothing_of_it_can_be_set(thing) -> None:
    for name in thing.__dataclass_fields__:
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)


def test_training_leaves_it_as_it_was() -> None:
    people = prepared()
    before = {name: getattr(people, name) for name in people.__dataclass_fields__}
    run = probed(Run(people, PLAN, OutcomeStore("memory://unchanged")))
    assert sorted(Ensemble().train(run, [0, 1], ChosenEngine())) == [0, 1]
    for name, value in before.items():
        assert getattr(people, name) is value
    run.store.storage.clear()


def test_data_are_set_up_once_for_all_arms_and_given_on_as_they_were() -> None:
    data = Counted()
    people = prepared(data)
    other = people.of_arm(arm="prune-0.5")
    assert data.setups == 1
    assert other.source is people.source
    assert (people.recipe.arm, other.recipe.arm, other.given.arm) == ("baseline", "prune-0.5", "prune-0.5")
    assert people.given.data().setups == 0  # for another process to set up
    assert people.given.data().trainer is None


def test_examples_are_read_once_and_anew_where_others_are_asked_for() -> None:
    people = prepared(Counted())
    examples = people.examples()
    assert set(examples) == {"train", "test"}
    assert people.examples() is examples
    assert people.of_arm(arm="a").examples() is examples
    assert set(people.of_arm(splits=["train"]).examples()) == {"train"}
    assert set(people.of_arm(groups={"kind": "label"}).examples()["train"].groups) == {"kind"}
    assert people.examples()["train"].groups == {}


def test_a_callable_that_gives_the_same_module_is_named() -> None:
    net = zoo.Net()

    def same() -> zoo.Net:
        return net

    trainer = trainer_recipe({"max_epochs": 1})
    with pytest.raises(ConfigurationError, match=r"model=.*: it returns the same module .*init='copy'"):
        prepare_population(Recipe(same, data_factory(zoo.Data), trainer), 0)


def test_lightning_is_silent_for_as_long_as_it_was_asked_to_be() -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with silenced():
        assert logger.level == logging.ERROR
    with pytest.raises(KeyError), silenced():
        raise KeyError
    assert logger.level == before
