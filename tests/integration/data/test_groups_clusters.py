import json
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from lightning_memaudit.data.groups import Columns, Grouping, Intersection, by_cluster, resolve
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.outcomes.examples import Examples


def derive(embeddings, labels, **options) -> dict[str, Grouping]:
    columns = {split: Columns(None, len(own), np.asarray(own), {}) for split, own in labels.items()}
    return resolve({"kind": by_cluster(embeddings, **options)}, columns)["kind"]


def blobs(centres, n, seed=0):
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat(np.arange(len(centres)), n))
    return np.asarray(centres, dtype=float)[kinds] + rng.normal(size=(len(kinds), len(centres[0]))), kinds


def test_planted_subpopulations_are_found_and_test_examples_join_them() -> None:
    """Digits merged into even and odd: each has the five digits it is made of."""
    x, digits = load_digits(return_X_y=True)
    train, test = slice(1200), slice(1200, None)
    labels = {"train": digits[train] % 2, "test": digits[test] % 2}
    found = derive({"train": x[train], "test": x[test]}, labels, candidates=range(2, 9))
    for split, rows in (("train", train), ("test", test)):
        assert adjusted_rand_score(digits[rows], found[split].codes) > 0.6  # k-means itself reaches no more
        assert {name.split("/")[0] for name in found[split].names} == {"0", "1"}
    chosen = [how["chosen"] for how in found["train"].made_by["classes"].values()]
    assert chosen == [6, 5]
    assert found["train"].names == found["test"].names


@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_clusters_far_from_the_origin_are_found(offset: float) -> None:
    x, kinds = blobs([(0, 0), (10, 0)], 40)
    found = derive({"train": x + offset}, {"train": np.zeros(len(x), dtype=np.int64)})["train"]
    assert adjusted_rand_score(kinds, found.codes) == 1.0


def test_well_separated_blobs_are_found_exactly_the_largest_first() -> None:
    x, kinds = blobs([(0, 0), (20, 0), (0, 20)], 30)
    kept = (kinds != 2) | (np.cumsum(kinds == 2) <= 15)
    found = derive({"train": x[kept]}, {"train": np.zeros(kept.sum(), dtype=np.int64)})["train"]
    assert found.names == ("0/0", "0/1", "0/2")
    assert adjusted_rand_score(kinds[kept], found.codes) == 1.0
    assert np.bincount(found.codes)[2] == 15
    how = found.made_by["classes"]["0"]
    assert (how["n"], how["chosen"], how["stability"]["3"]) == (75, 3, 1.0)
    assert json.loads(json.dumps(found.made_by)) == found.made_by


def test_one_cloud_is_one_cluster() -> None:
    x = np.random.default_rng(0).normal(size=(200, 20))
    found = derive({"train": x}, {"train": np.zeros(200, dtype=np.int64)})["train"]
    assert found.names == ("0/0",)
    assert max(found.made_by["classes"]["0"]["stability"].values()) < 0.3


def test_small_and_constant_classes_stay_whole() -> None:
    x, _ = blobs([(0, 0), (20, 0)], 20)
    labels = np.array([0] * 40 + [1] + [2] * 30)
    everything = np.concatenate([x, [[5.0, 5.0]], np.ones((30, 2))])
    found = derive({"train": everything}, {"train": labels})["train"]
    assert found.names == ("0/0", "0/1", "1/0", "2/0")
    assert found.made_by["classes"]["1"] == {"n": 1, "chosen": 1, "stability": {}}


def test_the_same_seed_gives_the_same_groups_and_another_may_not() -> None:
    x = np.random.default_rng(0).normal(size=(120, 3))
    labels = {"train": np.zeros(120, dtype=np.int64)}
    options = {"min_stability": 0.01, "candidates": (4,)}
    first, again, other = (derive({"train": x}, labels, seed=seed, **options)["train"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.codes, again.codes)
    assert first.made_by == again.made_by != other.made_by


def test_a_class_without_training_examples_is_a_group_of_its_own() -> None:
    x, _ = blobs([(0, 0)], 12)
    labels = {"train": np.zeros(12, dtype=np.int64), "test": np.array([0, 1])}
    found = derive({"train": x, "test": np.zeros((2, 2))}, labels)
    assert found["test"].names[found["test"].codes[1]] == "(class without training examples)"
    assert found["train"].names == found["test"].names


def test_clusters_are_groupings_like_any_other() -> None:
    x, _ = blobs([(0, 0), (20, 0)], 20)
    columns = {"train": Columns(None, 40, np.zeros(40, dtype=np.int64), {"sex": ["f", "m"] * 20})}
    groups = {"kind": by_cluster({"train": x}), "both": Intersection("kind", "sex"), "sex": "sex"}
    assert len(resolve(groups, columns)["both"]["train"].names) == 4
    within = resolve({"kind": by_cluster({"train": x}, within="sex"), "sex": "sex"}, columns)["kind"]["train"]
    assert within.names == ("f/0", "f/1", "m/0", "m/1")


def test_how_they_were_found_is_kept_with_the_examples() -> None:
    x, _ = blobs([(0, 0), (20, 0)], 20)
    found = derive({"train": x}, {"train": np.zeros(40, dtype=np.int64)})["train"]
    plain = Grouping(np.zeros(40, dtype=np.int64), ("a",))
    read = Examples.from_bytes(Examples(40, None, {"kind": found, "plain": plain}).to_bytes())
    assert read.groups["kind"].made_by == found.made_by
    assert read.groups["plain"].made_by is None


@pytest.mark.parametrize(
    ("embeddings", "options", "message"),
    [
        ({"test": np.zeros((3, 2))}, {}, "embeddings=.'test': .*: split 'train' is needed"),
        ({}, {}, "split 'train' is needed"),
        ({"train": np.zeros(3)}, {}, r"embeddings\['train'\]=float64\[3\]"),
        ({"train": np.zeros((3, 2)), "test": np.zeros((3, 3))}, {}, r"embeddings\['test'\]=float64\[3, 3\]"),
        ({"train": np.array([[0.0], [np.nan]])}, {}, "finite numbers are needed"),
        ({"train": np.zeros((3, 2))}, {"candidates": (1,)}, "=1: .*at least 2"),
        ({"train": np.zeros((3, 2))}, {"candidates": (2.5,)}, "=2.5: "),
        ({"train": np.zeros((3, 2))}, {"min_stability": 0.0}, "min_stability=0.0"),
        ({"train": np.zeros((3, 2))}, {"n_repeats": 0}, "n_repeats=0"),
        ({"train": np.zeros((3, 2))}, {"seed": -1}, "seed=-1"),
        ({"train": np.zeros((3, 2))}, {"candidates": 3}, "candidates=3: numbers of clusters are needed"),
        ({"train": np.zeros((3, 2))}, {"min_stability": "x"}, "min_stability='x'"),
        (np.zeros((3, 2)), {}, r"embeddings=float64\[3, 2\]: a mapping"),
    ],
)
def test_bad_arguments_are_named(embeddings, options, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        by_cluster(embeddings, **options)


def test_embeddings_of_other_data_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"embeddings\['train'\]=float64\[3, 2\]: 4 rows are needed"):
        derive({"train": np.zeros((3, 2))}, {"train": np.zeros(4, dtype=np.int64)})


def test_what_is_missing_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    x, _ = blobs([(0, 0), (20, 0)], 20)
    with pytest.raises(ConfigurationError, match=r"pip install 'lightning-memaudit\[clusters\]'"):
        derive({"train": x}, {"train": np.zeros(40, dtype=np.int64)})
