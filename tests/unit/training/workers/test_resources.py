from types import SimpleNamespace

import pytest
import torch

from lightning_memaudit.training.workers import resources
from lightning_memaudit.training.workers.resources import default_workers, share_of_threads, using_threads


def population_on(device: str):
    strategy = SimpleNamespace(root_device=torch.device(device))
    trainer = SimpleNamespace(strategy=strategy)
    return SimpleNamespace(source=SimpleNamespace(datamodule=SimpleNamespace(trainer=trainer)))


def test_one_worker_a_core_as_far_as_memory_allows(monkeypatch) -> None:
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(resources, "_memory_of_this_process", lambda: 2e9)
    for free, expected in [(1e9, 1), (5e9, 3), (1e12, 16)]:
        monkeypatch.setattr(resources, "_free_memory", lambda free=free: free)
        assert default_workers(population_on("cpu")) == expected


def test_one_worker_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert default_workers(population_on("cuda")) == 4
    assert default_workers(population_on("mps")) == 1


def test_memory_is_measured() -> None:
    assert 5e7 < resources._memory_of_this_process() < 1e11
    assert 1e7 < resources._free_memory() < 1e14


def test_threads_are_shared_out_and_given_back() -> None:
    before = torch.get_num_threads()
    with using_threads(4):
        assert torch.get_num_threads() == 4
        assert [share_of_threads(n) for n in (1, 2, 3, 9)] == [4, 2, 1, 1]
        with pytest.raises(KeyError), using_threads(2):
            raise KeyError
        assert torch.get_num_threads() == 4
    assert torch.get_num_threads() == before
