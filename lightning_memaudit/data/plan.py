"""Which examples each model of the population trains on."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.checks import argument_error, element_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

__all__ = ["Design", "SubsetPlan", "mask_checksum"]

Design = Literal["fixed_size", "bernoulli", "paired", "stratified", "canaries"]

_SCHEME = 1  # raised whenever the same arguments would give other masks
_DEFAULT_FRACTION = 0.7
_COLUMNS = ("strata", "units", "canaries")
_MASK_STREAM, _SEED_STREAM, _COIN_STREAM = 0, 1, 2


@dataclass(frozen=True, eq=False)
class SubsetPlan:
    """Random training subsets: ``mask(k)[i]`` says whether model ``k`` trains on example ``i``.

    A mask depends on the plan and ``k`` only: never on how many models there are, on the process or on the platform.
    The random numbers are raw Philox4x64-10 words (Salmon et al. 2011) keyed by ``(seed, k)``, ranked by a stable sort.

    Args:
        n_examples: Number of training examples ``n``.
        subset_fraction: Share ``r`` of the units that a model trains on, in (0, 1).
        design: ``"fixed_size"``: exactly ``round(r·n)`` units, uniformly (Feldman and Zhang 2020, Algorithm 1).
            ``"bernoulli"``: one coin of probability ``r`` per unit, so that IN and OUT are exact add/remove neighbours.
            ``"paired"``: models ``2j`` and ``2j+1`` hold complementary halves; ``subset_fraction`` must be 0.5.
            ``"stratified"``: fixed size within each of ``strata``.
            ``"canaries"``: the listed rows are fair coins, every other row is always in; ``subset_fraction`` becomes
            0.5.
        seed: Seed of the plan, in [0, 2**63).
        strata: int[n], the stratum of each example (``"stratified"`` only).
        units: int[n]; rows of the same value (one person, one patient) are in or out together.
        canaries: Row numbers or bool[n] (``"canaries"`` only). A unit with a listed row is a coin as a whole.

    Raises:
        ArgumentError: An argument is out of range, or no model would have an example in, or none out.

    Example:
        >>> plan = SubsetPlan(10, subset_fraction=0.7, seed=0)
        >>> int(plan.mask(3).sum()), plan.masks([0, 1, 2]).shape
        (7, (3, 10))
    """

    n_examples: int
    subset_fraction: float = field(default=_DEFAULT_FRACTION, kw_only=True)
    design: Design = field(default="fixed_size", kw_only=True)
    seed: int = field(default=0, kw_only=True)
    strata: npt.NDArray[np.int64] | None = field(default=None, kw_only=True, repr=False)
    units: npt.NDArray[np.int64] | None = field(default=None, kw_only=True, repr=False)
    canaries: npt.NDArray[np.int64] | None = field(default=None, kw_only=True, repr=False)
    _is_complete: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_scalars(self)
        n = self.n_examples
        object.__setattr__(self, "strata", _int_column(self.strata, "strata", n))
        object.__setattr__(self, "units", _int_column(self.units, "units", n))
        object.__setattr__(self, "canaries", _row_numbers(self.canaries, n))
        for name, design in (("strata", "stratified"), ("canaries", "canaries")):
            if (getattr(self, name) is not None) != (self.design == design):
                given = "given" if getattr(self, name) is not None else "missing"
                raise ArgumentError(f"{name} is {given}, and design={self.design!r}: {name} go with design={design!r}")
        if self.design == "canaries":
            object.__setattr__(self, "subset_fraction", 0.5)
        self._refuse_empty_sides()

    def mask(self, model_id: int) -> npt.NDArray[np.bool_]:
        """bool[n]: which examples model ``model_id`` trains on.

        Raises:
            ArgumentError: ``model_id`` is not an integer in [0, 2**62).
        """
        _check_integer(model_id, "model_id", 2**62)
        if self._is_complete:
            return np.ones(self.n_examples, dtype=bool)
        chosen: npt.NDArray[np.bool_] = getattr(self, f"_{self.design}")(int(model_id))
        return chosen[self._unit_of_row]

    def masks(self, model_ids: Iterable[int]) -> npt.NDArray[np.bool_]:
        """bool[M, n]: the masks of several models, in the order given."""
        ids = list(model_ids)
        return np.stack([self.mask(k) for k in ids]) if ids else np.zeros((0, self.n_examples), dtype=bool)

    def complete(self) -> SubsetPlan:
        """This plan, seeds and digest, but with every example in every mask: for models that train on all data.

        Example:
            >>> bool(SubsetPlan(4, seed=1).complete().mask(0).all())
            True
        """
        twin = copy.copy(self)
        object.__setattr__(twin, "_is_complete", True)
        return twin

    def model_seed(self, model_id: int) -> int:
        """The seed of model ``model_id``, an int in [0, 2**32) for ``seed_everything``."""
        _check_integer(model_id, "model_id", 2**62)
        return int(self._words(int(model_id), 1, _SEED_STREAM)[0] >> np.uint64(32))

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 over every argument, 32 characters."""
        scalars = {name: value for name, value in self.to_dict().items() if name not in _COLUMNS}
        content = hashlib.sha256(json.dumps(scalars, sort_keys=True).encode())
        for name in _COLUMNS:
            column = getattr(self, name)
            content.update(b"-" if column is None else column.astype("<i8").tobytes())
        return content.hexdigest()[:32]

    @cached_property
    def n_units(self) -> int:
        """How many units are drawn: ``n_examples`` without ``units``."""
        return int(self._unit_of_row.max()) + 1

    @property
    def has_constant_size(self) -> bool:
        """Whether every model trains on the same number of examples."""
        if self._is_complete:
            return True
        if self.units is not None:
            sizes = np.bincount(self._unit_of_row)
            return bool((sizes == sizes[0]).all()) and self._has_constant_unit_count
        return self._has_constant_unit_count

    def blocks(self, model_ids: Iterable[int]) -> npt.NDArray[np.int64] | None:
        """int[M]: models with the same value were drawn together (``"paired"``), or None when all are independent."""
        return np.asarray(list(model_ids), dtype=np.int64) // 2 if self.design == "paired" else None

    def to_dict(self) -> dict[str, Any]:
        """Every argument, ready for JSON; arrays are compressed. ``SubsetPlan.from_dict`` is the way back."""
        return {
            "scheme": _SCHEME,
            "n_examples": self.n_examples,
            "subset_fraction": self.subset_fraction,
            "design": self.design,
            "seed": self.seed,
            **{name: _encode(getattr(self, name)) for name in _COLUMNS},
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> SubsetPlan:
        """The plan that ``to_dict`` described.

        Raises:
            ArgumentError: The plan was written by a version that draws other masks.
        """
        if state.get("scheme") != _SCHEME:
            raise argument_error(
                "scheme", state.get("scheme"), f"scheme {_SCHEME} is needed, by which this version draws masks"
            )
        return cls(
            state["n_examples"],
            subset_fraction=state["subset_fraction"],
            design=state["design"],
            seed=state["seed"],
            **{name: _decode(state[name]) for name in _COLUMNS},
        )

    @cached_property
    def _unit_of_row(self) -> npt.NDArray[np.int64]:
        if self.units is None:
            return np.arange(self.n_examples)
        return np.unique(self.units, return_inverse=True)[1].astype(np.int64)

    @property
    def _has_constant_unit_count(self) -> bool:
        if self.design == "paired":
            return self.n_units % 2 == 0
        return self.design in ("fixed_size", "stratified")

    @cached_property
    def _unit_strata(self) -> npt.NDArray[np.int64]:
        assert self.strata is not None  # noqa: S101 - __post_init__ saw to it
        of_unit = np.zeros(self.n_units, dtype=np.int64)
        of_unit[self._unit_of_row] = self.strata
        if (of_unit[self._unit_of_row] != self.strata).any():
            unit = np.flatnonzero(of_unit[self._unit_of_row] != self.strata)[0]
            raise argument_error(
                "units",
                self.units,
                f"units within one stratum are needed, and the unit of row {unit} has rows in several strata",
            )
        return of_unit

    def _words(self, key: int, count: int, stream: int) -> npt.NDArray[np.uint64]:
        bits = np.random.Philox(key=np.array([self.seed, key], dtype=np.uint64), counter=[0, 0, 0, stream])
        return bits.random_raw(count)

    def _lowest(self, words: npt.NDArray[np.uint64], size: int) -> npt.NDArray[np.bool_]:
        chosen = np.zeros(len(words), dtype=bool)
        chosen[np.argsort(words, kind="stable")[:size]] = True
        return chosen

    def _fixed_size(self, model_id: int) -> npt.NDArray[np.bool_]:
        words = self._words(model_id, self.n_units, _MASK_STREAM)
        return self._lowest(words, round(self.subset_fraction * self.n_units))

    def _bernoulli(self, model_id: int) -> npt.NDArray[np.bool_]:
        threshold = np.uint64(int(self.subset_fraction * 2.0**64))
        return self._words(model_id, self.n_units, _MASK_STREAM) < threshold

    def _paired(self, model_id: int) -> npt.NDArray[np.bool_]:
        pair, second = divmod(model_id, 2)
        coin = int(self._words(pair, 1, _COIN_STREAM)[0] >> np.uint64(63))  # who gets the larger half of an odd number
        half = self._lowest(self._words(pair, self.n_units, _MASK_STREAM), (self.n_units + coin) // 2)
        return ~half if second else half

    def _stratified(self, model_id: int) -> npt.NDArray[np.bool_]:
        words = self._words(model_id, self.n_units, _MASK_STREAM)
        chosen = np.zeros(self.n_units, dtype=bool)
        for stratum in np.unique(self._unit_strata):
            rows = np.flatnonzero(self._unit_strata == stratum)
            chosen[rows] = self._lowest(words[rows], round(self.subset_fraction * len(rows)))
        return chosen

    def _canaries(self, model_id: int) -> npt.NDArray[np.bool_]:
        chosen = np.ones(self.n_units, dtype=bool)
        coins = np.unique(self._unit_of_row[self.canaries])
        words = self._words(model_id, self.n_units, _MASK_STREAM)
        chosen[coins] = (words[coins] >> np.uint64(63)).astype(bool)
        return chosen

    def _refuse_empty_sides(self) -> None:
        groups = {"": self.n_units} if self.design == "fixed_size" else {}
        if self.design == "paired" and self.n_units < 2:
            groups = {"": self.n_units}
        if self.design == "stratified":
            values, sizes = np.unique(self._unit_strata, return_counts=True)
            groups = {f" of stratum {value}": int(size) for value, size in zip(values, sizes, strict=True)}
        what = "examples" if self.units is None else "units"
        for where, size in groups.items():
            kept = round(self.subset_fraction * size)
            if 0 < kept < size:
                continue
            raise argument_error(
                "subset_fraction",
                self.subset_fraction,
                f"a fraction that leaves some {what} in and some out is needed; it keeps {kept} of {size} "
                f"{what}{where}; give more {what}, another fraction, larger strata, or design='bernoulli'",
            )


def mask_checksum(mask: npt.NDArray[np.bool_]) -> str:
    """Hexadecimal checksum of one mask, 16 characters, the same on every platform."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]


def _check_integer(value: object, name: str, limit: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < limit:
        raise argument_error(name, value, f"an integer in [0, {limit}) is needed")


def _check_scalars(plan: SubsetPlan) -> None:
    _check_integer(plan.n_examples, "n_examples", 2**40)
    if plan.n_examples < 2:
        raise argument_error("n_examples", plan.n_examples, "at least 2 examples are needed")
    _check_integer(plan.seed, "seed", 2**63)
    object.__setattr__(plan, "n_examples", int(plan.n_examples))
    object.__setattr__(plan, "seed", int(plan.seed))
    if plan.design not in get_args(Design):
        raise argument_error("design", plan.design, f"one of {', '.join(get_args(Design))} is needed")
    fraction = plan.subset_fraction
    if not isinstance(fraction, int | float | np.floating) or not 0 < fraction < 1:
        raise argument_error("subset_fraction", fraction, "a number strictly between 0 and 1 is needed")
    object.__setattr__(plan, "subset_fraction", float(fraction))
    if plan.design == "paired" and fraction != 0.5:
        raise argument_error("subset_fraction", fraction, "0.5 is needed with design='paired', which splits in halves")
    if plan.design == "canaries" and fraction not in (0.5, _DEFAULT_FRACTION):
        raise argument_error(
            "subset_fraction", fraction, "None or 0.5 is needed with design='canaries', which are fair coins"
        )


def _int_column(value: npt.ArrayLike | None, name: str, n_examples: int) -> npt.NDArray[np.int64] | None:
    if value is None:
        return None
    array = np.asarray(value)
    if array.shape != (n_examples,) or array.dtype.kind not in "iu":
        raise argument_error(name, array, f"one integer for each of the {n_examples} examples is needed")
    return array.astype(np.int64)


def _row_numbers(value: npt.ArrayLike | None, n_examples: int) -> npt.NDArray[np.int64] | None:
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype == bool and array.shape == (n_examples,):
        array = np.flatnonzero(array)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise argument_error(
            "canaries", array, f"a list of row numbers, or bool[{n_examples}], is needed, with one row or more"
        )
    if array.min() < 0 or array.max() >= n_examples:
        raise element_error(
            "canaries", array, (array < 0) | (array >= n_examples), f"row numbers in [0, {n_examples}) are needed"
        )
    return np.unique(array).astype(np.int64)


def _encode(array: npt.NDArray[np.int64] | None) -> str | None:
    return None if array is None else base64.b64encode(zlib.compress(array.astype("<i8").tobytes())).decode()


def _decode(text: str | None) -> npt.NDArray[np.int64] | None:
    return (
        None if text is None else np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i8").astype(np.int64)
    )
