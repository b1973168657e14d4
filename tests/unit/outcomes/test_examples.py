from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_memaudit.data.groups import Frequency, Intersection, by_memorization
from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError
from lightning_memaudit.outcomes.examples import Examples, describe_splits, fingerprint
from lightning_memaudit.outcomes.scoring import Multiclass, Sequence


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def described(dataset, score_fn=None, **options):
    collate = options.pop("collate_fn", None)
    loader = DataLoader(dataset, batch_size=4, collate_fn=collate)
    return describe_splits({"train": loader}, score_fn or Multiclass(), seed=0, **options)["train"]


def tensors(inputs, labels=None):
    return TensorDataset(inputs, torch.arange(len(inputs)) % 3 if labels is None else labels)


def test_labels_groups_units_and_previews_of_mappings():
    rows = [{"x": torch.tensor([i, 1.0]), "y": i % 2, "race": "ab"[i % 2], "age": float(i)} for i in range(6)]
    data = Items(rows)
    data.site = ["n", "s", None, "n", "s", "s"]
    groups = {"race": "race", "site": "site", "digit": "label", "given": {"train": [0, 0, 1, 1, 2, 2]}}
    known = described(data, groups=groups, units=np.arange(6) // 2)
    assert known.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert known.groups["race"].names == ("a", "b")
    assert known.groups["site"].names == ("n", "s", "(missing)")
    assert known.groups["digit"].codes.tolist() == known.labels.tolist()
    assert known.groups["given"].codes.tolist() == [0, 0, 1, 1, 2, 2]
    assert known.previews.tolist() == [[i, 1.0] for i in range(6)]
    assert known.units.tolist() == [0, 0, 1, 1, 2, 2]
    for wrong, match in [
        ("nope", "pass an array per split"),
        ({"test": [1]}, "values for split 'train' are needed"),
        ([1], "one value for each of the 6 examples"),
    ]:
        with pytest.raises(ArgumentError, match=match):
            described(data, groups={"g": wrong})


@pytest.mark.parametrize(
    ("shape", "preview"),
    [
        ((6, 1, 8, 8), (6, 8, 8)),
        ((6, 3, 8, 8), (6, 8, 8, 3)),
        ((6, 8, 8, 3), (6, 8, 8, 3)),
        ((6, 8, 8), (6, 8, 8)),
        ((6, 3, 100, 70), (6, 25, 18, 3)),
        ((6, 1, 4, 1000), (6, 1, 32)),
        ((6, 40), (6, 16)),
        ((6,), (6, 1)),
        ((6, 2, 3, 4, 5), None),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_previews(shape, preview, dtype):
    inputs = (torch.rand(shape) * 200).to(dtype)
    known = described(tensors(inputs))
    assert (None if known.previews is None else known.previews.shape) == preview
    if preview is not None and len(preview) > 2:
        assert known.previews.dtype == np.uint8
        assert known.previews[0].max() == 255


def test_previews_of_text_and_of_ragged_or_odd_inputs():
    def collate(samples):
        return [text for text, _ in samples], torch.tensor([label for _, label in samples])

    known = described(Items([("a" * 500, 0), ("b", 1), ("ß", 1)]), collate_fn=collate)
    assert [len(text) for text in known.previews] == [200, 1, 1]
    assert described(tensors(torch.zeros(6, 4, dtype=torch.complex64))).previews is None
    assert described(Items([]), Multiclass()).previews is None
    ragged = Items([(torch.zeros(1, 8, 8 + 40 * (i >= 4)), i % 2) for i in range(8)])
    assert described(ragged).previews is None


def test_targets_that_are_no_single_class_number():
    inputs = torch.randn(6, 3)

    def own(pl_module, batch):
        raise AssertionError

    scores = torch.tensor([0.0, 1.0, 2.0, 3.0, 0.5, 1.0])  # the first batch alone looks like classes
    regression = described(tensors(inputs, scores), own)
    assert regression.labels.tolist() == [-1] * 6
    changed = described(tensors(inputs, scores + torch.tensor([0, 0, 0, 0, 0, 0.25])), own)
    assert regression.fingerprint["labels"] != changed.fingerprint["labels"]

    tokens = torch.randint(5, (6, 4))
    sequence = described(tensors(inputs, tokens), Sequence())
    assert sequence.labels.tolist() == [-1] * 6
    other = tokens.clone()
    other[5, 3] += 1
    assert described(tensors(inputs, other), Sequence()).fingerprint["labels"] != sequence.fingerprint["labels"]
    assert described(tensors(inputs, torch.arange(6.0)[:, None])).labels.tolist() == list(range(6))


def test_labels_that_cannot_be_found():
    rows = Items([{"x": torch.zeros(2), "digit": 1}] * 4)
    with pytest.raises(UnsupportedDataError, match="'x', 'digit'"):
        described(rows)
    assert described(rows, Multiclass(target="digit")).labels.tolist() == [1] * 4
    assert described(rows, lambda m, b: None).labels is None

    def texts(samples):
        return torch.zeros(len(samples), 2), ["cat"] * len(samples)

    with pytest.raises(UnsupportedDataError, match="no tensor of numbers"):
        described(rows, collate_fn=texts)
    assert described(rows, lambda m, b: None, collate_fn=texts).labels is None

    def dropping(samples):
        return torch.zeros(len(samples) - 1, 2), torch.zeros(len(samples) - 1)

    with pytest.raises(UnsupportedDataError, match="must keep every sample"):
        described(rows, collate_fn=dropping)


def test_the_fingerprint_sees_number_order_labels_and_inputs():
    inputs, labels = torch.randn(40, 3), torch.arange(40) % 3
    base = described(tensors(inputs, labels)).fingerprint
    assert base == described(tensors(inputs.clone(), labels.clone())).fingerprint
    order = torch.arange(40).flip(0)
    flipped, nudged = labels.clone(), inputs.clone()
    flipped[7], nudged[7, 1] = 1 - flipped[7].clamp(max=1), nudged[7, 1] + 1e-3
    for other, changed in [
        (tensors(inputs[order], labels[order]), {"labels", "inputs"}),
        (tensors(inputs, flipped), {"labels", "inputs"}),  # the sample is the input and the label
        (tensors(nudged, labels), {"inputs"}),
        (tensors(inputs[:39], labels[:39]), {"n_examples", "labels", "inputs"}),
    ]:
        found = described(other).fingerprint
        assert {name for name in base if found[name] != base[name]} == changed


@pytest.mark.parametrize("split", ["train", "test"])
def test_random_augmentation_is_a_warning_that_says_what_to_do(split):
    class Augmented(Items):
        def __getitem__(self, i):
            return self.items[i] + torch.rand(2), 0

    advice = "pass eval_dataset=" if split == "train" else "out of the test data set"
    with pytest.warns(UserWarning, match=advice):
        found = fingerprint(Augmented(torch.zeros(5, 2)), None, split=split)
    assert found == {"n_examples": 5, "labels": None, "inputs": "random"}


def test_fields_of_dataclasses_are_part_of_the_fingerprint():
    @dataclass
    class Graph:
        x: torch.Tensor

    one, two = (fingerprint([Graph(torch.full((1,), v))], None, split="train") for v in (1.0, 2.0))
    assert one["inputs"] != two["inputs"]


def splits_of(**groups):
    train = tensors(torch.arange(12.0).reshape(6, 2), torch.tensor([0, 0, 0, 1, 1, 2]))
    test = tensors(torch.arange(6.0).reshape(3, 2), torch.tensor([3, 2, 0]))
    train.race, test.race = ["b", "b", "b", "c", None, "c"], ["a", "c", "c"]
    loaders = {"train": DataLoader(train, batch_size=4), "test": DataLoader(test, batch_size=4)}
    return describe_splits(loaders, Multiclass(), seed=3, groups=groups, units=np.arange(6) // 2)


def test_groups_of_all_splits_have_one_list_of_names():
    found = splits_of(
        race="race",
        both=Intersection("race", "label"),
        rare=Frequency("label"),
        memorization=by_memorization([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    )
    train, test = found["train"].groups, found["test"].groups
    assert set(train) - set(test) == {"memorization"}
    for name in test:
        assert train[name].names == test[name].names
    assert train["race"].names == ("a", "b", "c", "(missing)")
    assert test["race"].codes.tolist() == [0, 2, 2]
    assert [test["both"].names[code] for code in test["both"].codes] == ["a × 3", "c × 2", "c × 0"]
    assert [test["rare"].names[code] for code in test["rare"].codes] == ["tail", "tail", "head"]
    assert found["train"].units.tolist() == [0, 0, 1, 1, 2, 2]
    assert found["test"].units is None
    back = Examples.from_bytes(found["test"].to_bytes()).groups
    assert {name: part.names for name, part in back.items()} == {name: part.names for name, part in test.items()}


def test_keys_of_samples_are_parts_too():
    rows = [{"x": torch.tensor([float(i)]), "y": i % 2, "race": "ab"[i % 2], "sex": "mf"[i // 3]} for i in range(6)]
    with pytest.warns(UserWarning, match=r"groups\['rare'\]: every example of every split is in one group, 'head'"):
        known = described(Items(rows), groups={"both": Intersection("race", "sex"), "rare": Frequency("race")})
    assert [known.groups["both"].names[code] for code in known.groups["both"].codes] == [
        f"{row['race']} × {row['sex']}" for row in rows
    ]
    assert known.groups["rare"].names == ("head",)


def test_one_group_for_all_examples_is_a_warning():
    with pytest.warns(UserWarning, match=r"groups\['site'\]: every example of every split is in one group, 'n'"):
        found = splits_of(site={"train": ["n"] * 6, "test": ["n"] * 3})
    assert found["train"].groups["site"].names == ("n",)
    splits_of(site={"train": ["n"] * 6, "test": ["s"] * 3})  # one in each split are two


def test_each_split_is_read_under_the_seed_and_nothing_is_left_of_it():
    class Augmented(Items):
        def __getitem__(self, i):
            return self.items[i] + torch.rand(2), 0

    loaders = {split: DataLoader(Augmented(torch.zeros(5, 2)), batch_size=5) for split in ("val", "test")}
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match="random"):
        found = describe_splits(loaders, Multiclass(), seed=3)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(found["val"].previews, found["test"].previews)
