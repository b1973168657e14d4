"""Memory that is kept for the next step."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest
import torch

from lightning_memaudit.training.engines import malloc
from lightning_memaudit.training.engines.malloc import freed_memory_kept

FAULTS = """
import resource
import torch
from lightning_memaudit.training.engines.malloc import freed_memory_kept

with freed_memory_kept():
    for turn in range(13):
        if turn == 3:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensors = [torch.ones(5_000_000) for _ in range(5)]
        del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults() -> int:
    """Pages that the system hands out while large tensors come and go, in a process whose heap nothing else cuts up."""
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep memory")
def test_the_next_step_gets_the_memory_of_the_last() -> None:
    assert page_faults() < 20_000  # without it 195,000, but for heaps whose end happens to be in use


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
    monkeypatch.setattr(malloc.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(malloc.ctypes, "CDLL", None)
    with freed_memory_kept():
        pass
