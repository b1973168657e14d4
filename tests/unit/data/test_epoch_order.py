"""The order of drawing is that of the real DataLoader, and so are the random numbers that are left."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, Subset, TensorDataset, WeightedRandomSampler

from lightning_memaudit.data.epoch_order import EpochOrder

KINDS = (
    "sequential",
    "shuffle",
    "generator",
    "generator of the sampler",
    "replacement",
    "replacement, generator",
    "fewer draws",
    "more draws",
    "weighted",
    "weighted, generator",
)


def make(kind: str, n: int, batch_size: int, **options) -> DataLoader:
    rows = np.random.default_rng(n).permutation(2 * n)[:n]
    data = Subset(TensorDataset(torch.arange(2 * n)), rows.tolist())
    mine = torch.Generator().manual_seed(n)
    weights = np.random.default_rng(0).random(n) + 0.1
    arguments = {
        "sequential": {},
        "shuffle": {"shuffle": True},
        "generator": {"shuffle": True, "generator": mine},
        "generator of the sampler": {"sampler": RandomSampler(data, generator=mine)},
        "replacement": {"sampler": RandomSampler(data, replacement=True)},
        "replacement, generator": {"sampler": RandomSampler(data, replacement=True, generator=mine), "generator": mine},
        "fewer draws": {"sampler": RandomSampler(data, num_samples=max(1, n // 2))},
        "more draws": {"sampler": RandomSampler(data, num_samples=2 * n + 1, generator=mine)},
        "weighted": {"sampler": WeightedRandomSampler(weights, n)},
        "weighted, generator": {"sampler": WeightedRandomSampler(weights, n // 2 + 1, False, generator=mine)},
    }
    return DataLoader(data, batch_size, **arguments[kind], **options)


def states(loader: DataLoader) -> list[bytes]:
    generators = [loader.generator, getattr(loader.sampler, "generator", None)]
    held = [generator.get_state().numpy().tobytes() for generator in generators if generator is not None]
    return [torch.get_rng_state().numpy().tobytes(), *held]


def by_loader(loader: DataLoader, n_epochs: int, n_batches: int | None, seed: int):
    torch.manual_seed(seed)
    for _ in range(n_epochs):
        drawn = [batch.tolist() for (batch,) in islice(iter(loader), n_batches)]
        yield drawn, states(loader)


def by_order(loader: DataLoader, n_epochs: int, n_batches: int | None, seed: int):
    torch.manual_seed(seed)
    order = EpochOrder(loader)
    for _ in range(n_epochs):
        order.start_epoch()
        drawn = order.draw(n_batches)
        yield [part.tolist() for part in torch.split(drawn, order.batch_size) if len(part)], states(loader)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_whole_epochs_are_those_of_the_loader(kind, n, batch_size, drop_last, seed) -> None:
    real, ours = (make(kind, n, batch_size, drop_last=drop_last) for _ in range(2))
    assert list(by_order(ours, 3, None, seed)) == list(by_loader(real, 3, None, seed))
    assert len(EpochOrder(ours)) == sum(len(batch) for batch in next(by_loader(real, 1, None, seed))[0])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    drop_last=st.booleans(),
    share=st.floats(0, 1),
)
def test_epochs_that_end_early_draw_no_further_than_the_loader(kind, n, batch_size, drop_last, share) -> None:
    """As the Trainer's do: it stops at the last batch and asks for no more."""
    real, ours = (make(kind, n, batch_size, drop_last=drop_last) for _ in range(2))
    n_batches = max(1, int(share * len(real)))
    assert list(by_order(ours, 3, n_batches, 5)) == list(by_loader(real, 3, n_batches, 5))


@pytest.mark.parametrize(
    ("kind", "options", "n_batches"),
    [
        ("shuffle", {}, None),
        ("generator", {"persistent_workers": True}, None),
        ("generator", {"persistent_workers": True, "prefetch_factor": 1}, 1),
        ("replacement, generator", {}, 2),
        ("weighted", {"persistent_workers": True}, 2),
    ],
)
def test_worker_processes_draw_ahead_and_may_live_on(kind, options, n_batches) -> None:
    real, ours = (make(kind, 40, 4, num_workers=1, **options) for _ in range(2))
    assert list(by_order(ours, 2, n_batches, 7)) == list(by_loader(real, 2, n_batches, 7))


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_can_go_on_from_an_iterator_that_something_else_made(kind) -> None:
    real, ours = (make(kind, 21, 4) for _ in range(2))
    expected = list(by_loader(real, 2, 5, 3))
    torch.manual_seed(3)
    iter(ours)
    order = EpochOrder(ours)
    order.go_on()
    first = order.draw(5)
    order.start_epoch()
    second = order.draw(5)
    assert [torch.cat([torch.tensor(batch) for batch in drawn]).tolist() for drawn, _ in expected] == [
        first.tolist(),
        second.tolist(),
    ]
    assert states(ours) == expected[-1][1]


def test_the_workers_of_another_loader_count_when_it_is_given() -> None:
    plain, real = make("weighted", 40, 4), make("weighted", 40, 4, num_workers=1, persistent_workers=True)
    expected = list(by_loader(real, 2, 2, 9))
    torch.manual_seed(9)
    order = EpochOrder(plain, workers=make("weighted", 12, 3, num_workers=1, persistent_workers=True))
    found = []
    for _ in range(2):
        order.start_epoch()
        found.append(([part.tolist() for part in torch.split(order.draw(2), 4)], states(plain)))
    assert found == expected


def test_a_loader_over_anything_but_a_subset_is_refused() -> None:
    with pytest.raises(TypeError, match="over a Subset"):
        EpochOrder(DataLoader(TensorDataset(torch.arange(3))))
