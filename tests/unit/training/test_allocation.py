"""Memory that is kept for the next step."""

from __future__ import annotations

import platform
import resource
from contextlib import nullcontext

import pytest
import torch

from lightning_memaudit.training import allocation
from lightning_memaudit.training.allocation import freed_memory_kept


def page_faults(context) -> int:
    """Pages that the system hands to this process while large tensors come and go."""
    with context:
        for _ in range(3):
            torch.ones(5_000_000).add_(1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(5_000_000).add_(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_the_next_step_gets_the_memory_of_the_last() -> None:
    assert page_faults(freed_memory_kept()) < 1000
    assert page_faults(nullcontext()) > 10_000  # as before


def test_memory_is_given_back() -> None:
    def in_use() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()

    before = in_use()
    with freed_memory_kept():
        tensors = [torch.ones(5_000_000) for _ in range(10)]
        assert in_use() - before > 1.5e8
        del tensors
        assert in_use() - before > 1.5e8
    assert in_use() - before < 2e7


def test_another_c_library_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(allocation.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocation.ctypes, "CDLL", None)
    with freed_memory_kept():
        pass
