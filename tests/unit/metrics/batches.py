"""Batches for the metrics, shared with the processes of ddp_script.py."""

from __future__ import annotations

import torch

NUM_GROUPS = 5


def batches(n: int = 4) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Batches of unequal size that each lack groups; group 4 is in none, group 3 in one only."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for i in range(n):
        size = 10 + 7 * i
        groups = torch.randint(0, 2, (size,), generator=generator) * 2 if i != 2 else torch.full((size,), 3)
        groups[0] = i % 3
        target = torch.randint(0, 3, (size,), generator=generator)
        made.append((torch.randn(size, 3, generator=generator) + torch.eye(3)[target], target, groups))
    return made
