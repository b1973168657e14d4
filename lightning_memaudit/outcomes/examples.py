"""What is known of the examples themselves: labels, groups, units, previews, and the fingerprint of a split."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_memaudit.data.groups import Grouping, column_of, grouping
from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError
from lightning_memaudit.outcomes.fields import find_input, find_target

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch.utils.data import DataLoader

    from lightning_memaudit.outcomes.scoring import ScoreFunction

__all__ = ["Examples", "Groups", "describe_examples", "fingerprint"]

Groups = Mapping[str, Any]

_PROBED = 64  # inputs that enter the fingerprint
_PREVIEW_SIDE, _PREVIEW_NUMBERS, _PREVIEW_CHARACTERS = 32, 16, 200


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """The examples of one split.

    Attributes:
        n_examples: How many there are.
        labels: int64[n]; None where the score function is the user's own and no label was found.
        groups: The groupings, by name.
        units: int64[n] or None.
        previews: uint8[n, h, w] or [n, h, w, 3] images, float32[n, ≤ 16] rows, or text[n]; None where inputs are neither.
        fingerprint: Digests of the number of examples, the labels in order, and a sample of the inputs.
    """

    n_examples: int
    labels: npt.NDArray[np.int64] | None
    groups: dict[str, Grouping] = field(default_factory=dict)
    units: npt.NDArray[np.int64] | None = None
    previews: npt.NDArray[Any] | None = None
    fingerprint: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file ``examples/<split>.npz``."""
        arrays: dict[str, npt.NDArray[Any]] = {"n_examples": np.array(self.n_examples)}
        for name in ("labels", "units", "previews"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        arrays["group_names"] = np.array(list(self.groups), dtype=np.str_)
        for i, group in enumerate(self.groups.values()):
            arrays[f"group_{i}_codes"] = group.codes
            arrays[f"group_{i}_names"] = np.array(group.names, dtype=np.str_)
        file = BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Examples:
        """Read what ``to_bytes`` wrote."""
        with np.load(BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
        groups = {
            str(name): Grouping(arrays[f"group_{i}_codes"], tuple(map(str, arrays[f"group_{i}_names"])))
            for i, name in enumerate(arrays["group_names"])
        }
        return cls(int(arrays["n_examples"]), arrays.get("labels"), groups, arrays.get("units"), arrays.get("previews"))


def describe_examples(
    loader: DataLoader[Any],
    score_fn: ScoreFunction,
    *,
    split: str,
    groups: Groups | None = None,
    units: npt.NDArray[np.int64] | None = None,
) -> Examples:
    """Read a split once, in order: its labels, groups, previews and fingerprint.

    Args:
        loader: A sequential loader over the split.
        score_fn: Says where inputs and targets are, if it has ``inputs`` and ``target``.
        split: The name of the split.
        groups: By name: ``"label"``, a key of mapping samples, an attribute or column of the data set, an array, or a mapping
            from split to array.
        units: int[n], written through.

    Raises:
        ArgumentError: A group cannot be found.
        UnsupportedDataError: Labels cannot be found and the score function needs them.
    """
    dataset: Any = loader.dataset
    n_examples = len(dataset)
    wanted_keys = {key for key in (groups or {}).values() if isinstance(key, str) and key != "label"}
    labels: list[npt.NDArray[np.int64]] = []
    previews: list[npt.NDArray[Any] | None] = []
    columns: dict[str, list[Any]] = {}
    for batch in loader:
        labels.append(_labels(batch, score_fn))
        previews.append(_previews(batch, score_fn))
        for key in wanted_keys & set(batch if isinstance(batch, Mapping) else ()):
            columns.setdefault(key, []).extend(batch[key])
    found = np.concatenate(labels) if labels and all(part is not None for part in labels) else None
    if found is not None and len(found) != n_examples:
        raise UnsupportedDataError(
            f"split {split!r} has {n_examples} examples and its batches hold {len(found)}: the collate_fn must keep every sample"
        )
    return Examples(
        n_examples,
        found,
        {name: _group(name, key, split, dataset, found, columns) for name, key in (groups or {}).items()},
        units,
        np.concatenate(previews) if _alike(previews) else None,  # type: ignore[arg-type]
        fingerprint(dataset, found, split=split),
    )


def fingerprint(dataset: Any, labels: npt.NDArray[np.int64] | None, *, split: str) -> dict[str, Any]:
    """Digests by which a store knows its data again: number of examples, labels in order, a sample of the inputs.

    Inputs are fetched twice; where they differ (random augmentation) they are left out and a warning asks for an evaluation
    data set.
    """
    n_examples = len(dataset)
    rows = np.unique(np.linspace(0, n_examples - 1, min(_PROBED, n_examples)).astype(int)).tolist()
    first, second = (hashlib.sha256(b"".join(_content(dataset[i]) for i in rows)).hexdigest()[:16] for _ in range(2))
    if first != second:
        warnings.warn(
            f"the examples of split {split!r} differ each time they are read (random augmentation), so that models are scored on "
            "random variants; pass eval_dataset= with the same examples in the same order and without random transforms",
            UserWarning,
            stacklevel=2,
        )
    return {
        "n_examples": n_examples,
        "labels": None if labels is None else hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()[:16],
        "inputs": first if first == second else "random",
    }


def _labels(batch: Any, score_fn: ScoreFunction) -> Any:
    knows_target = hasattr(score_fn, "target")
    try:
        target = find_target(batch, getattr(score_fn, "target", None))
    except (UnsupportedDataError, TypeError, ValueError):
        if knows_target:
            raise
        return None
    target = target.reshape(len(target), -1) if target.ndim else target.reshape(1, 1)
    if target.shape[1] == 1:
        return target[:, 0].cpu().numpy().astype(np.int64)
    return np.full(len(target), -1, dtype=np.int64)


def _group(
    name: str, key: Any, split: str, dataset: Any, labels: npt.NDArray[np.int64] | None, columns: dict[str, list[Any]]
) -> Grouping:
    n_examples = len(dataset)
    values: Any = key
    if isinstance(key, Mapping):
        if split not in key:
            raise ArgumentError(
                f"groups[{name!r}] has no values for split {split!r}; it has {', '.join(map(str, key))}"
            )
        values = key[split]
    elif isinstance(key, str):
        values = labels if key == "label" else columns.get(key, column_of(dataset, key))
        if values is None:
            raise ArgumentError(
                f"groups[{name!r}]={key!r}: split {split!r} has no such key in its samples and no such attribute or column "
                f"in its data set ({type(dataset).__name__}); pass an array per split: {{'train': [...], ...}}"
            )
    return grouping(values, name=name, n_examples=n_examples)


def _previews(batch: Any, score_fn: ScoreFunction) -> npt.NDArray[Any] | None:
    try:
        inputs = find_input(batch, getattr(score_fn, "inputs", None))
    except UnsupportedDataError:
        return None
    if isinstance(inputs, Sequence) and all(isinstance(text, str) for text in inputs):
        return np.array([text[:_PREVIEW_CHARACTERS] for text in inputs], dtype=np.str_)
    if not isinstance(inputs, torch.Tensor) or inputs.is_sparse:
        return None
    inputs = inputs.detach().cpu()
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3):
        return _images(inputs.float())
    if inputs.ndim == 3 and min(inputs.shape[1:]) > 3:
        return _images(inputs.float().unsqueeze(1))
    if inputs.ndim == 2:
        return inputs[:, :_PREVIEW_NUMBERS].numpy().astype(np.float32)
    return None


def _images(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    shrink = max(1, -(-max(images.shape[2:]) // _PREVIEW_SIDE))
    if shrink > 1:
        images = torch.nn.functional.avg_pool2d(images, shrink, ceil_mode=True)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    scaled = ((images - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8)
    return (scaled[:, 0] if scaled.shape[1] == 1 else scaled.permute(0, 2, 3, 1)).contiguous().numpy()


def _alike(parts: list[npt.NDArray[Any] | None]) -> bool:
    return bool(parts) and all(part is not None and part.shape[1:] == parts[0].shape[1:] for part in parts)  # type: ignore[union-attr]


def _content(sample: Any) -> bytes:
    if isinstance(sample, torch.Tensor):
        sample = sample.detach().cpu()
        sample = (sample.float() if sample.dtype == torch.bfloat16 else sample).numpy()
    if isinstance(sample, np.ndarray | np.generic):
        array = np.ascontiguousarray(sample)
        return f"{array.dtype.str}{array.shape}".encode() + (
            repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
        )
    if isinstance(sample, str | bytes | int | float | bool | None):
        return repr(sample).encode()
    if isinstance(sample, Mapping):
        return b"{" + b",".join(repr(key).encode() + _content(sample[key]) for key in sorted(sample, key=repr)) + b"}"
    if isinstance(sample, Sequence):
        return b"[" + b",".join(_content(item) for item in sample) + b"]"
    if hasattr(sample, "tobytes"):
        return bytes(sample.tobytes())
    return type(sample).__qualname__.encode()
