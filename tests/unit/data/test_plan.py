"""Masks: frozen, the same everywhere, and with the law that each design promises."""

from __future__ import annotations

import copy
import json
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_memaudit import SubsetPlan
from lightning_memaudit.data.plan import mask_checksum
from lightning_memaudit.exceptions import ArgumentError
from tests.helpers.forked import finished

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE.parents[1] / "golden" / "masks.json").read_text())
few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**63 - 1)
ids = st.integers(0, 2**62 - 1)


def bits(mask) -> str:
    return "".join(str(int(bit)) for bit in mask)


@pytest.mark.parametrize("case", GOLDEN)
def test_frozen_masks_and_seeds(case) -> None:
    plan = SubsetPlan(**GOLDEN[case]["plan"])
    assert {k: bits(plan.mask(int(k))) for k in GOLDEN[case]["masks"]} == GOLDEN[case]["masks"]
    assert {k: plan.model_seed(int(k)) for k in GOLDEN[case]["model_seeds"]} == GOLDEN[case]["model_seeds"]


def test_the_golden_file_is_what_plain_integers_give() -> None:
    philox = runpy.run_path(str(HERE / "philox.py"))
    assert philox["golden"]() == GOLDEN
    # known answer of Random123 (kat_vectors, philox4x64 10): counter and key of ones
    ones = 2**64 - 1
    assert [hex(word) for word in philox["block"]([ones] * 4, [ones] * 2)] == [
        "0x87b092c3013fe90b",
        "0x438c3c67be8d0224",
        "0x9cc7d7c69cd777b6",
        "0xa09caebf594f0ba0",
    ]


def test_masks_in_another_process_are_the_same() -> None:
    code = (
        "import json; from lightning_memaudit.data.plan import SubsetPlan, mask_checksum\n"
        f"for name, case in json.loads({json.dumps(GOLDEN)!r}).items():\n"
        "    plan = SubsetPlan(**case['plan'])\n"
        "    print(name, plan.digest, *[mask_checksum(plan.mask(int(k))) for k in case['masks']])\n"
    )
    output = finished(code)
    expected = []
    for name, case in GOLDEN.items():
        plan = SubsetPlan(**case["plan"])
        expected.append(" ".join([name, plan.digest, *(mask_checksum(plan.mask(int(k))) for k in case["masks"])]))
    assert output.splitlines() == expected


@pytest.mark.parametrize("case", GOLDEN)
def test_a_mask_does_not_depend_on_how_many_there_are(case) -> None:
    plan = SubsetPlan(**GOLDEN[case]["plan"])
    hundred = plan.masks(range(100))
    assert np.array_equal(plan.masks(range(7)), hundred[:7])
    assert np.array_equal(plan.masks([42, 3]), hundred[[42, 3]])
    assert plan.masks([]).shape == (0, plan.n_examples)
    assert plan.masks([]).dtype == bool


def test_masks_use_and_leave_no_global_random_state() -> None:
    plan = SubsetPlan(50)
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = plan.mask(3)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(first, plan.mask(3))


@few
@given(n=st.integers(2, 200), fraction=st.floats(0.01, 0.99), seed=seeds, k=ids)
def test_fixed_size_is_exact(n, fraction, seed, k) -> None:
    size = round(fraction * n)
    if not 0 < size < n:
        with pytest.raises(ArgumentError, match="leaves some examples in and some out"):
            SubsetPlan(n, subset_fraction=fraction, seed=seed)
        return
    plan = SubsetPlan(n, subset_fraction=fraction, seed=seed)
    assert plan.mask(k).sum() == size
    assert plan.mask(k).shape == (n,)
    assert plan.has_constant_size


@few
@given(n=st.integers(2, 101), seed=seeds, pair=st.integers(0, 2**61 - 1))
def test_paired_models_are_complements(n, seed, pair) -> None:
    plan = SubsetPlan(n, subset_fraction=0.5, design="paired", seed=seed)
    first, second = plan.masks([2 * pair, 2 * pair + 1])
    assert np.array_equal(first, ~second)
    assert first.sum() in {n // 2, (n + 1) // 2}
    assert plan.has_constant_size == (n % 2 == 0)
    assert plan.blocks([0, 1, 2, 3]).tolist() == [0, 0, 1, 1]


@few
@given(strata=st.lists(st.integers(-3, 3), min_size=4, max_size=80), seed=seeds, k=ids)
def test_stratified_counts(strata, seed, k) -> None:
    strata = np.repeat(strata, 4)
    plan = SubsetPlan(len(strata), subset_fraction=0.6, design="stratified", strata=strata, seed=seed)
    mask = plan.mask(k)
    for value in np.unique(strata):
        assert mask[strata == value].sum() == round(0.6 * (strata == value).sum())


@few
@given(
    units=st.lists(st.integers(-50, 50), min_size=2, max_size=60).filter(lambda u: len(set(u)) > 3),
    design=st.sampled_from(["fixed_size", "bernoulli", "paired"]),
    seed=seeds,
    k=ids,
)
def test_units_are_whole(units, design, seed, k) -> None:
    units = np.array(units)
    plan = SubsetPlan(len(units), subset_fraction=0.5, design=design, units=units, seed=seed)
    mask = plan.mask(k)
    assert all(len(set(mask[units == unit])) == 1 for unit in units)
    chosen = len(set(units[mask]))
    assert plan.n_units == len(set(units.tolist()))
    if design == "fixed_size":
        assert chosen == round(0.5 * plan.n_units)


def test_units_within_strata_and_units_across_strata() -> None:
    strata, units = np.repeat([0, 1], 10), np.repeat(np.arange(10), 2)
    plan = SubsetPlan(20, subset_fraction=0.6, design="stratified", strata=strata, units=units)
    assert [plan.mask(k)[strata == 0].sum() for k in range(5)] == [6] * 5
    assert plan.has_constant_size
    with pytest.raises(ArgumentError, match="the unit of row 0 has rows in several"):
        SubsetPlan(20, design="stratified", strata=np.arange(20) % 2, units=units)


@few
@given(n=st.integers(2, 80), data=st.data(), seed=seeds, k=ids)
def test_rows_that_are_no_canaries_are_always_in(n, data, seed, k) -> None:
    canaries = data.draw(st.lists(st.integers(0, n - 1), min_size=1))
    plan = SubsetPlan(n, design="canaries", canaries=canaries, seed=seed)
    others = np.setdiff1d(np.arange(n), canaries)
    assert plan.mask(k)[others].all()
    flags = np.isin(np.arange(n), canaries)
    same = SubsetPlan(n, design="canaries", canaries=flags, seed=seed, subset_fraction=0.5)
    assert same.digest == plan.digest
    assert plan.subset_fraction == 0.5


@few
@given(fraction=st.floats(0.05, 0.95), seed=seeds, k=ids)
def test_bernoulli_share(fraction, seed, k) -> None:
    n = 20_000
    kept = int(SubsetPlan(n, subset_fraction=fraction, design="bernoulli", seed=seed).mask(k).sum())
    assert abs(kept - fraction * n) < 6 * np.sqrt(n * fraction * (1 - fraction))


@pytest.mark.parametrize(
    ("arguments", "pair_probability"),
    [
        ({"subset_fraction": 0.7}, 0.7 * 20 / 29),  # 21 of 30 without replacement
        ({"subset_fraction": 0.3, "design": "bernoulli"}, 0.09),
        ({"subset_fraction": 0.5, "design": "paired"}, 0.5 * 14 / 29),
        ({"design": "canaries", "canaries": np.arange(30)}, 0.25),
    ],
)
def test_inclusion_of_examples_and_of_pairs(arguments, pair_probability) -> None:
    plan = SubsetPlan(30, seed=1, **arguments)
    n_models = 2000
    ids = range(0, 2 * n_models, 2) if plan.design == "paired" else range(n_models)
    masks = plan.masks(ids).astype(float)
    r = plan.subset_fraction
    z = (masks.mean(0) - r) / np.sqrt(r * (1 - r) / n_models)
    assert abs(z).max() < 4
    together = (masks.T @ masks / n_models)[np.triu_indices(30, 1)]
    p = pair_probability
    z = (together - p) / np.sqrt(p * (1 - p) / n_models)
    assert abs(z).max() < 4.8  # 435 pairs
    assert 0.85 < z.std() < 1.15
    # Successive models are independent: the same example in k and k + 1.
    runs = (masks[1:] * masks[:-1]).mean(0)
    assert abs((runs - r * r) / np.sqrt(r * r * (1 - r * r) / n_models)).max() < 5


def test_model_seeds() -> None:
    drawn = [SubsetPlan(10, seed=7).model_seed(k) for k in range(5000)]
    assert len(set(drawn)) == 5000
    assert 0 <= min(drawn) < 2**24
    assert 2**32 - 2**24 < max(drawn) < 2**32
    assert SubsetPlan(10, seed=8).model_seed(0) != drawn[0]
    assert SubsetPlan(99, seed=7, subset_fraction=0.2).model_seed(3) == drawn[3]
    assert all(type(seed) is int for seed in drawn[:3])


def test_the_digest_covers_every_argument() -> None:
    tens = np.arange(10)
    plans = [
        SubsetPlan(10),
        SubsetPlan(11),
        SubsetPlan(10, seed=1),
        SubsetPlan(10, subset_fraction=0.6),
        SubsetPlan(10, design="bernoulli"),
        SubsetPlan(10, units=tens),
        SubsetPlan(10, units=tens // 2),
        SubsetPlan(10, design="paired", subset_fraction=0.5),
        SubsetPlan(10, design="stratified", strata=tens // 5),
        SubsetPlan(10, design="stratified", strata=tens % 2),
        SubsetPlan(10, design="stratified", strata=tens // 5, units=tens),
        SubsetPlan(10, design="canaries", canaries=[1]),
        SubsetPlan(10, design="canaries", canaries=[2]),
    ]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert all(len(plan.digest) == 32 for plan in plans)
    assert SubsetPlan(np.int64(10), seed=np.int32(1), subset_fraction=0.7).digest == plans[2].digest


@pytest.mark.parametrize("case", GOLDEN)
def test_round_trips(case) -> None:
    plan = SubsetPlan(**GOLDEN[case]["plan"])
    for twin in (
        SubsetPlan.from_dict(json.loads(json.dumps(plan.to_dict()))),
        pickle.loads(pickle.dumps(plan)),
        copy.deepcopy(plan),
    ):
        assert twin.digest == plan.digest
        assert np.array_equal(twin.masks(range(5)), plan.masks(range(5)))


def test_the_plan_keeps_its_own_copy_of_arrays() -> None:
    units = np.arange(10) // 2
    plan = SubsetPlan(10, subset_fraction=0.4, units=units)
    mask = plan.mask(0)
    units[:] = 0
    assert np.array_equal(plan.mask(0), mask)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_examples": 1}, ["n_examples", "1"]),
        ({"n_examples": -4}, ["n_examples", "-4"]),
        ({"n_examples": 2.5}, ["n_examples", "2.5"]),
        ({"n_examples": True}, ["n_examples", "True"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"seed": 2**63}, ["seed", str(2**63)]),
        ({"seed": "0"}, ["seed", "'0'"]),
        ({"design": "random"}, ["design", "'random'", "fixed_size"]),
        ({"design": ["paired"]}, ["design", "paired"]),
        ({"subset_fraction": 0.0}, ["subset_fraction", "0.0"]),
        ({"subset_fraction": 1.0}, ["subset_fraction", "1.0"]),
        ({"subset_fraction": 1}, ["subset_fraction", "1"]),
        ({"subset_fraction": float("nan")}, ["subset_fraction", "nan"]),
        ({"subset_fraction": "0.5"}, ["subset_fraction", "'0.5'"]),
        ({"subset_fraction": 0.01}, ["subset_fraction", "0.01", "keeps 0 of 10"]),
        ({"subset_fraction": 0.99}, ["subset_fraction", "0.99", "keeps 10 of 10"]),
        ({"design": "paired"}, ["subset_fraction", "0.7", "paired", "0.5"]),
        ({"design": "canaries", "canaries": [1], "subset_fraction": 0.3}, ["subset_fraction", "0.3", "canaries"]),
        ({"design": "stratified"}, ["strata", "missing"]),
        ({"strata": np.zeros(10, int)}, ["strata", "given", "fixed_size"]),
        ({"design": "canaries"}, ["canaries", "missing"]),
        ({"canaries": [1]}, ["canaries", "given", "fixed_size"]),
        ({"design": "stratified", "strata": np.arange(10)}, ["subset_fraction", "stratum 0", "keeps 1 of 1"]),
        ({"units": np.zeros(9, int)}, ["units=int64[9]", "one integer for each of the 10 examples"]),
        ({"units": np.zeros(10)}, ["units", "float64"]),
        ({"units": list("abcdefghij")}, ["units", "<U1"]),
        ({"units": np.zeros(10, int)}, ["units in", "keeps 1 of 1"]),
        ({"units": np.zeros(10, int), "design": "paired", "subset_fraction": 0.5}, ["units in", "keeps 0 of 1"]),
        ({"design": "canaries", "canaries": []}, ["canaries=float64[0]", "bool[10]", "one row or more"]),
        ({"design": "canaries", "canaries": [10]}, ["canaries[0]=10", "[0, 10)"]),
        ({"design": "canaries", "canaries": [-1, 3]}, ["canaries[0]=-1", "[0, 10)"]),
        ({"design": "canaries", "canaries": [[1]]}, ["canaries=int64[1, 1]"]),
        ({"design": "canaries", "canaries": [True, False]}, ["canaries=bool[2]", "bool[10]"]),
        ({"design": "canaries", "canaries": [0.5]}, ["canaries", "float64"]),
    ],
)
def test_refusals_name_the_argument_and_the_value(arguments, words) -> None:
    with pytest.raises(ArgumentError) as caught:
        SubsetPlan(**({"n_examples": 10} | arguments))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("model_id", [-1, 2**62, 1.0, "3", None, True])
def test_model_numbers_are_checked(model_id) -> None:
    plan = SubsetPlan(10)
    for method in (plan.mask, plan.model_seed):
        with pytest.raises(ArgumentError, match=r"model_id=.*an integer in \[0, "):
            method(model_id)


def test_a_plan_of_another_scheme_is_refused() -> None:
    with pytest.raises(ArgumentError, match="scheme=99"):
        SubsetPlan.from_dict(SubsetPlan(10).to_dict() | {"scheme": 99})
