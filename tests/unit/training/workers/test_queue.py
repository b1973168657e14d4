import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_memaudit.exceptions import TrainingError
from lightning_memaudit.training.workers.queue import ModelQueue, even_size, last_size


def leases(queue: ModelQueue) -> list[list[int]]:
    taken = []
    while queue.is_fresh:
        taken.append(queue.take())
    return taken


@given(n_models=st.integers(1, 300), size=st.integers(1, 40), n_workers=st.integers(1, 9), multiple=st.integers(1, 3))
def test_every_model_is_dealt_out_once_in_order_and_no_lease_is_too_large(n_models, size, n_workers, multiple):
    queue = ModelQueue(range(n_models), size=size, n_workers=n_workers, multiple=multiple)
    taken = leases(queue)
    assert [model_id for lease in taken for model_id in lease] == list(range(n_models))
    assert all(len(lease) % size == 0 and len(lease) <= size * multiple for lease in taken[:-1])
    assert not queue.remains


@given(n_models=st.integers(1, 300), largest=st.integers(1, 40), n_workers=st.integers(1, 9))
def test_even_leases_give_every_worker_equally_many(n_models, largest, n_workers):
    size = even_size(n_models, largest, n_workers)
    assert 1 <= size <= largest
    sizes = [len(lease) for lease in leases(ModelQueue(range(n_models), size=size, n_workers=n_workers))]
    assert len(sizes) <= n_workers * -(-n_models // (largest * n_workers))  # no more rounds than there have to be
    assert set(sizes[:-1]) <= {size}


@given(n_models=st.integers(1, 2000), size=st.integers(1, 40), n_workers=st.integers(1, 9))
def test_the_last_leases_are_half_as_large_and_equally_many_for_each(n_models, size, n_workers):
    last = last_size(n_models, size, n_workers)
    sizes = [len(lease) for lease in leases(ModelQueue(range(n_models), size=size, last=last, n_workers=n_workers))]
    assert sum(sizes) == n_models
    n_full = sizes.count(size) if last < size and size in sizes else 0
    assert sizes[:n_full] == [size] * n_full
    assert set(sizes[n_full:-1]) <= {last}
    if n_models <= n_workers * size:
        assert len(sizes) <= n_workers
    else:
        assert last <= max(min(size, 8), (size + 1) // 2)


def test_leases_of_a_usual_audit() -> None:
    queue = ModelQueue(range(256), size=32, last=last_size(256, 32, 2), n_workers=2)
    assert [len(lease) for lease in leases(queue)] == [32] * 5 + [16] * 6


def test_single_models_are_dealt_out_in_leases_that_get_smaller_at_the_end() -> None:
    queue = ModelQueue(range(20), size=1, n_workers=2, multiple=5)
    assert [len(lease) for lease in leases(queue)] == [5, 5, 5, 3, 1, 1]


def test_what_a_killed_worker_had_not_begun_is_next() -> None:
    queue = ModelQueue(range(6), size=2, n_workers=1, multiple=2)
    lease = queue.take()
    assert lease == [0, 1, 2, 3]
    queue.give_back(lease[1:], why="exit code -9")  # 0 is stored; the worker was at the chunk that holds 1
    assert queue.take() == [3, 4, 5]
    assert not queue.is_fresh
    assert queue.remains
    assert queue.take_as_worker() == [1, 2]
    assert not queue.remains


def test_leases_from_before_a_change_of_size_are_begun_as_they_were_dealt_out() -> None:
    queue = ModelQueue(range(8), size=4, n_workers=1, last=4)
    lease = queue.take_as_worker()
    queue.use(2)
    queue.give_back(lease, why="exit code -9", at_once=4)
    assert [queue.take_as_worker() for _ in range(3)] == [[4, 5], [6, 7], [0, 1, 2, 3]]


def test_models_on_which_a_worker_was_killed_wait_until_all_others_are_begun() -> None:
    queue = ModelQueue(range(4), size=1, n_workers=1)
    queue.give_back(queue.take(), why="exit code -9")
    assert [queue.take_as_worker() for _ in range(4)] == [[1], [2], [3], [0]]


def test_a_model_that_kills_its_workers_again_and_again_is_an_error_that_says_how() -> None:
    queue = ModelQueue([7], size=1, n_workers=2)
    for _ in range(2):
        queue.give_back(queue.take_as_worker(), why="exit code -9 (SIGKILL)")
    with pytest.raises(TrainingError, match=r"model 7: 3 worker processes ended .*\(exit code -11.*What is stored is"):
        queue.give_back(queue.take_as_worker(), why="exit code -11 (SIGSEGV): out of luck")


def test_a_chunk_is_named_by_its_first_model() -> None:
    queue = ModelQueue([4, 5, 6], size=3, n_workers=1)
    for _ in range(2):
        queue.give_back(queue.take_as_worker(), why="exit code 1")
    with pytest.raises(TrainingError, match=r"model 4 \(and 2 trained with it\)"):
        queue.give_back(queue.take_as_worker(), why="exit code 1")


def test_a_worker_killed_after_its_last_model_was_stored_costs_nothing() -> None:
    queue = ModelQueue([1], size=1, n_workers=1)
    queue.take()
    queue.give_back([], why="exit code -9")
    assert not queue.remains
