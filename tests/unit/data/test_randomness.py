"""Blocks of random numbers leave no trace, whatever happens inside."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything

from lightning_memaudit.data.randomness import preserved_randomness, seeded


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), torch.rand(1).item()  # noqa: NPY002


@pytest.mark.parametrize("block", [preserved_randomness, lambda: seeded(3)])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("exported", [None, "12"])
def test_no_trace(block, fails, exported, monkeypatch) -> None:
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        if exported is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, exported)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    expected = draw()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    try:
        with block():
            draw()
            seed_everything(99, workers=True, verbose=False)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert draw() == expected
    assert os.environ.get("PL_GLOBAL_SEED") == exported
    assert os.environ.get("PL_SEED_WORKERS") == exported


def test_an_error_is_not_swallowed() -> None:
    with pytest.raises(ValueError, match="inside"), seeded(0):
        raise ValueError("inside")


@pytest.mark.parametrize("seed", [0, 7, 2**32, 2**63 - 1])
def test_a_seed_gives_the_same_numbers(seed) -> None:
    draws = []
    for _ in range(2):
        draw()
        with seeded(seed):
            draws.append((*draw(), os.environ["PL_GLOBAL_SEED"]))
            seed_everything(workers=False, verbose=False)  # takes the exported seed
    assert draws[0] == draws[1]
    with seeded(seed + 1 if seed < 2**63 - 1 else 0):
        assert draw() != draws[0][:3]


def test_blocks_nest() -> None:
    with seeded(1):
        first = draw()
    with seeded(1):
        with seeded(2):
            draw()
        assert draw() == first
