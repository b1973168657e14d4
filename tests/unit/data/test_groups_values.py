"""Values from labels, attributes and columns, numbered in one split and over all, and the group of missing ones."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

from lightning_memaudit.data.groups_values import MISSING, Columns, column_of, grouping, groupings
from lightning_memaudit.exceptions import ArgumentError


@pytest.mark.parametrize(
    ("values", "codes", "names"),
    [
        ([2, 0, 2], [1, 0, 1], ("0", "2")),
        ([10, 9, 100], [1, 0, 2], ("9", "10", "100")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        (("b", "a", "b"), [1, 0, 1], ("a", "b")),
        ([0.5, 0.25, 0.5], [1, 0, 1], ("0.25", "0.5")),
        ([2.0, 1.0, np.nan], [1, 0, 2], ("1", "2", MISSING)),
        ([None, "x", ""], [1, 0, 1], ("x", MISSING)),
        ([None, float("nan"), pd.NA], [0, 0, 0], (MISSING,)),
        ([pd.NaT, decimal.Decimal("nan"), np.float32("nan")], [0, 0, 0], (MISSING,)),
        ([3, "3x", None], [0, 1, 2], ("3", "3x", MISSING)),
        ([float("inf"), 0, 1], [2, 0, 1], ("0", "1", "inf")),
        (np.array([3, 1, 3], dtype=np.uint8), [1, 0, 1], ("1", "3")),
        (np.array(["b", "a", "b"]), [1, 0, 1], ("a", "b")),
        (np.array([True, False, True]), [1, 0, 1], ("False", "True")),
        (np.array(["NaT", "2020-01-01", "2020-01-01"], dtype="datetime64[D]"), [1, 0, 0], ("2020-01-01", MISSING)),
        (
            [datetime.date(2021, 1, 2), None, datetime.date(2020, 1, 2)],
            [1, 2, 0],
            ("2020-01-02", "2021-01-02", MISSING),
        ),
        (torch.tensor([3, 1, 3]), [1, 0, 1], ("1", "3")),
        (torch.tensor([1.0, float("nan"), 2.0], requires_grad=True), [0, 2, 1], ("1", "2", MISSING)),
        (torch.tensor([1.0, 2.0, 1.0], dtype=torch.bfloat16), [0, 1, 0], ("1", "2")),
        (torch.tensor([True, False, True]), [1, 0, 1], ("False", "True")),
        ([torch.tensor(3), torch.tensor(1), torch.tensor(3)], [1, 0, 1], ("1", "3")),
        ([np.int64(3), np.int64(1), 3], [1, 0, 1], ("1", "3")),
        (pd.Series(["b", None, "a"], index=[7, 8, 9]), [1, 2, 0], ("a", "b", MISSING)),
        (pd.Series([2, None, 1], dtype="Int64"), [1, 2, 0], ("1", "2", MISSING)),
        (pd.Series(["b", None, "a"], dtype="category"), [1, 2, 0], ("a", "b", MISSING)),
        (pd.Series(["b", None, "a"], dtype="string"), [1, 2, 0], ("a", "b", MISSING)),
        (pd.Categorical(["b", "a", "b"]), [1, 0, 1], ("a", "b")),
        (range(3), [0, 1, 2], ("0", "1", "2")),
    ],
)
def test_values_are_numbered(values, codes, names) -> None:
    found = grouping(values, name="g", n_examples=3)
    assert found.codes.tolist() == codes
    assert found.codes.dtype == np.int64
    assert found.names == names


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, 2], ["groups['race']=[1, 2]: one value for each of the 3 examples", "there are 2"]),
        ([], ["there are 0"]),
        (torch.zeros(4), ["there are 4"]),
        ([[1], [2], [3]], ["[0]=[1]", "one number or text for each example"]),
        ([1, (2, 3), 3], ["[1]=(2, 3)", "one number or text for each example"]),
        ([1, [2, [3]], 3], ["[1]=[2, [3]]", "one number or text for each example"]),
        (np.zeros((3, 2)), ["[0]=", "one number or text for each example"]),
        (torch.zeros(3, 1), ["[0]=", "one number or text for each example"]),
        ([np.zeros(2)] * 3, ["[0]=", "one number or text for each example"]),
        ([torch.zeros(2)] * 3, ["[0]=", "one number or text for each example"]),
        ([{"a": 1}] * 3, ["[0]=", "one number or text for each example"]),
        ("abc", ["one value for each of the 3 examples", "'abc'"]),
        ({"a": 1, "b": 2, "c": 3}, ["one value for each", "{'a': 1"]),
        (5, ["one value for each", "5"]),
        (None, ["one value for each", "None"]),
        (torch.tensor(3), ["one value for each", "3"]),
        (np.array(3), ["one value for each", "3"]),
    ],
)
def test_refusals(values, words) -> None:
    with pytest.raises(ArgumentError) as caught:
        grouping(values, name="race", n_examples=3)
    assert all(word in str(caught.value) for word in ["groups['race']", *words]), str(caught.value)


class Frame(Dataset):
    """A data set over a pandas frame, as tutorials write it."""

    def __init__(self, frame: pd.DataFrame, attribute: str = "df") -> None:
        setattr(self, attribute, frame)
        self.size = len(frame)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i):
        return i


def people(n: int = 6) -> pd.DataFrame:
    return pd.DataFrame({"race": list("abcdefgh"[:n]), "size": range(n)}, index=range(100, 100 + n))


def attributed(n: int = 6) -> TensorDataset:
    data = TensorDataset(torch.zeros(n, 1))
    data.race = list("abcdefgh"[:n])
    return data


@pytest.mark.parametrize(
    "column", [list("abcdef"), tuple("abcdef"), np.array(list("abcdef")), pd.Series(list("abcdef"))]
)
def test_attributes_are_looked_up_through_subsets(column) -> None:
    data = TensorDataset(torch.zeros(6, 1))
    data.race = column
    assert list(column_of(data, "race")) == list("abcdef")
    assert list(column_of(Subset(Subset(data, [5, 3, 1]), [2, 0]), "race")) == ["b", "f"]
    assert list(column_of(Subset(data, torch.tensor([4, 0])), "race")) == ["e", "a"]
    assert list(column_of(Subset(data, np.array([4, 0])), "race")) == ["e", "a"]


def test_tensors_through_subsets() -> None:
    data = TensorDataset(torch.zeros(4, 1))
    data.group = torch.tensor([7, 8, 9, 7])
    found = grouping(column_of(Subset(data, [3, 1]), "group"), name="group", n_examples=2)
    assert found.names == ("7", "8")


def test_concatenation_and_random_split() -> None:
    both = ConcatDataset([attributed(3), Subset(Frame(people()), [5, 4])])
    assert column_of(both, "race") == ["a", "b", "c", "f", "e"]
    first, second = random_split(both, [2, 3], generator=torch.Generator().manual_seed(0))
    assert sorted(column_of(first, "race") + column_of(second, "race")) == ["a", "b", "c", "e", "f"]
    assert column_of(first, "race") == [["a", "b", "c", "f", "e"][i] for i in first.indices]
    assert column_of(ConcatDataset([attributed(3), TensorDataset(torch.zeros(2, 1))]), "race") is None


@pytest.mark.parametrize("attribute", ["df", "frame", "data"])
def test_columns_of_frames(attribute) -> None:
    data = Frame(people(), attribute)
    assert list(column_of(data, "race")) == list("abcdef")
    assert column_of(Subset(data, [4, 1]), "race") == ["e", "b"]
    # ``data.size`` is a number, the column of that name is what is meant.
    assert list(column_of(data, "size")) == list(range(6))
    assert column_of(data, "age") is None


def test_columns_by_name() -> None:
    class Table(Frame):
        column_names = ("race",)

        def __getitem__(self, key):
            return list("abcdef") if key == "race" else key

    assert column_of(Table(people().drop(columns="race")), "race") == list("abcdef")


@pytest.mark.parametrize(
    "value", ["abcdef", b"abcdef", [1, 2], {"a": 1}, 6, None, torch.tensor(6), lambda: [1] * 6, set(range(6))]
)
def test_what_is_no_column(value) -> None:
    data = TensorDataset(torch.zeros(6, 1))
    data.race = value
    assert column_of(data, "race") is None


def test_a_column_of_the_subset_itself_comes_first() -> None:
    subset = Subset(attributed(), [0, 1])
    subset.race = ["own", "column"]
    assert column_of(subset, "race") == ["own", "column"]


@pytest.mark.parametrize(
    ("values", "codes", "names"),
    [
        ([1, 1.0, 2], [0, 0, 1], ("1", "2")),
        ([1, True, 0], [2, 0, 1], ("True", "0", "1")),
        ([1, "1", "a"], [0, 1, 2], ("1", "'1'", "'a'")),
        (["True", True, "'True'"], [2, 0, 1], ("True", "\"'True'\"", "'True'")),
        ([None, "(missing)", "a"], [2, 0, 1], ("'(missing)'", "'a'", MISSING)),
        ([1, "a", None], [0, 1, 2], ("1", "a", MISSING)),
    ],
)
def test_values_that_look_alike_stay_apart(values, codes, names) -> None:
    found = grouping(values, name="g", n_examples=3)
    assert (found.codes.tolist(), found.names) == (codes, names)


def test_a_wrong_number_of_values_names_the_split_and_the_way_out() -> None:
    with pytest.raises(ArgumentError) as caught:
        grouping(range(60), name="g", n_examples=30, split="test")
    assert (
        "groups['g']=range(0, 60): one value for each of the 30 examples of split 'test' is needed, and there are 60"
        in str(caught.value)
    )
    assert "{'test': [...], ...}" in str(caught.value)


def test_columns_are_found_in_labels_keys_and_data_sets_in_this_order() -> None:
    data = attributed(3)
    data.label = ["x", "y", "z"]
    columns = Columns(data, 3, np.array([2, 1, 0]), {"race": ["k", "l", "m"]})
    assert columns.find("label").tolist() == [2, 1, 0]
    assert columns.find("race") == ["k", "l", "m"]
    assert Columns(data, 3, None, {}).find("race") == ["a", "b", "c"]
    assert Columns(data, 3, None, {}).find("label") is None
    assert columns.find("site") is None


VALUES = st.lists(st.sampled_from([None, "", "a", "b", "1", 1, 1.0, 2, 10, True, False, 0.5, float("nan")]), max_size=9)


@settings(deadline=None, max_examples=80)
@given(parts=st.lists(VALUES, min_size=1, max_size=3))
def test_splits_are_numbered_as_their_concatenation_is(parts) -> None:
    values = {f"split {i}": part for i, part in enumerate(parts)}
    found = groupings(values, name="g", n_examples={split: len(part) for split, part in values.items()})
    whole = grouping([value for part in parts for value in part], name="g", n_examples=sum(map(len, parts)))
    assert np.concatenate([part.codes for part in found.values()]).tolist() == whole.codes.tolist()
    assert {part.names for part in found.values()} == {whole.names}
    assert [len(part.codes) for part in found.values()] == [len(part) for part in parts]


def test_a_wrong_number_of_values_names_the_split_at_fault() -> None:
    with pytest.raises(ArgumentError, match=r"\[1\]: .* 2 examples of split 'test' is needed, and there are 1"):
        groupings({"train": [1, 2], "test": [1]}, name="g", n_examples={"train": 2, "test": 2})
