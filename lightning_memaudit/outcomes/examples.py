"""What is known of the examples themselves: labels, groups, units, previews, and the fingerprint of a split."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_memaudit.data.groups import Columns, Grouping, Groups, resolve, sample_keys
from lightning_memaudit.data.randomness import seeded
from lightning_memaudit.exceptions import UnsupportedDataError
from lightning_memaudit.outcomes.fields import find_input, find_target

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch.utils.data import DataLoader

    from lightning_memaudit.outcomes.scoring import ScoreFunction

__all__ = ["Examples", "Groups", "describe_splits", "fingerprint", "label_digest"]

_PROBED = 64  # inputs that enter the fingerprint
_PREVIEW_SIDE, _PREVIEW_NUMBERS, _PREVIEW_CHARACTERS = 32, 16, 200


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """The examples of one split.

    Attributes:
        n_examples: How many there are.
        labels: int64[n], −1 where an example has no single class number (sequences, regression); None where the score
            function is the user's own and no label was found.
        groups: The groupings, by name.
        units: int64[n] or None.
        previews: uint8[n, h, w] or [n, h, w, 3] images, float32[n, ≤ 16] rows, or text[n]; None where inputs are
            neither.
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
            if group.made_by is not None:
                arrays[f"group_{i}_made_by"] = np.array(json.dumps(group.made_by))
        file = BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Examples:
        """Read what ``to_bytes`` wrote."""
        with np.load(BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
        groups = {
            str(name): Grouping(
                arrays[f"group_{i}_codes"],
                tuple(map(str, arrays[f"group_{i}_names"])),
                json.loads(str(arrays[f"group_{i}_made_by"])) if f"group_{i}_made_by" in arrays else None,
            )
            for i, name in enumerate(arrays["group_names"])
        }
        return cls(int(arrays["n_examples"]), arrays.get("labels"), groups, arrays.get("units"), arrays.get("previews"))


def describe_splits(
    loaders: Mapping[str, DataLoader[Any]],
    score_fn: ScoreFunction,
    *,
    seed: int,
    groups: Groups | None = None,
    units: npt.NDArray[np.int64] | None = None,
) -> dict[str, Examples]:
    """Read every split once, in order: labels, groups, previews and fingerprints.

    Args:
        loaders: A sequential loader over each split.
        score_fn: Says where inputs and targets are, if it has ``inputs`` and ``target``.
        seed: Each split is read under it.
        groups: By name, as for ``data.groups.resolve``.
        units: int[n] of the training split, written through.

    Raises:
        ArgumentError: A group cannot be found.
        UnsupportedDataError: Labels cannot be found and the score function needs them.
    """
    wanted = groups or {}
    found: dict[str, Examples] = {}
    columns: dict[str, Columns] = {}
    for split, loader in loaders.items():
        with seeded(seed):
            found[split], columns[split] = _read(loader, score_fn, split=split, keys=sample_keys(wanted))
    divided = resolve(wanted, columns)
    for name, by_split in divided.items():
        _warn_of_one_group(name, list(by_split.values()))
    return {
        split: replace(
            examples,
            groups={name: own[split] for name, own in divided.items() if split in own},
            units=units if split == "train" else None,
        )
        for split, examples in found.items()
    }


def _read(loader: DataLoader[Any], score_fn: ScoreFunction, *, split: str, keys: set[str]) -> tuple[Examples, Columns]:
    """The examples of a split, and where the values of its groups are found."""
    dataset: Any = loader.dataset
    n_examples = len(dataset)
    targets: list[npt.NDArray[Any] | None] = []
    previews: list[npt.NDArray[Any] | None] = []
    found: dict[str, list[Any]] = {}
    for batch in loader:
        targets.append(_targets(batch, score_fn))
        previews.append(_previews(batch, score_fn))
        for key in keys & set(batch if isinstance(batch, Mapping) else ()):
            found.setdefault(key, []).extend(batch[key])
    known = [part for part in targets if part is not None]
    complete = len(known) == len(targets) > 0
    n_found = sum(map(len, known))
    if complete and n_found != n_examples:
        raise UnsupportedDataError(
            f"split {split!r} has {n_examples} examples and its batches hold {n_found}: the collate_fn must keep every "
            "sample"
        )
    labels = _class_numbers(known) if complete else None
    examples = Examples(
        n_examples,
        labels,
        previews=np.concatenate(previews) if _alike(previews) else None,  # type: ignore[arg-type]
        fingerprint=fingerprint(dataset, known if complete else None, split=split),
    )
    return examples, Columns(dataset, n_examples, labels, found)


def fingerprint(dataset: Any, targets: Sequence[npt.NDArray[Any]] | None, *, split: str) -> dict[str, Any]:
    """Digests by which a store knows its data again: number of examples, targets in order, a sample of the inputs.

    Inputs are fetched twice; where they differ (random augmentation) they are left out and a warning says what to do.

    Args:
        dataset: A map-style data set.
        targets: The targets of its examples in order, in one or several parts; None where they are not known.
        split: The name of the split, for the warning.
    """
    n_examples = len(dataset)
    rows = np.unique(np.linspace(0, n_examples - 1, min(_PROBED, n_examples)).astype(int)).tolist()
    first, second = (hashlib.sha256(b"".join(_content(dataset[i]) for i in rows)).hexdigest()[:16] for _ in range(2))
    if first != second:
        advice = (
            "pass eval_dataset= with the same examples in the same order and without random transforms"
            if split == "train"
            else f"take the random transforms out of the {split} data set"
        )
        warnings.warn(
            f"the examples of split {split!r} differ each time they are read (random augmentation), so that models are "
            f"scored on random variants; {advice}",
            UserWarning,
            stacklevel=2,
        )
    return {
        "n_examples": n_examples,
        "labels": None if targets is None else label_digest(*targets),
        "inputs": first if first == second else "random",
    }


def label_digest(*targets: npt.NDArray[Any]) -> str:
    """Hexadecimal digest of the targets of a split, 16 characters; their parts and integer width do not matter."""
    content = hashlib.sha256()
    for part in targets:
        content.update(part.astype("<f8" if part.dtype.kind == "f" else "<i8").tobytes())
    return content.hexdigest()[:16]


def _warn_of_one_group(name: str, divided: Sequence[Grouping]) -> None:
    seen = {part.names[code] for part in divided for code in np.unique(part.codes)}
    if len(seen) == 1:
        warnings.warn(
            f"groups[{name!r}]: every example of every split is in one group, {seen.pop()!r}, which says what the "
            "figures over all examples say; name a column that has several values, or leave it out",
            UserWarning,
            stacklevel=3,
        )


def _targets(batch: Any, score_fn: ScoreFunction) -> npt.NDArray[Any] | None:
    """The targets of a batch, [B] or [B, K], int64 where all are whole numbers; None where none are known or needed."""
    try:
        target = find_target(batch, getattr(score_fn, "target", None)).detach().cpu()
    except UnsupportedDataError:
        if hasattr(score_fn, "target"):
            raise
        return None
    if target.is_complex():
        return None
    values = (target.double() if target.is_floating_point() else target.long()).numpy()
    values = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
    whole = values.dtype.kind == "i" or bool((np.isfinite(values) & (values == np.round(values))).all())
    values = values.astype(np.int64) if whole else values
    return values[:, 0] if values.shape[1] == 1 else values


def _class_numbers(targets: list[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    if all(part.ndim == 1 and part.dtype.kind == "i" for part in targets):
        return np.concatenate(targets)
    return np.full(sum(map(len, targets)), -1, dtype=np.int64)


def _previews(batch: Any, score_fn: ScoreFunction) -> npt.NDArray[Any] | None:
    try:
        inputs = find_input(batch, getattr(score_fn, "inputs", None))
    except UnsupportedDataError:
        return None
    if isinstance(inputs, Sequence) and all(isinstance(text, str) for text in inputs):
        return np.array([text[:_PREVIEW_CHARACTERS] for text in inputs], dtype=np.str_)
    if not isinstance(inputs, torch.Tensor) or inputs.layout != torch.strided or inputs.is_complex():
        return None
    inputs = inputs.detach().cpu()
    if inputs.ndim == 4 and inputs.shape[1] in (1, 3):
        return _images(inputs.float())
    if inputs.ndim == 4 and inputs.shape[3] in (1, 3):
        return _images(inputs.float().permute(0, 3, 1, 2))
    if inputs.ndim == 3 and min(inputs.shape[1:]) > 3:
        return _images(inputs.float().unsqueeze(1))
    if inputs.ndim in (1, 2):
        return inputs.reshape(len(inputs), -1)[:, :_PREVIEW_NUMBERS].float().numpy()
    return None


def _images(images: torch.Tensor) -> npt.NDArray[np.uint8]:
    shrink = max(1, -(-max(images.shape[2:]) // _PREVIEW_SIDE))
    if shrink > 1:
        images = torch.nn.functional.avg_pool2d(images, shrink, ceil_mode=True)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    scaled = ((images - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8)
    return (scaled[:, 0] if scaled.shape[1] == 1 else scaled.permute(0, 2, 3, 1)).contiguous().numpy()


def _alike(parts: list[npt.NDArray[Any] | None]) -> bool:
    shapes = {None if part is None else part.shape[1:] for part in parts}
    return len(shapes) == 1 and None not in shapes


def _content(sample: Any) -> bytes:
    if isinstance(sample, torch.Tensor):
        sample = sample.detach().cpu()
        sample = sample if sample.layout == torch.strided else sample.to_dense()
        sample = (sample.float() if sample.dtype == torch.bfloat16 else sample).resolve_conj().resolve_neg().numpy()
    if isinstance(sample, np.ndarray | np.generic) and sample.dtype == object:
        sample = sample.tolist()
    if isinstance(sample, np.ndarray | np.generic):
        array = np.ascontiguousarray(sample)
        return f"{array.dtype.str}{array.shape}".encode() + array.tobytes()
    if isinstance(sample, str | bytes | int | float | bool | None):
        return repr(sample).encode()
    if isinstance(sample, Mapping):
        return b"{" + b",".join(repr(key).encode() + _content(sample[key]) for key in sorted(sample, key=repr)) + b"}"
    if isinstance(sample, Sequence):
        return b"[" + b",".join(_content(item) for item in sample) + b"]"
    if hasattr(sample, "tobytes"):  # a PIL image
        return bytes(sample.tobytes())
    if dataclasses.is_dataclass(sample) and not isinstance(sample, type):
        return _content({field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)})
    return type(sample).__qualname__.encode()
