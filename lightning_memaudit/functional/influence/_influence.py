"""Influence: what a train example's presence adds to the accuracy on a test example."""

from __future__ import annotations

from itertools import product
from os import PathLike, fspath
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lightning_memaudit.functional.checks import (
    Array,
    argument_error,
    as_array,
    as_correct,
    as_indices,
    as_mask,
    as_number,
    as_outcomes,
    as_positive_int,
    as_probability,
)
from lightning_memaudit.functional.influence._pairs import InfluencePairs, Region, select_pairs
from lightning_memaudit.functional.influence._tiles import Tiles, binary_or_float, given_out_tiles, influence_tiles

__all__ = [
    "expected_false_pairs",
    "high_influence_pairs",
    "influence",
    "influence_given_out",
    "minimum_detectable_influence",
]

Dense: TypeAlias = NDArray[np.float32]
Out: TypeAlias = str | PathLike[str] | NDArray[Any] | None


@overload
def influence(
    correct_test: Array, mask: Array, *, top_k: None = ..., threshold: None = ..., block: int = ..., out: Out = ...
) -> Dense: ...
@overload
def influence(
    correct_test: Array, mask: Array, *, top_k: int, threshold: float | None = ..., block: int = ..., out: None = ...
) -> InfluencePairs: ...
@overload
def influence(
    correct_test: Array, mask: Array, *, top_k: None = ..., threshold: float, block: int = ..., out: None = ...
) -> InfluencePairs: ...
def influence(
    correct_test: Array,
    mask: Array,
    *,
    top_k: int | None = None,
    threshold: float | None = None,
    block: int = 4096,
    out: Out = None,
) -> Dense | InfluencePairs:
    """Influence of every train example on every test example (Feldman and Zhang 2020, equation 2).

    ``infl_ij = C_ij / n_in_i - (S_j - C_ij) / n_out_i`` with ``C = mask.T @ correct_test`` and ``S`` the column sums of
    ``correct_test``, so one exact product of counts serves in and out. Large products of 0/1 outcomes count packed bits
    if numba is installed (extra ``fast``); the others multiply matrices. Both find the same values.

    The dense matrix is never built unless it is the result. Beyond bool arguments and the result, counting bits takes
    an eighth of the arguments and about 10 MB a thread of torch; products take 150 MB and 4 bytes × M × ``block``.

    Args:
        correct_test: Outcomes on the test examples [M, n_test] in [0, 1].
        mask: Membership of the train examples [M, n_train].
        top_k: Keep this many train examples for each test example; ties go to the lower train index.
        threshold: Keep pairs of at least this influence.
        block: Train examples in a block.
        out: For the dense matrix only: a path, at which a ``.npy`` file is written and mapped, or an array to fill.

    Returns:
        Without ``top_k`` and ``threshold`` the dense float32[n_train, n_test], NaN in the rows of train examples that
        lack models in or out. Otherwise the pairs, in float64; train examples that lack either are in none.

    Raises:
        ArgumentError: Malformed arrays, ``out`` together with a selection, or ``out`` of another shape.

    Example:
        >>> mask = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
        >>> influence(mask[:, :1], mask)
        array([[1.],
               [0.]], dtype=float32)
        >>> influence(mask[:, :1], mask, top_k=1).train_index
        array([0])
    """
    outcomes = binary_or_float(as_correct(correct_test, name="correct_test"))
    inside = as_mask(mask, n_models=len(outcomes))
    region = Region(np.arange(inside.shape[1]), np.arange(outcomes.shape[1]))
    tiles = influence_tiles(outcomes, n_pairs=region.size)(inside)
    return _dense_or_pairs(tiles, region, top_k=top_k, threshold=threshold, block=block, out=out)


@overload
def influence_given_out(
    correct: Array,
    mask: Array,
    *,
    top_k: None = ...,
    threshold: None = ...,
    block: int = ...,
    out: Out = ...,
    min_models: int = ...,
) -> Dense: ...
@overload
def influence_given_out(
    correct: Array,
    mask: Array,
    *,
    top_k: int,
    threshold: float | None = ...,
    block: int = ...,
    out: None = ...,
    min_models: int = ...,
) -> InfluencePairs: ...
@overload
def influence_given_out(
    correct: Array,
    mask: Array,
    *,
    top_k: None = ...,
    threshold: float,
    block: int = ...,
    out: None = ...,
    min_models: int = ...,
) -> InfluencePairs: ...
def influence_given_out(
    correct: Array,
    mask: Array,
    *,
    top_k: int | None = None,
    threshold: float | None = None,
    block: int = 4096,
    out: Out = None,
    min_models: int = 1,
) -> Dense | InfluencePairs:
    """Influence of train example i on train example j among the models with j out.

    A train example is mostly right whenever it is in, which hides what others do for it: exact duplicates at r = .7
    show .30 over all models and 1.00 given j out. Two products of counts a block, and up to twice the memory of
    ``influence``.

    Args:
        correct: Outcomes on the train examples [M, n] in [0, 1].
        mask: Membership [M, n].
        top_k: Keep this many i for each j.
        threshold: Keep pairs of at least this influence.
        block: Rows in a block.
        out: As for ``influence``.
        min_models: Models with j out that are needed both with i in and with i out; fewer give NaN.

    Returns:
        As ``influence``: rows are i, columns are j, and the diagonal is NaN.

    Raises:
        ArgumentError: As ``influence``.

    Example:
        >>> mask = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
        >>> correct = (mask.sum(axis=1, keepdims=True) > 0) * np.ones((1, 2))
        >>> influence_given_out(correct, mask)
        array([[nan,  1.],
               [ 1., nan]], dtype=float32)
    """
    checked, inside = as_outcomes(correct, mask)
    outcomes = binary_or_float(checked)
    least = as_positive_int(min_models, name="min_models")
    region = Region(np.arange(inside.shape[1]), np.arange(inside.shape[1]))
    tiles = given_out_tiles(outcomes, inside, min_models=least, n_pairs=region.size)(inside)
    return _dense_or_pairs(tiles, region, top_k=top_k, threshold=threshold, block=block, out=out)


def high_influence_pairs(
    correct_test: Array,
    mask: Array,
    *,
    memorization: Array,
    labels_train: Array,
    labels_test: Array,
    memorization_threshold: float = 0.25,
    influence_threshold: float = 0.15,
    block: int = 4096,
) -> InfluencePairs:
    """The paper's pairs: a memorized train example with high influence on a test example of its class.

    Feldman and Zhang 2020, section 3.1: ``mem_i >= .25``, ``infl_ij >= .15`` and equal labels.

    Args:
        correct_test: Outcomes on the test examples [M, n_test].
        mask: Membership [M, n_train].
        memorization: Memorization scores [n_train]; NaN is never high.
        labels_train: Class of each train example.
        labels_test: Class of each test example.
        memorization_threshold: Smallest memorization.
        influence_threshold: Smallest influence.
        block: Train examples in a block.

    Returns:
        The pairs, the largest influence first.

    Raises:
        ArgumentError: Malformed arrays, or lengths that differ.

    Example:
        >>> mask = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
        >>> found = high_influence_pairs(mask, mask, memorization=[1, 0], labels_train=[0, 0], labels_test=[0, 1])
        >>> found.train_index, found.test_index
        (array([0]), array([0]))
    """
    outcomes = binary_or_float(as_correct(correct_test, name="correct_test"))
    inside = as_mask(mask, n_models=len(outcomes))
    n_train, n_test = inside.shape[1], outcomes.shape[1]
    mem = as_array(memorization, name="memorization", ndim=1)
    if len(mem) != n_train:
        raise argument_error("memorization", mem, f"{n_train} scores are needed, as mask has columns")
    row_labels = as_indices(labels_train, name="labels_train", size=n_train)
    column_labels = as_indices(labels_test, name="labels_test", size=n_test)
    least = as_number(influence_threshold, name="influence_threshold", least=-1.0, most=1.0)
    memorized = mem >= as_number(memorization_threshold, name="memorization_threshold", least=-1.0, most=1.0)
    region = Region(np.flatnonzero(memorized), np.arange(n_test), row_labels, column_labels)
    tiles = influence_tiles(outcomes, n_pairs=region.size)(inside)
    rows = as_positive_int(block, name="block")
    return select_pairs(tiles, region, block=rows, top_k=None, threshold=least)


def minimum_detectable_influence(
    n_in: float, n_out: float, n_tests: int, *, level: float = 0.05, power: float = 0.8
) -> float:
    """Smallest influence that a Bonferroni test over all pairs finds with a given power, in the worst case p = .5.

    ``(z(1 - level / n_tests) + z(power)) * sqrt(1 / (4 n_in) + 1 / (4 n_out))``; above 1 nothing can be found.

    Args:
        n_in: Models with the train example in.
        n_out: Models with it out.
        n_tests: Pairs that are looked at.
        level: Probability of any false pair.
        power: Probability of finding a pair of this influence.

    Returns:
        The influence.

    Raises:
        ArgumentError: A count is not positive, or a probability not in (0, 1).

    Example:
        >>> print(f"{minimum_detectable_influence(1400, 600, 5_000_000):.3f}")
        0.157
    """
    tests = as_positive_int(n_tests, name="n_tests")
    tail = as_probability(level, name="level") / tests
    z = stats.norm.isf(tail) + stats.norm.ppf(as_probability(power, name="power"))
    return float(z * _worst_case_error(n_in, n_out))


def expected_false_pairs(n_in: float, n_out: float, n_tests: int, *, threshold: float = 0.15) -> float:
    """Expected pairs with estimated influence over a threshold when there is none at all, in the worst case p = .5.

    Args:
        n_in: Models with the train example in.
        n_out: Models with it out.
        n_tests: Pairs that are looked at.
        threshold: Influence at which a pair counts.

    Returns:
        Expected number of false pairs, by the normal approximation.

    Raises:
        ArgumentError: A count is not positive.

    Example:
        >>> round(expected_false_pairs(140, 60, 5_000_000), -4)
        130000.0
    """
    tests = as_positive_int(n_tests, name="n_tests")
    least = as_number(threshold, name="threshold", least=-1.0, most=1.0)
    return float(tests * stats.norm.sf(least / _worst_case_error(n_in, n_out)))


def _worst_case_error(n_in: float, n_out: float) -> float:
    for name, size in (("n_in", n_in), ("n_out", n_out)):
        if not isinstance(size, int | float | np.integer | np.floating) or not 0 < size < np.inf:
            raise argument_error(name, size, "a positive number of models is needed")
    return float(np.sqrt(0.25 / n_in + 0.25 / n_out))


def _dense_or_pairs(
    tiles: Tiles, region: Region, *, top_k: int | None, threshold: float | None, block: int, out: Out
) -> Dense | InfluencePairs:
    """Select pairs, or fill the dense matrix."""
    most = as_positive_int(block, name="block")
    if top_k is not None or threshold is not None:
        if out is not None:
            raise argument_error(
                "out", out, "top_k and threshold give pairs and no dense matrix; only one of them is needed"
            )
        least = None if threshold is None else as_number(threshold, name="threshold", least=-1.0, most=1.0)
        k = None if top_k is None else as_positive_int(top_k, name="top_k")
        return select_pairs(tiles, region, block=most, top_k=k, threshold=least)
    shape = len(region.rows), len(region.columns)
    dense: Dense
    if out is None:
        dense = np.empty(shape, dtype=np.float32)
    elif isinstance(out, np.ndarray):
        if out.shape != shape or out.dtype != np.float32:
            raise argument_error("out", out, f"float32{list(shape)} is needed")
        dense = out
    else:
        dense = np.lib.format.open_memmap(fspath(out), mode="w+", dtype=np.float32, shape=shape)
    height, width = tiles.tile_shape(shape[0], most)

    def fill(corner: tuple[int, int]) -> None:
        top, left = corner
        rows, columns = region.rows[top : top + height], region.columns[left : left + width]
        dense[top : top + height, left : left + width] = tiles.tile(rows, columns)

    # Row after row, so that a file is written from its beginning to its end.
    for _ in tiles.each(fill, product(range(0, shape[0], height), range(0, shape[1], width))):
        pass
    return dense
