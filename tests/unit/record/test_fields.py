import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_memaudit.record.fields import unpacked
from lightning_memaudit.record.scratch import Scratch


@given(st.integers(1, 70), st.data())
def test_any_stretch_of_packed_bits_is_that_of_the_bits(n, data) -> None:
    bits = np.random.default_rng(n).random((3, n)) < 0.5
    packed = np.packbits(bits, axis=1)
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    np.testing.assert_array_equal(unpacked(packed, n, slice(start, stop)), bits[:, start:stop])
    chosen = np.array(data.draw(st.lists(st.integers(0, n - 1))), dtype=np.int64)
    np.testing.assert_array_equal(unpacked(packed, n, chosen), bits[:, chosen])
    np.testing.assert_array_equal(unpacked(packed, n), bits)


@pytest.mark.parametrize(("limit", "in_memory", "n_files"), [(0, 0, 2), (100, 80, 1), (10**6, 160, 0)])
def test_scratch_holds_in_memory_what_fits(limit, in_memory, n_files) -> None:
    scratch = Scratch(limit)
    arrays = [scratch.allocate((4, 5), np.float32) for _ in range(2)]
    for number, array in enumerate(arrays):
        array[:] = number
    assert [array.mean() for array in arrays] == [0, 1]
    assert (scratch.n_bytes_in_memory, scratch.n_files) == (in_memory, n_files)
    assert scratch.allocate((0, 5), np.float32).shape == (0, 5)
