"""What every treatment keeps to: those of the package and those that users write go through one table."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

import lightning_memaudit.treatments as treatments_module
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.outcomes.arms import BASELINE, Arm, check_arm_name
from lightning_memaudit.outcomes.identity import canonical
from lightning_memaudit.treatments import DPSGD, Baseline, ClipOnly, Prune, Quantize, Regime, Treatment, Tunable
from tests.helpers import zoo
from tests.helpers.treatments import Answers, Decayed, Rounded

if TYPE_CHECKING:
    from collections.abc import Callable

REGIME = Regime(n_examples=700, steps_per_epoch=11, max_epochs=20)
PRIVACY = {"epsilon", "delta", "noise_multiplier", "max_grad_norm", "sample_rate", "steps", "n_examples"}


@dataclass(frozen=True)
class Case:
    """A treatment, and what a store and a report must hear of it.

    Attributes:
        make: Makes the treatment.
        name: Of its arm.
        kind: What becomes of models: ``transformed``, ``continued`` (trained on from the baseline model) or ``anew``.
        changes: Whether ``transform`` gives another model than it gets.
        epochs: The epochs that it asks for; None for the baseline's.
        privacy: What it promises.
    """

    make: Callable[[], Any]
    name: str
    kind: str = "transformed"
    changes: bool = True
    epochs: int | None = None
    privacy: frozenset[str] = frozenset()


CASES = [
    Case(Baseline, "baseline", "anew", changes=False),
    Case(lambda: Prune(0.9), "prune-0.9"),
    Case(lambda: Prune(0.5, scope="layer"), "prune-0.5"),
    Case(lambda: Prune(0.5, scope="layer", structured=True), "prune-0.5-structured"),
    Case(lambda: Prune(0.9, finetune_epochs=2), "prune-0.9-finetune2", "continued", changes=False, epochs=2),
    Case(
        lambda: Prune(0.5, scope="layer", structured=True, finetune_epochs=1),
        "prune-0.5-structured-finetune1",
        "continued",
        changes=False,
        epochs=1,
    ),
    Case(lambda: Prune(0.25, name="mine"), "mine"),
    Case(Quantize, "quantize-int8"),
    Case(ClipOnly, "clip-only", "anew", changes=False),
    Case(lambda: ClipOnly(lr=0.5, max_epochs=30), "clip-only", "anew", changes=False, epochs=30),
    Case(lambda: DPSGD(target_epsilon=3.0), "dpsgd-eps3", "anew", changes=False, privacy=frozenset(PRIVACY)),
    Case(
        lambda: DPSGD(noise_multiplier=1.5, lr=0.1, max_epochs=7, grad_sample_mode="ghost"),
        "dpsgd-noise1.5",
        "anew",
        changes=False,
        epochs=7,
        privacy=frozenset(PRIVACY),
    ),
    Case(Rounded, "rounded"),
    Case(Decayed, "decayed", "anew", changes=False, epochs=21),
    Case(Answers, "answers", changes=False, privacy=frozenset({"epsilon", "steps"})),
]
every_treatment = pytest.mark.parametrize("case", CASES, ids=lambda case: repr(canonical(case.make()))[:70])


def trained_module() -> Any:
    """A module that has a Trainer, as one has that was just trained."""
    torch.manual_seed(0)
    module = zoo.Net()
    module.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    return module


def described(treatment: Any) -> dict[str, Any]:
    """What of a treatment a store records, where it is a dataclass, and tells apart from others of its class."""
    found = canonical(treatment)
    return found if isinstance(found, dict) else {"class": found, **canonical(getattr(treatment, "__dict__", {}))}


def test_the_table_is_complete() -> None:
    public = {getattr(treatments_module, name) for name in treatments_module.__all__} - {Treatment, Regime, Tunable}
    assert public <= {type(case.make()) for case in CASES}


@every_treatment
def test_it_is_a_treatment_of_this_name(case: Case) -> None:
    treatment = case.make()
    assert isinstance(treatment, Treatment)
    assert treatment.name == case.name
    if case.name == BASELINE:
        with pytest.raises(ArgumentError, match="is taken"):
            check_arm_name(treatment.name)
    else:
        check_arm_name(treatment.name)


@every_treatment
def test_it_says_how_its_models_come_about(case: Case) -> None:
    treatment = case.make()
    assert treatment.trains is (case.kind != "transformed")
    assert treatment.starts_trained is (case.kind != "anew")


@every_treatment
def test_training_arguments_and_callbacks_are_fresh_and_only_for_models_that_are_trained(case: Case) -> None:
    treatment = case.make()
    arguments = dict(treatment.trainer_arguments(REGIME))
    assert arguments == ({} if case.epochs is None else {"max_epochs": case.epochs})
    assert set(arguments) <= set(signature(Trainer).parameters)
    first, second = (list(treatment.callbacks(REGIME)) for _ in range(2))
    assert all(isinstance(callback, Callback) for callback in first)
    assert [type(callback) for callback in first] == [type(callback) for callback in second]
    assert not {id(callback) for callback in first} & {id(callback) for callback in second}
    if case.kind == "transformed":
        assert first == []


@every_treatment
def test_it_acts_on_a_copy_and_the_module_stays_bit_for_bit(case: Case) -> None:
    treatment, module = case.make(), trained_module()
    trainer, training = module.trainer, module.training
    before = copy.deepcopy(module.state_dict())
    made = treatment.transform(module)
    assert isinstance(made, LightningModule)
    assert (made is module) is not case.changes
    assert (module.trainer, module.training) == (trainer, training)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    if case.changes:
        inputs = zoo.examples()[0]
        with torch.no_grad():
            assert not torch.equal(made.eval()(inputs), module.eval()(inputs))
    if case.changes and isinstance(treatment, Prune | Quantize):
        assert made._trainer is None
    if case.changes and isinstance(treatment, Prune | Rounded):
        assert not {tensor.data_ptr() for tensor in made.parameters()} & {t.data_ptr() for t in module.parameters()}


@every_treatment
def test_the_same_model_is_made_each_time(case: Case) -> None:
    module, inputs = trained_module(), zoo.examples()[0]
    with torch.no_grad():
        first, second = (case.make().transform(module).eval()(inputs) for _ in range(2))
    assert torch.equal(first, second)


@every_treatment
def test_what_it_promises_is_plain_and_complete(case: Case) -> None:
    promised = case.make().privacy(REGIME)
    assert set(promised or ()) == case.privacy
    if promised is None:
        return
    plain = canonical(promised)
    assert json.loads(json.dumps(plain)) == plain
    assert all(isinstance(value, int | float) and value > 0 for value in plain.values())


@every_treatment
def test_its_record_is_json_that_tells_every_option(case: Case) -> None:
    treatment = case.make()
    record = described(treatment)
    assert record["class"] == f"{type(treatment).__module__}.{type(treatment).__name__}"
    if is_dataclass(treatment):
        assert set(record) == {"class", *(field.name for field in fields(treatment))}
    arm = Arm(treatment.name, record, treatment.trains, privacy=canonical(treatment.privacy(REGIME)))
    assert Arm.from_json(arm.to_json(), path="arm.json") == arm


def test_records_of_different_treatments_differ() -> None:
    records = [json.dumps(described(case.make()), sort_keys=True) for case in CASES]
    assert len(set(records)) == len(records)


@every_treatment
@pytest.mark.parametrize("library", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_it_goes_to_other_processes(case: Case, library: Any) -> None:
    treatment = case.make()
    back = pickle.loads(library.dumps(treatment))
    assert (back.name, described(back)) == (treatment.name, described(treatment))
    if is_dataclass(treatment):
        assert back == treatment
        assert hash(back) == hash(treatment)


@every_treatment
def test_those_of_the_package_are_frozen_and_say_their_options(case: Case) -> None:
    treatment = case.make()
    if not type(treatment).__module__.startswith("lightning_memaudit."):
        return
    with pytest.raises(FrozenInstanceError):
        treatment.name = "other"
    for field in fields(treatment):
        assert not field.repr or f"{field.name}={getattr(treatment, field.name)!r}" in repr(treatment)


def test_defaults_are_those_of_a_transform_of_trained_models() -> None:
    class Named(Treatment):
        name = "named"

    module, named = zoo.Net(), Named()
    assert (named.trains, named.starts_trained) == (False, True)
    assert dict(named.trainer_arguments(REGIME)) == {}
    assert list(named.callbacks(REGIME)) == []
    assert named.transform(module) is module
    assert named.privacy(REGIME) is None
