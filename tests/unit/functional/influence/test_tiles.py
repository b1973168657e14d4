"""Values by population count and by products are the same numbers, on one thread and on several."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from lightning_memaudit.functional.influence import _tiles as tiles
from tests.helpers.counting import counting


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def draw(n_models: int, n: int, seed: int):
    rng = np.random.default_rng(seed)
    correct, mask = rng.random((n_models, n)) < 0.5, rng.random((n_models, n)) < 0.7
    mask[:, 0], mask[:, 1] = True, False
    return correct, mask


def both_engines(build):
    found = []
    for packed in (True, False):
        with counting(bits=packed):
            found.append(build())
        assert found[-1].packed is packed
    return found


@pytest.mark.parametrize("n_models", [12, 64, 150])
def test_both_engines_give_equal_bits(n_models) -> None:
    correct, mask = draw(n_models, 40, seed=n_models)
    rows, columns = np.array([0, 1, 2, 7, 30]), np.arange(3, 35)
    for build in (
        lambda: tiles.influence_tiles(correct, n_pairs=1)(mask),
        lambda: tiles.given_out_tiles(correct, mask, min_models=2, n_pairs=1)(mask[::-1]),
        lambda: tiles.mutual_tiles(tiles.given_out_tiles(correct, mask, min_models=1, n_pairs=1)(mask)),
    ):
        bits, products = both_engines(build)
        np.testing.assert_array_equal(bits.tile(rows, columns), products.tile(rows, columns))
        assert np.isfinite(bits.tile(rows, columns)[2:]).any()
        assert np.isnan(bits.tile(rows, columns)[:2]).all()


@pytest.fixture
def bits():
    with counting(bits=True):
        yield


def test_fractions_are_never_packed(bits) -> None:
    correct, mask = draw(20, 6, seed=1)
    half = correct * 0.5
    assert not tiles.influence_tiles(half, n_pairs=1)(mask).packed
    assert not tiles.given_out_tiles(half, mask, min_models=1, n_pairs=1)(mask).packed
    everything = np.arange(6), np.arange(6)
    np.testing.assert_allclose(
        tiles.influence_tiles(half, n_pairs=1)(mask).tile(*everything),
        tiles.influence_tiles(correct, n_pairs=1)(mask).tile(*everything) / 2,
    )


@pytest.mark.parametrize("packed", [True, False])
def test_tiles_have_bounded_size(packed) -> None:
    work = tiles.Tiles(lambda rows, columns: np.zeros((len(rows), len(columns))), packed)
    for n_rows, block in [(1, 4096), (50_000, 4096), (100, 7), (0, 5), (10**8, 10**8)]:
        height, width = work.tile_shape(n_rows, block)
        assert 1 <= height <= max(1, min(n_rows, block))
        assert width >= 1
        assert height * width <= 2**22 or width == 1


@pytest.mark.parametrize(("packed", "threads"), [(True, 2), (False, 1)])
def test_only_packed_tiles_share_the_threads_of_torch(packed, threads, two_threads) -> None:
    work = tiles.Tiles(lambda rows, columns: np.zeros((1, 1)), packed)
    seen = set()

    def job(number):
        seen.add(threading.get_ident())
        time.sleep(0.01)
        return number

    assert list(work.each(job, range(20))) == list(range(20))
    assert len(seen) == threads
    torch.set_num_threads(1)
    seen.clear()
    list(work.each(job, range(3)))
    assert seen == {threading.get_ident()}


def test_an_error_in_a_tile_arrives(two_threads) -> None:
    def job(number):
        raise MemoryError(f"tile {number}")

    with pytest.raises(MemoryError, match="tile 0"):
        list(tiles.Tiles(lambda rows, columns: np.zeros((1, 1)), packed=True).each(job, range(5)))


def test_two_python_threads_may_compute_at_once(two_threads, bits) -> None:
    expected, found = {}, {}

    def compute(seed, into):
        correct, mask = draw(300, 200, seed)
        work = tiles.influence_tiles(correct, n_pairs=1)(mask)
        into[seed] = list(work.each(lambda row: work.tile(np.array([row]), np.arange(200)), range(200)))

    for seed in range(4):
        compute(seed, expected)
    threads = [threading.Thread(target=compute, args=(seed, found)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        np.testing.assert_array_equal(np.concatenate(found[seed]), np.concatenate(expected[seed]))
