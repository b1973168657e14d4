import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_memaudit import OutcomeStore
from lightning_memaudit.exceptions import ArgumentError, CorruptShardError, MismatchError
from lightning_memaudit.outcomes.arms import Arm, check_arm_name

ARM = Arm(
    "dpsgd-eps3",
    {"class": "project.DPSGD", "target_epsilon": 3.0, "lr": None, "options": {"mode": "hooks"}},
    trains=True,
    regime={"n_examples": 700, "steps_per_epoch": 11, "max_epochs": 20, "max_steps": None},
    privacy={"epsilon": 2.9987654321, "delta": 1e-5},
)


@pytest.fixture
def store(place) -> OutcomeStore:
    return OutcomeStore(place)


def test_the_record_comes_back(store):
    assert store.arm("dpsgd-eps3") is None
    store.open_arm(ARM)
    store.open_arm(ARM)
    assert store.arm("dpsgd-eps3") == ARM
    assert json.loads(store.storage.read("outcomes/dpsgd-eps3/arm.json"))["privacy"]["epsilon"] == 2.9987654321


def test_the_name_says_which_data_its_models_saw():
    assert ARM.data == "subset"
    assert replace(ARM, name="full/dpsgd-eps3").data == "full"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"treatment": {**ARM.treatment, "lr": 0.5}}, "treatment.lr: None there, 0.5 here"),
        ({"treatment": {**ARM.treatment, "class": "other.DPSGD"}}, "treatment.class: 'project.DPSGD' there"),
        ({"treatment": {**ARM.treatment, "options": {"mode": "ghost"}}}, "treatment.options.mode: 'hooks' there"),
        ({"treatment": {"class": "project.DPSGD"}}, "treatment.target_epsilon: 3.0 there, None here"),
        ({"trains": False}, "trains: True there, False here"),
        ({"regime": {**ARM.regime, "max_epochs": 21}}, "regime.max_epochs: 20 there, 21 here"),
        ({"privacy": {"epsilon": 2.9, "delta": 1e-5}}, "privacy.epsilon: 2.9987654321 there, 2.9 here"),
        ({"privacy": None}, "privacy.delta: 1e-05 there, None here"),
    ],
)
def test_another_treatment_of_the_same_name_is_refused(store, change, named):
    store.open_arm(ARM)
    for refuse in (store.open_arm, store.check_arm):
        with pytest.raises(MismatchError, match=r"'dpsgd-eps3' of another treatment .*name=.*--store NEW") as caught:
            refuse(replace(ARM, **change))
        assert named in str(caught.value)
        assert caught.value.exit_code == 4
    assert store.arm("dpsgd-eps3") == ARM


def test_what_differs_in_the_treatment_comes_first():
    other = replace(ARM, treatment={**ARM.treatment, "lr": 0.5}, privacy=None, regime={}, trains=False)
    with pytest.raises(MismatchError, match=r"another treatment \(treatment\.lr: None there, 0\.5 here; "):
        ARM.check(other, url="audits")


def test_the_last_bits_of_another_machine_are_no_other_treatment(store):
    store.open_arm(ARM)
    store.open_arm(replace(ARM, privacy={"epsilon": 2.9987654322, "delta": 1e-5}))
    with pytest.raises(MismatchError):
        store.check_arm(replace(ARM, privacy={"epsilon": 2.99877, "delta": 1e-5}))


def test_checking_records_nothing(store):
    store.check_arm(ARM)
    assert store.arm(ARM.name) is None


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"name": "x"}', b'{"name": "x", "unknown": 1}', b"\xff"])
def test_a_damaged_record_is_named(store, content):
    store.storage.write("outcomes/dpsgd-eps3/arm.json", content)
    with pytest.raises(CorruptShardError, match=r"dpsgd-eps3/arm\.json cannot be read .*run the audit again"):
        store.arm("dpsgd-eps3")


@pytest.mark.parametrize("name", ["dpsgd-eps3", "prune-0.9", "A", "a" * 80, "mine_2+x"])
def test_good_names(name):
    check_arm_name(name)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a b", "ä", "a" * 81, "a\n", None, 3])
def test_names_that_cannot_be_a_folder(name):
    with pytest.raises(ArgumentError, match=r"treatments: name=.* 80 at most"):
        check_arm_name(name)


@pytest.mark.parametrize("name", ["baseline", "rebuilt", "full"])
def test_names_that_mean_something_else(name):
    with pytest.raises(ArgumentError, match=f"name='{name}': another name is needed; this one is taken"):
        check_arm_name(name)


@given(st.text(st.characters(max_codepoint=255), max_size=9))
def test_a_name_that_passes_is_one_folder(name):
    try:
        check_arm_name(name)
    except ArgumentError:
        return
    assert not set(name) & set('/\\:*?"<>|\n\0 ')
    assert name not in {"", ".", ".."}


def test_weights_come_back_bit_for_bit_and_can_be_forgotten(store):
    state = {
        "w": torch.randn(3, 2),
        "half": torch.randn(4).half(),
        "n": torch.tensor(7),
        "p": torch.nn.Parameter(torch.ones(1)),
    }
    assert store.weights(5) is None
    store.write_weights(5, state)
    store.write_weights(5, {"w": torch.zeros(1)}, arm="full/rebuilt")
    found = store.weights(5)
    assert {name: tensor.dtype for name, tensor in found.items()} == {name: t.dtype for name, t in state.items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    store.remove_weights(5)
    assert not store.has_weights(5)
    assert store.has_weights(5, "full/rebuilt")
    store.remove_weights(5)


def test_damaged_weights_are_named(store):
    store.write_weights(5, {"w": torch.zeros(100)})
    content = store.storage.read("weights/baseline/000005.pt")
    store.storage.write("weights/baseline/000005.pt", content[:-40])
    with pytest.raises(CorruptShardError, match=r"weights/baseline/000005\.pt is damaged .*remove it and run again"):
        store.weights(5)


def test_a_pickle_is_never_run(store, tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"w": Evil()}, tmp_path / "evil.pt")
    store.storage.write("weights/baseline/000005.pt", (tmp_path / "evil.pt").read_bytes())
    with pytest.raises(CorruptShardError, match="UnpicklingError"):
        store.weights(5)
