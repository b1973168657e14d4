"""Taking loaders apart: every setting is carried over, and the user's objects stay as they were."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, WeightedRandomSampler

from lightning_memaudit.data.loaders import (
    check_map_style,
    check_plain,
    clone_generator,
    sequential_loader,
    subset_loader,
)
from lightning_memaudit.exceptions import UnsupportedDataError
from tests.unit.data.toys import ROWS, N, examples

KEPT = ("batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn", "in_order")


def clone(generator):
    return None if generator is None else clone_generator(generator)


def test_every_setting_is_carried_over() -> None:
    loader = DataLoader(
        examples(),
        batch_size=3,
        shuffle=True,
        num_workers=1,
        collate_fn=list,
        pin_memory=True,
        drop_last=True,
        timeout=5,
        worker_init_fn=print,
        multiprocessing_context="spawn",
        prefetch_factor=3,
        persistent_workers=True,
        in_order=False,
    )
    subset = subset_loader(loader, ROWS, clone)
    for name in (*KEPT, "prefetch_factor", "persistent_workers"):
        assert getattr(subset, name) == getattr(loader, name), name
    assert isinstance(subset.multiprocessing_context, type(multiprocessing.get_context("spawn")))
    assert type(subset.sampler) is RandomSampler
    assert list(subset.dataset.indices) == ROWS.tolist()
    known = set(vars(DataLoader(examples()))) - {"dataset", "sampler", "batch_sampler", "generator"}
    public = {name for name in known if not name.startswith("_")}
    # A new setting of torch must be looked at here.
    assert public <= {*KEPT, "prefetch_factor", "persistent_workers", "pin_memory_device"}


def test_generators_are_copied_and_stay_apart() -> None:
    mine = torch.Generator().manual_seed(1)
    before = mine.get_state()
    shared = subset_loader(DataLoader(examples(), shuffle=True, generator=mine), ROWS, lambda g: g)
    assert shared.sampler.generator is shared.generator is mine
    alone = subset_loader(DataLoader(examples(), sampler=RandomSampler(examples(), generator=mine)), ROWS, clone)
    assert alone.generator is None
    assert alone.sampler.generator is not mine
    list(alone)
    assert torch.equal(mine.get_state(), before)
    assert not torch.equal(alone.sampler.generator.get_state(), before)
    none = subset_loader(DataLoader(examples(), shuffle=True), ROWS, clone)
    assert none.sampler.generator is none.generator is None


@pytest.mark.parametrize(("draws", "expected"), [(N, len(ROWS)), (12, 7), (48, 28), (1, 1)])
def test_draws_shrink_with_the_subset(draws, expected) -> None:
    for sampler in (
        RandomSampler(examples(), replacement=True, num_samples=draws),
        RandomSampler(examples(), num_samples=draws),
        WeightedRandomSampler([1.0] * N, draws),
    ):
        assert len(subset_loader(DataLoader(examples(), sampler=sampler), ROWS, clone).sampler) == expected


def test_drop_last_counts_what_is_drawn() -> None:
    many = DataLoader(examples(), 20, sampler=WeightedRandomSampler([1.0] * N, 48), drop_last=True)
    assert len(subset_loader(many, ROWS, clone)) == 1
    few = DataLoader(examples(), 10, sampler=RandomSampler(examples(), num_samples=12), drop_last=True)
    with pytest.raises(UnsupportedDataError, match=r"batch_size=10 leaves no batch of 7 examples \(a subset of 14\)"):
        subset_loader(few, ROWS, clone)


def test_weights_are_sliced() -> None:
    weights = np.linspace(0, 1, N)
    sampler = subset_loader(DataLoader(examples(), sampler=WeightedRandomSampler(weights, N)), ROWS, clone).sampler
    assert np.array_equal(sampler.weights.numpy(), weights[ROWS])


def test_sequential_loader_leaves_the_users_loader_alone() -> None:
    loader = DataLoader(examples(), batch_size=5, shuffle=True, drop_last=True, generator=torch.Generator())
    state = torch.get_rng_state(), loader.generator.get_state()
    scored = sequential_loader(loader, loader.dataset)
    assert scored.generator is None
    assert [len(batch[2]) for batch in scored] == [5, 5, 5, 5, 4]
    assert torch.equal(loader.generator.get_state(), state[1])


def test_a_plain_loader_passes() -> None:
    loader = DataLoader(examples(), batch_size=5)
    assert check_plain(loader, what="x") is loader


def test_lengths() -> None:
    class Unready(Dataset):
        def __len__(self):
            raise NotImplementedError

    assert check_map_style([1, 2, 3], what="x") == 3
    with pytest.raises(UnsupportedDataError, match=r"the data \(Unready\) has no length"):
        check_map_style(Unready(), what="the data")
