"""Processes and threads that this machine has to offer."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lightning_memaudit.data.rows import available_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_memaudit.training.population import Population

__all__ = ["default_workers", "processes_can_start", "share_of_threads", "using_threads"]


def processes_can_start() -> bool:
    """Whether the system is one (POSIX) on which worker processes are started and ended."""
    return os.name == "posix"


def default_workers(population: Population) -> int:
    """One process a GPU where models train on GPUs, else one a core as far as memory allows."""
    device = population.source.datamodule.trainer.strategy.root_device.type  # type: ignore[union-attr]
    if device == "cuda":
        return torch.cuda.device_count()
    if device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 1 + int(_free_memory() / _memory_of_this_process()))


@contextmanager
def using_threads(n_threads: int) -> Iterator[None]:
    """Let torch use so many threads in this process, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share_of_threads(n_workers: int) -> int:
    """The threads of this process divided among so many, at least one each."""
    return max(1, torch.get_num_threads() // n_workers)


def _free_memory() -> float:
    """Bytes that new processes may take; what the system only keeps as a cache of files counts as free."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        return available_memory()


def _memory_of_this_process() -> float:
    """The most bytes that this process has taken, of which a worker takes about as many."""
    import resource  # POSIX only, as worker processes are

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
