"""Random numbers that leave no trace outside a block."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["preserved_randomness", "random_state", "seeded"]

_SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Every global random state, and what ``seed_everything`` exports, are afterwards what they were before."""
    exported = {name: os.environ.get(name) for name in _SEED_VARIABLES}
    isolation = isolate_rng()
    isolation.__enter__()
    try:
        yield
    finally:
        isolation.__exit__(None, None, None)  # Lightning's own exit restores nothing after an exception
        for name, value in exported.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under its own seed; the global random states are afterwards what they were before."""
    with preserved_randomness():
        os.environ["PL_GLOBAL_SEED"] = str(seed % 2**32)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - users' code draws from the global generator
        if torch.accelerator.is_available():
            torch.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)  # without the stack that torch keeps for a CUDA yet to come
        yield


def random_state() -> tuple[Any, ...]:
    """Every global random state, to be compared: two are equal when nothing was drawn in between."""
    _, key, position, *gauss = cast("tuple[Any, ...]", np.random.get_state(legacy=True))  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), key.tobytes(), position, *gauss, random.getstate()
