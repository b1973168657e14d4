"""Examples in memory give the batches that the loader gives, or are refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_memaudit.data.equality import equal
from lightning_memaudit.data.randomness import random_state
from lightning_memaudit.data.rows import (
    CollatedRows,
    InMemoryLoader,
    NotInMemoryError,
    TensorRows,
    available_memory,
    materialise,
)
from tests.helpers.zoo import Items, Named, as_dict, examples

N = 50


class Made(Dataset[Any]):
    """``make(i)`` for each of ``n`` examples."""

    def __init__(self, make: Any, n: int = N) -> None:
        self.make = make
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class InBulk(Made):
    def __getitem__(self, index: int) -> Any:
        raise AssertionError("one by one")

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self.make(i) for i in indices]


def pad(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    texts, labels = zip(*samples, strict=True)
    return torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True), torch.tensor(labels)


def centre(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = torch.utils.data.default_collate(samples)
    return x - x.mean(0), y


def batches_of_eight_at_most(samples: list[Any]) -> Any:
    assert len(samples) <= 8
    return torch.utils.data.default_collate(samples)


def drop_one(samples: list[Any]) -> Any:
    return torch.utils.data.default_collate(samples[1:] if len(samples) > 1 else samples)


def text(i: int, *, long: int = 3) -> tuple[torch.Tensor, int]:
    return torch.arange(1, 2 + i % long), i % 2


def nearly_all_long(i: int) -> tuple[torch.Tensor, int]:
    return torch.ones(2 if i == 31 else 5), i % 2


GATHERED = {
    "tuples": lambda: DataLoader(TensorDataset(*examples(N)), 8),
    "dicts": lambda: DataLoader(Items(as_dict, N), 8),
    "namedtuples": lambda: DataLoader(Items(Named, N), 8),
    "nested": lambda: DataLoader(Items(lambda x, y: {"in": [x, {"more": (x[0], x[1:3])}], "y": y}, N), 8),
    "one tensor": lambda: DataLoader(TensorDataset(examples(N)[0]), 8),
    "numbers and arrays": lambda: DataLoader(Made(lambda i: (i, i / 2, np.full(3, i), np.float32(i))), 8),
    "bulk": lambda: DataLoader(InBulk(lambda i: torch.tensor([i])), 8),
    "batches of one": lambda: DataLoader(TensorDataset(*examples(N)), 1),
    "batches of more than there is": lambda: DataLoader(TensorDataset(*examples(N)), 200, drop_last=True),
    "NaN": lambda: DataLoader(Made(lambda i: (np.array([np.nan, i]), float("nan"))), 8),
}
COLLATED = {
    "pads": lambda: DataLoader(Made(text), 8, collate_fn=pad),
    "pads one in fifty": lambda: DataLoader(Made(nearly_all_long), 8, collate_fn=pad),
    "centres": lambda: DataLoader(TensorDataset(*examples(N)), 8, collate_fn=centre),
    "keeps lists": lambda: DataLoader(Made(lambda i: (torch.ones(2), str(i))), 8),
    "lists of samples": lambda: DataLoader(Made(lambda i: torch.ones(i % 3)), 8, collate_fn=list),
    "takes eight at most": lambda: DataLoader(TensorDataset(*examples(N)), 8, collate_fn=batches_of_eight_at_most),
    "drops a sample": lambda: DataLoader(TensorDataset(*examples(N)), 8, collate_fn=drop_one),
    "leaves a number": lambda: DataLoader(Made(lambda i: i), 8, collate_fn=lambda samples: (torch.tensor(samples), 1)),
}


@pytest.mark.parametrize("name", GATHERED)
def test_rows_are_gathered_as_the_loader_collates_them(name) -> None:
    loader = GATHERED[name]()
    rows = materialise(loader, seed=0)
    assert isinstance(rows, TensorRows)
    assert len(rows) == N
    assert equal(list(InMemoryLoader(rows, loader.batch_size)), list(DataLoader(loader.dataset, loader.batch_size)))
    both = rows.batch(torch.tensor([[3, 1], [0, 2]]))
    expected = [rows.batch(torch.tensor([3, 1])), rows.batch(torch.tensor([0, 2]))]
    assert equal(both, torch.utils._pytree.tree_map(lambda *parts: torch.stack(parts), *expected))


@pytest.mark.parametrize("name", COLLATED)
def test_a_collate_of_its_own_is_called_for_each_batch(name) -> None:
    loader = COLLATED[name]()
    rows = materialise(loader, seed=0)
    assert isinstance(rows, CollatedRows)
    assert len(rows) == N
    assert rows.to(torch.device("cpu")) is rows
    again = DataLoader(loader.dataset, 8, collate_fn=loader.collate_fn)
    assert equal(list(InMemoryLoader(rows, 8)), list(again))


def test_a_loader_in_memory_draws_what_a_sequential_loader_draws() -> None:
    loader = GATHERED["tuples"]()
    rows = materialise(loader, seed=0)
    torch.manual_seed(4)
    list(loader)
    expected = random_state()
    torch.manual_seed(4)
    list(InMemoryLoader(rows, 8))
    assert random_state() == expected


def test_a_loader_in_memory_says_how_many_examples_it_goes_through() -> None:
    loader = InMemoryLoader(materialise(GATHERED["tuples"](), seed=0), 8)
    assert len(loader.dataset) == N
    assert [len(y) for _, y in loader] == [8] * 6 + [2]


AUGMENTED = {
    "torch": lambda i: torch.tensor([float(i)]) + torch.randn(1),
    "numpy": lambda i: torch.tensor([i + np.random.rand()]),  # noqa: NPY002
    "python": lambda i: torch.tensor([i + random.random()]),
    "drawn in vain": lambda i: torch.tensor([i + 0 * random.random()]),
}


@pytest.mark.parametrize("name", AUGMENTED)
def test_augmentation_is_refused(name) -> None:
    before = random_state()
    with pytest.raises(NotInMemoryError, match=r"draws random numbers \(augmentation\)"):
        materialise(DataLoader(Made(AUGMENTED[name]), 8), seed=0)
    assert random_state() == before


@pytest.mark.parametrize(
    "wrap", [torch.tensor, float, str, np.float64, lambda x: [x], lambda x: {"x": np.array([x])}, lambda x: (x, x)]
)
def test_augmentation_from_a_generator_of_its_own_is_refused(wrap) -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(NotInMemoryError, match="draws random numbers"):
        materialise(DataLoader(Made(lambda i: wrap(i + generator.random())), 8, collate_fn=list), seed=0)


@pytest.mark.parametrize("rare", [False, True])
def test_a_collate_that_draws_random_numbers_is_refused(rare) -> None:
    def mix(samples: list[Any]) -> Any:
        x, y = torch.utils.data.default_collate(samples)
        return (x.flip(0), y) if random.random() > (0.999999 if rare else 0.5) else (x, y)

    with pytest.raises(NotInMemoryError, match="collate_fn draws random numbers"):
        materialise(DataLoader(TensorDataset(*examples(N)), 8, collate_fn=mix), seed=0)


def test_the_memory_that_is_needed_is_measured_first() -> None:
    read: list[int] = []

    def image(i: int) -> torch.Tensor:
        read.append(i)
        return torch.zeros(1000)

    loader = DataLoader(Made(image, 10_000), 8)
    with pytest.raises(NotInMemoryError, match=r"would take about 0\.0 GB in memory, and 0\.0 GB are allowed"):
        materialise(loader, seed=0, limit=39e6)
    assert len(read) < 100
    assert len(materialise(loader, seed=0, limit=41e6)) == 10_000
    with pytest.raises(NotInMemoryError, match=r"would take about \d{6,}\.\d GB"):
        materialise(DataLoader(Made(image, 10**15), 8), seed=0)


@pytest.mark.parametrize("sample", ["x" * 1000, b"x" * 1000, np.zeros(1000, dtype=np.int8)])
def test_what_is_no_tensor_takes_memory_too(sample) -> None:
    loader = DataLoader(Made(lambda i: sample, 1000), 8, collate_fn=list)
    with pytest.raises(NotInMemoryError, match="would take"):
        materialise(loader, seed=0, limit=0.9e6)
    assert len(materialise(loader, seed=0, limit=1.1e6)) == 1000


def test_data_that_only_workers_can_read_are_refused() -> None:
    def read(i: int) -> int:
        return torch.utils.data.get_worker_info().id

    with pytest.raises(NotInMemoryError, match="raises AttributeError when it is read at once"):
        materialise(DataLoader(Made(read), 8, num_workers=1), seed=0)
    loader = DataLoader(Made(lambda i: i), 8, num_workers=1, worker_init_fn=print)
    with pytest.raises(NotInMemoryError, match="worker_init_fn"):
        materialise(loader, seed=0)


def test_reading_leaves_the_random_numbers_alone() -> None:
    before = random_state()
    materialise(GATHERED["tuples"](), seed=12)
    assert random_state() == before


@pytest.mark.parametrize("name", ["tuples", "dicts", "namedtuples", "nested", "NaN"])
def test_rows_that_are_written_are_mapped(name, tmp_path) -> None:
    rows = materialise(GATHERED[name](), seed=0)
    rows.save(tmp_path / "rows.pt")
    mapped = TensorRows.load(tmp_path / "rows.pt")
    everything = torch.arange(N)
    assert equal(mapped.batch(everything), rows.batch(everything))
    assert type(mapped.batch(everything)) is type(rows.batch(everything))
    maps = Path("/proc/self/maps")  # where the system has it
    assert not maps.exists() or str(tmp_path / "rows.pt") in maps.read_text()
    mapped.leaves[0].zero_()
    assert equal(TensorRows.load(tmp_path / "rows.pt").batch(everything), rows.batch(everything))


def test_the_memory_of_this_machine() -> None:
    assert 1e8 < available_memory() < 1e14
