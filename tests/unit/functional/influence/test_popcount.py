"""The compiled kernel against numpy's own population count."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_memaudit.functional.influence import _popcount as popcount


def test_ones_of_every_power_and_of_random_words() -> None:
    words = np.random.default_rng(0).integers(0, 2**64, 500, dtype=np.uint64)
    powers = np.uint64(1) << np.arange(64, dtype=np.uint64)
    for word in [*words, *powers, np.uint64(0), np.uint64(2**64 - 1)]:
        assert popcount.ones(word) == int(word).bit_count()


@pytest.mark.parametrize(
    ("a", "b", "n_words"), [(5, 1, 1), (3, 63, 4), (2, 64, 15), (2, 65, 16), (1, 200, 33), (4, 5, 0)]
)
def test_common_ones_equal_numpy(a, b, n_words) -> None:
    rng = np.random.default_rng(a)
    first, second = (rng.integers(0, 2**64, (n, n_words), dtype=np.uint64) for n in (a, b))
    out = np.full((a, b), -1, dtype=np.int32)
    popcount.common_ones(first, second, out)
    np.testing.assert_array_equal(out, np.bitwise_count(first[:, None] & second[None]).sum(axis=-1))
