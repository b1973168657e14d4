"""What ``groups=`` takes is resolved over all splits: one list of names, and groupings made of others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from lightning_memaudit.data.groups import (
    MISSING,
    Columns,
    Frequency,
    Grouping,
    Intersection,
    by_memorization,
    resolve,
    sample_keys,
)
from lightning_memaudit.exceptions import ArgumentError


def split(labels=None, keys=None, n=None, **attributes) -> Columns:
    known = [part for part in (labels, *(keys or {}).values(), *attributes.values()) if part is not None]
    size = len(known[0]) if n is None else n
    dataset = TensorDataset(torch.zeros(size, 1))
    for name, values in attributes.items():
        setattr(dataset, name, values)
    return Columns(dataset, size, None if labels is None else np.array(labels), keys or {})


def named(divided: dict[str, Grouping]) -> dict[str, list[str]]:
    return {split: [part.names[code] for code in part.codes] for split, part in divided.items()}


def people() -> dict[str, Columns]:
    return {
        "train": split([0, 1, 0, 1], race=["Black", "White", "White", None], sex=["F", "F", "M", "M"]),
        "val": split([1], race=["White"], sex=["F"]),
        "test": split([0, 1], race=["Black", "Other"], sex=["M", "F"]),
    }


def test_a_name_has_one_code_in_all_splits() -> None:
    groups = {"race": "race", "digit": "label", "given": {"train": [9, 10, 9, 9], "val": [100], "test": [2, 10]}}
    found = resolve(groups, people())
    assert {part.names for part in found["race"].values()} == {("Black", "Other", "White", MISSING)}
    assert [part.codes.tolist() for part in found["race"].values()] == [[0, 2, 2, 3], [2], [0, 1]]
    assert {part.names for part in found["given"].values()} == {("2", "9", "10", "100")}
    assert named(found["digit"]) == {"train": ["0", "1", "0", "1"], "val": ["1"], "test": ["0", "1"]}
    assert found["race"]["val"].codes.dtype == np.int64


def test_a_column_may_be_read_as_integers_in_one_split_and_as_floats_in_another() -> None:
    found = resolve({"site": "site"}, {"train": split(site=[1.0, float("nan")]), "test": split(site=[1, 2])})
    assert named(found["site"]) == {"train": ["1", MISSING], "test": ["1", "2"]}


def test_combinations_of_all_splits_are_listed_and_no_others() -> None:
    found = resolve({"both": Intersection("race", "sex"), "three": Intersection("race", "sex", "label")}, people())
    names = ("Black × F", "Black × M", "Other × F", "White × F", "White × M", f"{MISSING} × M")
    assert {part.names for part in found["both"].values()} == {names}
    assert named(found["both"]) == {
        "train": ["Black × F", "White × F", "White × M", f"{MISSING} × M"],
        "val": ["White × F"],
        "test": ["Black × M", "Other × F"],
    }
    assert named(found["three"])["test"] == ["Black × M × 0", "Other × F × 1"]


def test_parts_may_be_other_groupings_arrays_or_made_of_others() -> None:
    given = {"train": ["x", "y", "x", "x"], "val": ["y"], "test": ["x", "x"]}
    groups = {
        "site": given,
        "label": "sex",
        "by name": Intersection("site", "race"),
        "by array": Intersection(given, "race"),
        "the label": Intersection("label", "sex"),
        "rare": Frequency("site"),
        "nested": Intersection("rare", Intersection("race", "sex")),
    }
    found = resolve(groups, people())
    assert named(found["by name"]) == named(found["by array"])
    assert named(found["the label"])["test"] == ["0 × M", "1 × F"]  # the label, whatever a grouping is called
    assert named(found["nested"])["test"] == ["head × Black × M", "head × Other × F"]
    assert named(found["nested"])["val"] == ["torso × White × F"]


def test_a_grouping_may_have_the_name_of_its_part() -> None:
    own = resolve({"race": Intersection("race", "sex")}, people())
    assert named(own["race"])["val"] == ["White × F"]
    # Here the part "sex" is the other grouping, whose own parts are the columns.
    circle = resolve({"race": Intersection("race", "sex"), "sex": Intersection("sex", "race")}, people())
    assert named(circle["race"])["val"] == ["White × F × White"]


def test_names_that_hold_the_sign_stay_apart() -> None:
    columns = {"train": split(a=["x × y", "x"], b=["z", "y × z"])}
    found = resolve({"both": Intersection("a", "b")}, columns)["both"]["train"]
    assert found.names == ("'x' × 'y × z'", "'x × y' × 'z'")
    assert found.codes.tolist() == [1, 0]


@settings(deadline=None, max_examples=60)
@given(data=st.data(), sizes=st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_an_intersection_is_the_pairs_of_values_by_hand(data, sizes) -> None:
    values = {
        f"split {i}": [data.draw(st.lists(st.sampled_from(["a", "b", None, 3]), min_size=n, max_size=n)) for _ in "uv"]
        for i, n in enumerate(sizes)
    }
    columns = {name: split(n=len(u), keys={"u": u, "v": v}) for name, (u, v) in values.items()}
    found = resolve({"u": "u", "v": "v", "both": Intersection("u", "v")}, columns)
    by_hand = {
        name: [" × ".join(MISSING if x is None else str(x) for x in pair) for pair in zip(u, v, strict=True)]
        for name, (u, v) in values.items()
    }
    assert named(found["both"]) == by_hand
    for divided in found.values():
        names = {part.names for part in divided.values()}
        assert len(names) == 1
        (known,) = names
        assert len(set(known)) == len(known)
        seen = {code for part in divided.values() for code in part.codes.tolist()}
        assert seen == set(range(len(known)))  # every name occurs in some split


def frequency(train, test, **cuts) -> dict[str, list[str]]:
    return named(resolve({"f": Frequency("label", **cuts)}, {"train": split(train), "test": split(test)})["f"])


def repeated(*counts: int) -> list[int]:
    return [label for label, n in enumerate(counts) for _ in range(n)]


@pytest.mark.parametrize(
    ("counts", "cuts", "parts"),
    [
        ((50, 30, 20), {}, ["head", "torso", "tail"]),  # 0, 50 and 80 % are more frequent
        ((49, 31, 20), {}, ["head", "head", "tail"]),
        ((60, 10, 10, 10, 5, 5), {}, ["head", "torso", "torso", "torso", "tail", "tail"]),
        ((5, 10, 60), {}, ["tail", "tail", "head"]),  # .8 of all are in the head, which is not less than .8
        ((10, 10, 10, 10), {}, ["head"] * 4),
        ((60, 25, 15), {"shares": [0.9, 0.99]}, ["head", "head", "head"]),
        ((101, 100, 20, 19), {"counts": (20, 100)}, ["head", "torso", "torso", "tail"]),
        ((3, 2, 1), {"counts": [2, 3]}, ["torso", "torso", "tail"]),
    ],
)
def test_head_torso_and_tail(counts, cuts, parts) -> None:
    found = frequency(repeated(*counts), list(range(len(counts))), **cuts)
    assert found["test"] == parts
    assert found["train"] == [parts[label] for label in repeated(*counts)]


def test_what_training_lacks_is_in_the_tail_and_missing_values_are_apart() -> None:
    columns = {
        "train": split(race=["a"] * 6 + ["b"] * 4 + [None] * 90),
        "test": split(race=["c", None, "b", "a"]),
    }
    found = resolve({"f": Frequency("race"), "n": Frequency("race", counts=(5, 6))}, columns)
    assert named(found["f"])["test"] == ["tail", MISSING, "torso", "head"]  # shares are of the ten that are known
    assert found["f"]["test"].names == ("head", "torso", "tail", MISSING)
    assert named(found["n"])["test"] == ["tail", MISSING, "tail", "torso"]
    assert found["n"]["train"].names == ("torso", "tail", MISSING)


@settings(deadline=None, max_examples=60)
@given(
    train=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    cuts=st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2, unique=True).map(sorted),
)
def test_frequency_is_monotone_and_the_same_in_every_split(train, cuts) -> None:
    labels = list(range(8))
    found = dict(zip(labels, frequency(train, labels, shares=cuts)["test"], strict=True))
    order = ("head", "torso", "tail")
    n = [train.count(label) for label in labels]
    for a in labels:
        above = sum(own for own in n if own > n[a]) / len(train)
        assert found[a] == ("tail" if not n[a] or above >= cuts[1] else "torso" if above >= cuts[0] else "head")
        for b in labels:
            if n[a] >= n[b]:
                assert order.index(found[a]) <= order.index(found[b])
    assert frequency(train, labels, shares=cuts)["train"] == [found[label] for label in train]
    head = sum(n[label] for label in labels if found[label] == "head") / len(train)
    assert head >= cuts[0] or {found[label] for label in train} == {"head"}


def test_bins_of_memorization_are_of_the_training_split_alone() -> None:
    columns = {"train": split([0, 1, 0, 1, 1], keys={}), "test": split([0, 1])}
    bins = by_memorization(np.array([-0.5, 0.1, 0.6, 1.0, np.nan]))
    assert bins.names == ("below 0.1", "0.1 to 0.25", "0.25 to 0.5", "0.5 to 0.75", "0.75 or more", MISSING)
    assert bins.codes.tolist() == [0, 1, 3, 4, 5]
    assert by_memorization(torch.tensor([0.2, 0.9]), [0, 1]).names == ("all",)
    found = resolve({"m": bins, "m x label": Intersection("m", "label"), "rare": Frequency("m")}, columns)
    assert {name: list(part) for name, part in found.items()} == {name: ["train"] for name in found}
    assert named(found["m x label"])["train"][-1] == f"{MISSING} × 1"
    assert resolve({"m": bins}, {"test": split([0, 1])})["m"] == {}
    with pytest.raises(
        ArgumentError, match=r"groups\['m'\]=int64\[5\]: one code for each of the 2 examples of split 'train'"
    ):
        resolve({"m": bins}, {"train": split([0, 1])})
    with pytest.raises(ArgumentError, match="ascend"):
        by_memorization([0.5], edges=[1, 0])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("rase", ["groups['g']='rase'", "split 'train'", "TensorDataset", "pass an array per split"]),
        ("late", ["groups['g']='late'", "split 'val'"]),
        (Intersection("race", "rase"), ["groups['g']='rase'", "in Intersection(of=('race', 'rase'))", "'train'"]),
        (Frequency("rase"), ["groups['g']='rase'", "Frequency(of='rase'"]),
        ({"train": [1, 2, 3, 4]}, ["groups['g']={'train'", "values for split 'val' are needed"]),
        (
            {"train": [1, 2, 3, 4], "val": [1], "test": [1]},
            ["groups['g']=[1]: one value for each of the 2 examples of split 'test'", "there are 1"],
        ),
        (
            [1, 2, 3, 4],
            ["groups['g']=[1, 2, 3, 4]: one value for each of the 1 examples of split 'val'", "there are 4"],
        ),
        (Intersection, ["groups['g']", "one value for each"]),
        (3, ["groups['g']", "one value for each"]),
    ],
)
def test_refusals_name_the_grouping_and_the_split(value, words) -> None:
    columns = people()
    columns["train"].dataset.late = [1, 2, 3, 4]
    with pytest.raises(ArgumentError) as caught:
        resolve({"g": value}, columns)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_labels_that_were_not_found_are_said_to_be_missing() -> None:
    with pytest.raises(ArgumentError, match=r"groups\['g'\]='label' \(in Frequency\(of='label'.*no labels were found"):
        resolve({"g": Frequency()}, {"train": split(race=["a"])})


def test_frequencies_need_the_training_split() -> None:
    with pytest.raises(ArgumentError, match=r"groups\['f'\]: frequencies are those of split 'train'.*it has 'test'"):
        resolve({"f": Frequency("label")}, {"test": split([0, 1])})


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Intersection(), r"Intersection\(\): two or more"),
        (lambda: Intersection("race"), r"Intersection\('race'\): two or more"),
        (lambda: Intersection(of="race"), "two or more"),
        (lambda: Frequency("label", shares=(0.8, 0.5)), r"shares=\(0.8, 0.5\): two ascending"),
        (lambda: Frequency("label", shares=(0.5, 1.0)), "numbers in"),
        (lambda: Frequency("label", shares=(0.0, 0.5)), "shares"),
        (lambda: Frequency("label", shares=(0.5, float("nan"))), "shares"),
        (lambda: Frequency("label", shares=0.5), "shares=0.5"),
        (lambda: Frequency("label", shares=(0.1, 0.2, 0.3)), "shares"),
        (lambda: Frequency("label", counts=(100, 20)), r"counts=\(100, 20\): two ascending whole numbers"),
        (lambda: Frequency("label", counts=(0, 20)), "counts"),
        (lambda: Frequency("label", counts=(1.5, 20)), "counts"),
        (lambda: Frequency("label", shares=(0.5, 0.8), counts=(1, 2)), "not both"),
    ],
)
def test_arguments_are_checked(make, match) -> None:
    with pytest.raises(ArgumentError, match=match):
        make()


def test_values_of_a_configuration_file_are_the_same_objects() -> None:
    assert Intersection(of=["race", "sex"]) == Intersection("race", "sex")
    assert hash(Frequency("race", counts=[2, 3])) == hash(Frequency("race", counts=(2, 3)))
    with pytest.raises(AttributeError):
        Intersection("race", "sex").of = ()


def test_the_keys_that_samples_are_searched_for() -> None:
    groups = {"a": "race", "b": "label", "c": Intersection("sex", Frequency("country")), "d": {"train": ["x"]}}
    assert sample_keys(groups) == {"race", "sex", "country"}


def test_a_derived_grouping_of_ones_own() -> None:
    class Even:
        parts = ("label",)

        def derive(self, name, parts):
            return {split: Grouping(part.codes % 2, ("even", "odd")) for split, part in parts[0].items()}

    assert named(resolve({"parity": Even()}, people())["parity"])["test"] == ["even", "odd"]


def test_a_column_of_another_length_is_named() -> None:
    data = TensorDataset(torch.zeros(4, 1))
    data.race = ["a", "b"]
    with pytest.raises(ArgumentError, match=r"attribute of the data set of split .train. has 2 values for 4 examples"):
        resolve({"race": "race"}, {"train": Columns(data, 4, None, {})})
