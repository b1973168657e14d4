"""Subpopulations: clusters of embeddings within each class, in a stable number."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.data.groups_values import LABEL, Grouping
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError
from lightning_memaudit.functional.checks import argument_error, as_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lightning_memaudit.functional.checks import Array, FloatArray, IntArray

__all__ = ["Clusters", "by_cluster"]

_TRAIN = "train"
_LEAST = 10  # examples a cluster, on average; with fewer the halves hold too few to find the same clusters by
_AS_STABLE = 0.05  # below the best: the finer division of two that are about as stable
_CANDIDATES = (2, 3, 4, 5, 6, 8, 10)
_UNSEEN = "(class without training examples)"


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters within each class; ``by_cluster`` makes one.

    Attributes:
        embeddings: By split, float64[n, d].
        within: The grouping whose groups are divided: ``"label"``, or anything else that ``groups=`` takes.
        candidates: Numbers of clusters that are tried besides one.
        min_stability: Least mean adjusted Rand index.
        n_repeats: Pairs of halves for each number.
        seed: Of the halves and of k-means.
    """

    embeddings: Mapping[str, FloatArray]
    within: Any
    candidates: tuple[int, ...]
    min_stability: float
    n_repeats: int
    seed: int

    @property
    def parts(self) -> tuple[Any, ...]:
        """The grouping whose groups are divided."""
        return (self.within,)

    def derive(self, name: str, parts: Sequence[Mapping[str, Grouping]]) -> dict[str, Grouping]:
        """The clusters of the training examples; other examples go to the nearest centre of their class.

        Raises:
            ArgumentError: A split has another number of examples than of embeddings.
            ConfigurationError: scikit-learn is not installed.
        """
        (divided,) = parts
        if _TRAIN not in divided:
            raise ArgumentError(f"groups[{name!r}]: clusters are those of split 'train', which is not there")
        for split, own in divided.items():
            if split in self.embeddings and len(self.embeddings[split]) != len(own.codes):
                raise argument_error(
                    f"embeddings[{split!r}]",
                    self.embeddings[split],
                    f"{len(own.codes)} rows are needed, one for each example of the split; compute them from the "
                    "audit's own data module",
                )
        train, known = divided[_TRAIN], self.embeddings[_TRAIN]
        centres: dict[int, FloatArray] = {}
        how = {}
        for code in np.unique(train.codes).tolist():
            centres[code], how[train.names[code]] = self._divide(known[train.codes == code])
        first = dict(zip(centres, np.cumsum([0, *map(len, centres.values())]).tolist(), strict=False))
        names = [f"{train.names[code]}/{i}" for code, its in centres.items() for i in range(len(its))]
        codes = {
            split: _assign(own.codes, self.embeddings[split], centres, first, unseen=len(names))
            for split, own in divided.items()
            if split in self.embeddings
        }
        if any((own == len(names)).any() for own in codes.values()):
            names.append(_UNSEEN)
        made_by = {
            "method": "k-means within classes, the finest of the most stable numbers of clusters",
            "within": self.within if isinstance(self.within, str) else type(self.within).__name__,
            "dimensions": known.shape[1],
            "candidates": [1, *self.candidates],
            "min_stability": self.min_stability,
            "n_repeats": self.n_repeats,
            "seed": self.seed,
            "other_splits": "nearest centre of the class of the example's own label",
            "classes": how,
        }
        return {split: Grouping(own, tuple(names), made_by) for split, own in codes.items()}

    def _divide(self, rows: FloatArray) -> tuple[FloatArray, dict[str, Any]]:
        """Centres, the largest cluster first, and how their number was chosen."""
        stability = {
            k: _stability(rows, k, self.n_repeats, self.seed) for k in self.candidates if k * _LEAST <= len(rows)
        }
        least = max(self.min_stability, max(stability.values(), default=0.0) - _AS_STABLE)
        chosen = max((k for k, value in stability.items() if value >= least), default=1)
        centres = rows.mean(axis=0, keepdims=True) if chosen == 1 else _k_means(rows, chosen, self.seed)
        sizes = np.bincount(_nearest(rows, centres), minlength=len(centres))
        tried = {str(k): round(value, 4) for k, value in stability.items()}
        return centres[np.argsort(-sizes, kind="stable")], {"n": len(rows), "chosen": chosen, "stability": tried}


def by_cluster(
    embeddings: Mapping[str, Array],
    *,
    within: Any = LABEL,
    candidates: Iterable[int] = _CANDIDATES,
    min_stability: float = 0.75,
    n_repeats: int = 5,
    seed: int = 0,
) -> Clusters:
    """Subpopulations: clusters of embeddings within each class (step 1 of Feldman and Zhang's long tail on real data).

    k-means (scikit-learn) on the training examples of each class. A number of clusters is stable where centres found on
    two random halves of the class put its examples into the same clusters, by the mean adjusted Rand index over
    ``n_repeats`` pairs of halves. The largest number within .05 of the most stable one is taken, and one cluster where
    none reaches ``min_stability``; a number is tried where there are ten examples a cluster. Groups are named ``3/0``,
    ``3/1``, the largest first. What was tried is kept with the groups. A class that is one long cloud may be cut stably
    all the same.

    The sizes of such groups are the chooser's: they are no counts for the long-tail theory.

    Args:
        embeddings: By split, numbers [n, d], in the order of the data sets; ``outcomes.embeddings.embed`` computes
            them. A split that is left out has no such grouping.
        within: ``"label"``, the name of another grouping, or anything else that ``groups=`` takes.
        candidates: Numbers of clusters to try besides one, at least 2 each.
        min_stability: Least mean adjusted Rand index, in (0, 1].
        n_repeats: Pairs of halves for each number.
        seed: Of the halves and of k-means.

    Returns:
        A grouping like any other: ``groups={"kind": by_cluster(...)}``.

    Raises:
        ArgumentError: No training embeddings, shapes that differ, NaN, or a number out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> kinds = rng.permutation(np.repeat([0.0, 8.0, 16.0], 40))
        >>> found = by_cluster({"train": kinds[:, None] + rng.normal(size=(120, 1))}).derive(
        ...     "kind", [{"train": Grouping(np.zeros(120, dtype=np.int64), ("cat",))}])["train"]
        >>> found.names
        ('cat/0', 'cat/1', 'cat/2')
    """
    if not isinstance(embeddings, Mapping):
        raise argument_error("embeddings", embeddings, "a mapping is needed, {'train': numbers [n, d], ...}")
    arrays = {str(split): as_array(values, name=f"embeddings[{split!r}]") for split, values in embeddings.items()}
    if _TRAIN not in arrays:
        raise argument_error("embeddings", arrays, "split 'train' is needed")
    for split, values in arrays.items():
        if values.ndim != 2 or values.shape[1] != arrays[_TRAIN].shape[-1]:
            raise argument_error(
                f"embeddings[{split!r}]", values, "one row an example is needed, as wide as in split 'train'"
            )
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise argument_error(
                f"embeddings[{split!r}][{row}]",
                values[row],
                "finite numbers are needed; embed with a module that has not diverged",
            )
    if not isinstance(candidates, Iterable):
        raise argument_error("candidates", candidates, "numbers of clusters are needed, such as (2, 3, 4)")
    tried = tuple(sorted({_whole(k, "candidates", 2) for k in candidates}))
    if isinstance(min_stability, bool) or not isinstance(min_stability, int | float) or not 0 < min_stability <= 1:
        raise argument_error("min_stability", min_stability, "a number in (0, 1] is needed")
    return Clusters(
        arrays, within, tried, float(min_stability), _whole(n_repeats, "n_repeats", 1), _whole(seed, "seed", 0)
    )


def _stability(rows: FloatArray, k: int, n_repeats: int, seed: int) -> float:
    """Mean adjusted Rand index of what centres from two halves make of all rows."""
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng([seed, k])
    agreement = []
    for repeat in range(n_repeats):
        order = rng.permutation(len(rows))
        halves = np.array_split(order, 2)
        first, second = (_nearest(rows, _k_means(rows[half], k, seed + repeat)) for half in halves)
        agreement.append(adjusted_rand_score(first, second))
    return float(np.mean(agreement))


def _k_means(rows: FloatArray, k: int, seed: int) -> FloatArray:
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise ConfigurationError("by_cluster needs scikit-learn: pip install 'lightning-memaudit[clusters]'") from error
    distinct = np.unique(rows, axis=0)
    if len(distinct) <= k:
        return distinct
    middle = rows.mean(axis=0)
    centres: FloatArray = KMeans(k, n_init=4, random_state=seed).fit(rows - middle).cluster_centers_
    return np.asarray(centres + middle)


def _nearest(rows: FloatArray, centres: FloatArray) -> IntArray:
    middle = centres.mean(axis=0)  # squares of numbers far from 0 would leave nothing of the distances
    rows, centres = rows - middle, centres - middle
    distances = (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)


def _assign(
    classes: npt.NDArray[np.int64],
    rows: FloatArray,
    centres: Mapping[int, FloatArray],
    first: Mapping[int, int],
    *,
    unseen: int,
) -> npt.NDArray[np.int64]:
    codes = np.full(len(rows), unseen, dtype=np.int64)
    for code, its in centres.items():
        own = classes == code
        codes[own] = first[code] + _nearest(rows[own], its)
    return codes


def _whole(value: Any, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise argument_error(name, value, f"whole numbers of at least {least} are needed")
    return number
