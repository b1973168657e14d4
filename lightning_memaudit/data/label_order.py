"""Whether two data sets hold the same examples in the same order, as far as their labels tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.data.groups import column_of
from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch.utils.data import Dataset

__all__ = ["check_label_order"]

_COMPARED = 64  # rows whose labels are compared between the training data set and eval_dataset
_LABEL_COLUMNS = ("targets", "labels", "target", "label", "y")


def check_label_order(trained: Dataset[Any], scored: Dataset[Any], target: Callable[[Any], torch.Tensor]) -> None:
    """Refuse an evaluation data set whose labels are not those of the training data set, row by row.

    Samples are read at up to 64 evenly spaced rows, and at rows where a column of labels that both data sets have
    (``targets``, ``labels``, ...) differs: reading all of the training data a second time would cost an epoch. Rows
    whose labels cannot be compared (none found, soft or random ones) are passed over.

    Args:
        trained: The training data set.
        scored: The evaluation data set, as long as the other.
        target: The label in one sample.

    Raises:
        ArgumentError: A row has another label; the first one is named.
    """
    for row in _rows_to_compare(trained, scored):
        ours, theirs = _label(trained, row, target), _label(scored, row, target)
        if _differ(ours, theirs) and not _differ(ours, _label(trained, row, target)):
            raise ArgumentError(
                f"eval_dataset: row {row} has the label {_shown(theirs)}, and in the training data set it has "
                f"{_shown(ours)}: every score would be of another example. Both must hold the same examples in the "
                "same order (take the same Subset or split of both)"
            )


def _rows_to_compare(trained: Dataset[Any], scored: Dataset[Any]) -> list[int]:
    """Evenly spaced rows, and the first ones where columns of labels differ."""
    n_examples = len(trained)  # type: ignore[arg-type]
    rows = set(np.linspace(0, n_examples - 1, min(_COMPARED, n_examples)).astype(int).tolist())
    for name in _LABEL_COLUMNS:
        columns = [_plain_column(dataset, name) for dataset in (trained, scored)]
        differing = [i for i, (a, b) in enumerate(zip(*columns, strict=False)) if a != b]
        rows.update(differing[:_COMPARED])
    return sorted(rows)


def _plain_column(dataset: Any, name: str) -> list[Any]:
    """The numbers or texts of a column; empty where there is none."""
    values = column_of(dataset, name)
    plain = values.tolist() if hasattr(values, "tolist") else list(values or ())
    return plain if all(isinstance(value, int | float | str) for value in plain) else []


def _label(dataset: Any, row: int, target: Callable[[Any], torch.Tensor]) -> torch.Tensor | None:
    sample = dataset[row]
    try:
        return target(sample).detach().cpu().squeeze()
    except UnsupportedDataError:
        return None


def _differ(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> bool:
    """Whether both are labels of one kind and not the same."""
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return False
    ours, theirs = ours.double(), theirs.double()
    if ours.ndim:
        ours, theirs = ours.round(), theirs.round()  # of one-hot vectors, one may be smoothed
    return not bool(ours.isclose(theirs, equal_nan=True).all())


def _shown(label: torch.Tensor | None) -> str:
    return f"{label.tolist() if label is not None else None!r:.60}"
