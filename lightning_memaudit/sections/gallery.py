"""The most memorized examples as people see them, each with the test examples that it helps most."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.influence import influence
from lightning_memaudit.outcomes.arms import BASELINE
from lightning_memaudit.record.pairs import held_out_split
from lightning_memaudit.sections.entries import plain
from lightning_memaudit.sections.memorization import reads, scored, top_examples
from lightning_memaudit.sections.render import section_html
from lightning_memaudit.sections.section import Drawing, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.record import ArmOutcomes, Record

__all__ = ["SECTION", "GalleryResult", "gallery_section"]

_HELPED = 4
_COLUMNS = 10
_KINDS = {"u": "image", "f": "row", "U": "text"}  # by the type of array that previews are kept in


@dataclass(frozen=True, slots=True, eq=False)
class GalleryResult:
    """Pictures, rows or texts of the most memorized examples and of those that they help.

    Attributes:
        summary: JSON-ready; images are PNG files in base 64.
    """

    summary: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready summary."""
        return self.summary

    def _repr_html_(self) -> str:
        return section_html("gallery", self.summary)


def gallery_section(record: Record) -> GalleryResult:
    """Compute the section from a record.

    Raises:
        MissingDataError: There are fewer than two baseline models, or the store keeps no previews of its examples.
    """
    record.read(reads(record))
    examples = record.examples("train")
    if examples.previews is None:
        raise MissingDataError(
            f"store={record.url!r} keeps no previews: its inputs are neither images nor rows of numbers nor text"
        )
    known = scored(record)
    top = top_examples(record, known)
    split = held_out_split(record.splits)
    helped = {} if split is None else _helped(record, split, known.outcomes, [row["index"] for row in top])
    shown = sorted({pair["index"] for pairs in helped.values() for pair in pairs})
    return GalleryResult(
        plain(
            {
                "n_models": len(known.outcomes.model_ids),
                "split": split,
                "kind": _KINDS[examples.previews.dtype.kind],
                "items": [row | {"helped": helped.get(row["index"], [])} for row in top],
                "train": _previews(examples, [row["index"] for row in top]),
                "test": {} if split is None else _previews(record.examples(split), shown),
            }
        )
    )


def contact_sheet(content: Mapping[str, Any]) -> Figure:
    """The most memorized images, each with its label, what models say that did not train on it, and its score."""
    from matplotlib.figure import Figure
    from PIL import Image

    items = content["items"]
    n_rows = max(1, -(-len(items) // _COLUMNS))
    figure = Figure(figsize=(1.15 * _COLUMNS, 1.75 * n_rows), layout="constrained")
    for position, ax in enumerate(figure.subplots(n_rows, _COLUMNS, squeeze=False).flat):
        ax.set_axis_off()
        if position < len(items):
            row = items[position]
            file = BytesIO(base64.b64decode(content["train"][str(row["index"])]["png"]))
            ax.imshow(np.asarray(Image.open(file)), cmap="gray", interpolation="nearest", vmin=0, vmax=255)
            ax.set_title(f"label {row['label']}\nunseen: {row['out_prediction']}\nmem {row['score']:.2f}", fontsize=8)
    return figure


def _helped(record: Record, split: str, outcomes: ArmOutcomes, rows: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Examples of ``split`` of the same class that each row helps most; any class where labels are not known."""
    labels, tested_labels = outcomes.labels, record.examples(split).labels
    correct = record.arm(BASELINE).correct(split)
    values = influence(correct, outcomes.mask[:, rows]) if rows else np.empty((0, 0))
    if labels is not None and tested_labels is not None:
        values = np.where(labels[rows][:, None] == tested_labels[None], values, np.nan)
    found = {}
    for row, own in zip(rows, values, strict=True):
        best = np.argsort(-np.nan_to_num(own, nan=-2.0), kind="stable")[:_HELPED]
        found[row] = [
            {
                "index": int(j),
                "influence": float(own[j]),
                "label": None if tested_labels is None else int(tested_labels[j]),
            }
            for j in best
            if own[j] > 0
        ]
    return found


def _previews(examples: Examples, rows: list[int]) -> dict[str, dict[str, Any]]:
    if examples.previews is None:
        return {}
    return {str(row): _preview(examples.previews[row]) for row in rows}


def _preview(value: npt.NDArray[Any] | str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"kind": "text", "text": str(value)}
    if value.dtype.kind == "f":
        return {"kind": "row", "values": value.tolist()}
    from PIL import Image

    file = BytesIO()
    Image.fromarray(value).save(file, format="png")
    return {"kind": "image", "png": base64.b64encode(file.getvalue()).decode()}


def _drawings(content: Mapping[str, Any]) -> list[Drawing]:
    if content["kind"] != "image" or not content["items"]:
        return []
    n_models = content["n_models"]
    caption = (
        f"The {len(content['items'])} most memorized images, each with its label, what models say that did not train "
        f"on it, and its memorization score ({n_models} models)"
    )
    return [Drawing("top", caption, lambda: contact_sheet(content))]


SECTION = Section(name="gallery", order=20, compute=gallery_section, reads=reads, drawings=_drawings)
