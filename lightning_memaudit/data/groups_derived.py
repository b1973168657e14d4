"""Groupings that are made of others, or of scores: intersections, training frequency, bins of memorization."""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from lightning_memaudit.data.groups_values import LABEL, MISSING, Grouping
from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.functional.memorization import MEMORIZATION_BINS, memorization_bins

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lightning_memaudit.functional.checks import Array, IntArray

__all__ = ["TRAIN", "DerivedGrouping", "Frequency", "Intersection", "by_memorization"]

TRAIN = "train"
_JOINED_BY = " × "
_PARTS = ("head", "torso", "tail")


@runtime_checkable
class DerivedGrouping(Protocol):
    """A grouping that is made of others: ``Intersection``, ``Frequency``, or one of your own."""

    @property
    def parts(self) -> tuple[Any, ...]:
        """What it is made of: ``"label"``, the name of another grouping, or anything else that ``groups=`` takes."""

    def derive(self, name: str, parts: Sequence[Mapping[str, Grouping]]) -> dict[str, Grouping]:
        """The grouping of each split, with the same names in all.

        Args:
            name: What it is called, for messages.
            parts: The groupings that it is made of, each by split.
        """


@dataclass(frozen=True, init=False)
class Intersection:
    """Every combination of several groupings that occurs in some split, such as ``Black × Female``.

    Args:
        *parts: Two or more of: ``"label"``, the name of another grouping, or anything else that ``groups=`` takes.
        of: The same as a list, for configuration files.

    Raises:
        ArgumentError: Fewer than two parts.

    Example:
        >>> race, sex = Grouping(np.array([1, 0]), ("Black", "White")), Grouping(np.array([0, 0]), ("Female", "Male"))
        >>> Intersection("race", "sex").derive("race x sex", [{"train": race}, {"train": sex}])["train"].names
        ('Black × Female', 'White × Female')
    """

    of: tuple[Any, ...]

    def __init__(self, *parts: Any, of: Iterable[Any] = ()) -> None:
        given = (*parts, *((of,) if isinstance(of, str) else of))
        if len(given) < 2:
            raise ArgumentError(
                f"Intersection({', '.join(map(repr, given))}): two or more groupings are needed, such as "
                "Intersection('race', 'sex')"
            )
        object.__setattr__(self, "of", given)

    @property
    def parts(self) -> tuple[Any, ...]:
        """The groupings that are crossed."""
        return self.of

    def derive(self, name: str, parts: Sequence[Mapping[str, Grouping]]) -> dict[str, Grouping]:
        """The combinations, in the order of their parts, for the splits that all parts have."""
        del name
        splits = [split for split in parts[0] if all(split in part for part in parts)]
        if not splits:
            return {}
        rows = [np.stack([part[split].codes for part in parts], axis=1) for split in splits]
        combinations, codes = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
        known = [next(iter(part.values())).names for part in parts]
        named = [[names[i] for names, i in zip(known, row, strict=True)] for row in combinations.tolist()]
        names = tuple(_JOINED_BY.join(row) for row in named)
        if len(set(names)) < len(names):  # a name that holds the sign itself
            names = tuple(_JOINED_BY.join(map(repr, row)) for row in named)
        ends = np.cumsum([len(row) for row in rows])[:-1]
        divided = np.split(codes.reshape(-1).astype(np.int64), ends)
        found = [part[splits[0]].made_by for part in parts]
        made_by = next((how for how in found if how is not None), None)
        return {split: Grouping(own, names, made_by) for split, own in zip(splits, divided, strict=True)}


@dataclass(frozen=True)
class Frequency:
    """Head, torso and tail of a grouping by how frequent its groups are in the TRAINING split, whole.

    A group is in the head where the groups more frequent than it hold less than ``shares[0]`` of the training
    examples, in the torso where they hold less than ``shares[1]``, else in the tail. So groups of equal size stay
    together, the most frequent one is in the head, and where all are equal there is no tail. With ``counts`` the
    tail has fewer than ``counts[0]`` training examples, the head more than ``counts[1]``; (20, 100) are the few-,
    medium- and many-shot classes of Liu et al. 2019 (arXiv:1904.05160, §4.1).

    All splits use the same assignment; what training lacks is in the tail. Missing values are a group of their own,
    and have no part in the shares. Of the three, those without an example in any split are not listed.

    Args:
        of: ``"label"``, the name of another grouping, or anything else that ``groups=`` takes.
        shares: Cumulative shares of the training examples in (0, 1), ascending; None takes (0.5, 0.8).
        counts: Numbers of training examples, ascending, instead of shares.

    Raises:
        ArgumentError: Both cuts, or cuts that are out of range or do not ascend.

    Example:
        >>> digits = Grouping(np.array([0] * 6 + [1] * 3 + [2]), ("0", "1", "2"))
        >>> Frequency("label").derive("frequency", [{"train": digits}])["train"]
        Grouping(codes=array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2]), names=('head', 'torso', 'tail'))
    """

    of: Any = LABEL
    shares: tuple[float, float] | None = None
    counts: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.counts is not None:
            if self.shares is not None:
                raise ArgumentError(f"shares={self.shares!r}, counts={self.counts!r}: give one kind of cuts, not both")
            object.__setattr__(self, "counts", _cuts(self.counts, "counts", operator.index, "whole numbers from 1"))
            return
        shares = _cuts((0.5, 0.8) if self.shares is None else self.shares, "shares", float, "numbers in (0, 1)")
        if not shares[1] < 1:
            raise argument_error("shares", self.shares, "numbers in (0, 1) are needed, such as (0.5, 0.8)")
        object.__setattr__(self, "shares", shares)

    @property
    def parts(self) -> tuple[Any, ...]:
        """The grouping whose groups are counted."""
        return (self.of,)

    def derive(self, name: str, parts: Sequence[Mapping[str, Grouping]]) -> dict[str, Grouping]:
        """Head, torso and tail, for the splits that the grouping has.

        Raises:
            ArgumentError: There is no training split to count in.
        """
        (divided,) = parts
        if TRAIN not in divided:
            raise ArgumentError(
                f"groups[{name!r}]: frequencies are those of split 'train', which is not there; it has "
                f"{', '.join(map(repr, divided)) or 'no split'}"
            )
        known = divided[TRAIN]
        cut = self._cut(np.bincount(known.codes, minlength=len(known.names)), known.names)
        codes = {split: cut[own.codes] for split, own in divided.items()}
        listed = np.unique(np.concatenate(list(codes.values())))
        names = tuple((*_PARTS, MISSING)[i] for i in listed)
        made_by = {"method": "head, torso and tail by training frequency"}
        return {split: Grouping(np.searchsorted(listed, own), names, made_by) for split, own in codes.items()}

    def _cut(self, n: IntArray, names: tuple[str, ...]) -> IntArray:
        """0, 1 or 2 for each group, 3 for that of missing values."""
        there = np.array([group != MISSING for group in names], dtype=np.bool_)
        if self.counts is not None:
            few, many = self.counts
            cut = np.where(n > many, 0, np.where(n < few, 2, 1))
        else:
            more_frequent = np.array([n[there & (n > own)].sum() for own in n])
            total = max(n[there].sum(), 1)
            cut = np.searchsorted(np.array(self.shares), more_frequent / total, side="right")
            cut = np.where(n == 0, 2, cut)
        return np.where(there, cut, len(_PARTS)).astype(np.int64)


def by_memorization(score: Array, edges: Array = MEMORIZATION_BINS) -> Grouping:
    """Bins of memorization, for the training split alone; examples without a score are a group of their own.

    Scores are noisy. Outcomes of the same models share that noise, so that bins differ in them by chance too: take
    the scores of another audit. (The impact section's own bins come from other models than its drops.)

    Args:
        score: One per training example, NaN where there is none, such as ``report.memorization.score``.
        edges: Ascending edges; the first bin holds all that is lower, the last all that is higher.

    Raises:
        ArgumentError: Fewer than two edges, or edges that do not ascend.

    Example:
        ``Audit(..., groups={"memorization": by_memorization(earlier.memorization.score)})``

        >>> by_memorization([0.05, 0.3, float("nan")], edges=[0, 0.25, 0.5, 1])
        Grouping(codes=array([0, 1, 3]), names=('below 0.25', '0.25 to 0.5', '0.5 or more', '(missing)'))
    """
    codes, cuts = memorization_bins(score, edges)
    inner = [f"{float(cut)}" for cut in cuts[1:-1]]
    names = ["all"]
    if inner:
        between = [f"{low} to {high}" for low, high in itertools.pairwise(inner)]
        names = [f"below {inner[0]}", *between, f"{inner[-1]} or more"]
    missing = codes < 0
    if missing.any():
        codes, names = np.where(missing, len(names), codes), [*names, MISSING]
    return Grouping(codes, tuple(names), {"method": "bins of memorization scores"})


def _cuts(cuts: Any, name: str, convert: Any, wanted: str) -> tuple[Any, Any]:
    try:
        low, high = (convert(cut) for cut in cuts)
    except (TypeError, ValueError):
        low, high = 0, 0
    if not 0 < low < high:
        raise argument_error(name, cuts, f"two ascending {wanted} are needed, the cuts of tail, torso and head")
    return low, high
