"""What models did on a split, one class a form of storage: packed bits, shares, and the other fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from lightning_memaudit.record.scratch import Scratch

__all__ = ["Columns", "Correctness", "HeldField", "packed_width", "unpacked"]

#: Examples: all (None), a stretch of them, or their numbers.
Columns = slice | np.ndarray[Any, np.dtype[np.int64]] | None

_FIRST_TYPE = {"prediction": np.int16}  # widened where a class number asks for it
_GIVEN_TYPE = {"prediction": np.int32}


def packed_width(n: int) -> int:
    """Bytes of n packed bits."""
    return -(-n // 8)


def unpacked(bits: npt.NDArray[np.uint8], n: int, columns: Columns = None) -> npt.NDArray[np.bool_]:
    """Rows of packed bits as truth values.

    Args:
        bits: Packed rows [K, ⌈n / 8⌉].
        n: Examples.
        columns: Which of them.

    Example:
        >>> row = np.packbits([[True, False, True]], axis=1)
        >>> [unpacked(row, 3, columns)[0].tolist() for columns in (None, np.array([2, 1]), slice(1, 3))]
        [[True, False, True], [True, False], [False, True]]
    """
    if isinstance(columns, np.ndarray):
        shift = (7 - (columns & 7)).astype(np.uint8)
        return ((bits[:, columns >> 3] >> shift) & 1).astype(bool)
    start, stop, _ = (columns or slice(None)).indices(n)
    first = start // 8
    part = np.unpackbits(bits[:, first : packed_width(stop)], axis=1, count=max(stop - 8 * first, 0))
    return part[:, start - 8 * first :].view(bool)


class Correctness:
    """Whether models are right on the examples of a split: bits, or shares in [0, 1] where a model has any.

    Args:
        n_models: Rows.
        n_examples: Columns.
        scratch: Where shares are put.
    """

    def __init__(self, n_models: int, n_examples: int, scratch: Scratch) -> None:
        self._shape = n_models, n_examples
        self._scratch = scratch
        self._bits: npt.NDArray[np.uint8] | None = np.zeros((n_models, packed_width(n_examples)), dtype=np.uint8)
        self._shares: npt.NDArray[np.float32] | None = None

    @property
    def is_binary(self) -> bool:
        """Whether every value is 0 or 1 by its type."""
        return self._shares is None

    def put(self, row: int, values: npt.NDArray[Any]) -> None:
        """Keep the outcomes of a model, bool[n] or float[n]."""
        if self._bits is not None and values.dtype == bool:
            self._bits[row] = np.packbits(values)
            return
        if self._bits is not None:
            self._shares = self._scratch.allocate(self._shape, np.float32)
            for known in range(row):
                self._shares[known] = unpacked(self._bits[known, None], self._shape[1])[0]
            self._bits = None
        assert self._shares is not None  # noqa: S101 - one of the two holds the outcomes
        self._shares[row] = values

    def get(self, rows: npt.NDArray[np.int64], columns: Columns = None) -> npt.NDArray[Any]:
        """Outcomes of some models on some examples, bool or float32."""
        if self._bits is not None:
            return unpacked(self._bits[rows], self._shape[1], columns)
        assert self._shares is not None  # noqa: S101 - one of the two holds the outcomes
        return _cells(self._shares, rows, columns)


class HeldField:
    """One field of some models on a split.

    Args:
        name: ``margin``, ``loss``, ``prediction`` or ``confidence``.
        n_models: Rows at most.
        n_examples: Columns.
        scratch: Where it is put.
    """

    def __init__(self, name: str, n_models: int, n_examples: int, scratch: Scratch) -> None:
        self._name = name
        self._scratch = scratch
        self._place: dict[int, int] = {}
        self._cells = scratch.allocate((n_models, n_examples), _FIRST_TYPE.get(name, np.float32))

    def put(self, row: int, values: npt.NDArray[Any]) -> None:
        """Keep the values of the model in a row of the arm, [n]."""
        if values.dtype.kind == "i" and len(values):
            limits = np.iinfo(self._cells.dtype)
            if not limits.min <= values.min() <= values.max() <= limits.max:
                wider = self._scratch.allocate(self._cells.shape, np.int32)
                wider[: len(self._place)] = self._cells[: len(self._place)]
                self._cells = wider
        place = self._place.setdefault(row, len(self._place))
        self._cells[place] = values

    def get(self, rows: npt.NDArray[np.int64], columns: Columns = None) -> npt.NDArray[Any]:
        """Values of some models on some examples.

        Raises:
            KeyError: A model's values were not kept.
        """
        places = np.array([self._place[row] for row in rows.tolist()], dtype=np.int64)
        return _cells(self._cells, places, columns).astype(_GIVEN_TYPE.get(self._name, np.float32), copy=False)


def _cells(table: npt.NDArray[Any], rows: npt.NDArray[np.int64], columns: Columns) -> npt.NDArray[Any]:
    if isinstance(columns, np.ndarray):
        return np.asarray(table[rows[:, None], columns])
    return np.asarray(table[:, columns or slice(None)][rows])
