"""The most memorized examples as people see them, each with the test examples that it helps most."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.exceptions import MissingDataError
from lightning_memaudit.functional.influence import influence
from lightning_memaudit.sections.entries import plain
from lightning_memaudit.sections.memorization import scored, top_examples
from lightning_memaudit.sections.render import section_html
from lightning_memaudit.sections.section import Drawing, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from lightning_memaudit.outcomes.examples import Examples
    from lightning_memaudit.outcomes.store import Outcomes, OutcomeStore

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


def gallery_section(store: OutcomeStore) -> GalleryResult:
    """Compute the section from a store.

    Raises:
        MissingDataError: There are fewer than two baseline models, or the store keeps no previews of its examples.
    """
    examples = store.examples("train")
    if examples.previews is None:
        raise MissingDataError(
            f"store={store.url!r} keeps no previews: its inputs are neither images nor rows of numbers nor text"
        )
    outcomes, scores, low, high, _ = scored(store)
    top = top_examples(scores, low, high, outcomes, examples)
    held_out = [split for kind in ("test", "val") for split in store.splits() if split.startswith(kind)]
    split = held_out[0] if held_out else None
    helped = {} if split is None else _helped(store, split, outcomes, [row["index"] for row in top])
    shown = sorted({pair["index"] for pairs in helped.values() for pair in pairs})
    return GalleryResult(
        plain(
            {
                "n_models": len(outcomes.model_ids),
                "split": split,
                "kind": _KINDS[examples.previews.dtype.kind],
                "items": [row | {"helped": helped.get(row["index"], [])} for row in top],
                "train": _previews(examples, [row["index"] for row in top]),
                "test": {} if split is None else _previews(store.examples(split), shown),
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


def _helped(store: OutcomeStore, split: str, outcomes: Outcomes, rows: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Examples of ``split`` of the same class that each row helps most; any class where labels are not known."""
    try:
        tested = store.load(split=split, model_ids=outcomes.model_ids.tolist(), fields=())
    except MissingDataError:
        return {}
    values = influence(tested.correct, outcomes.mask[:, rows]) if rows else np.empty((0, 0))
    if outcomes.labels is not None and tested.labels is not None:
        values = np.where(outcomes.labels[rows][:, None] == tested.labels[None], values, np.nan)
    found = {}
    for row, own in zip(rows, values, strict=True):
        best = np.argsort(-np.nan_to_num(own, nan=-2.0), kind="stable")[:_HELPED]
        found[row] = [
            {
                "index": int(j),
                "influence": float(own[j]),
                "label": None if tested.labels is None else int(tested.labels[j]),
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


SECTION = Section(name="gallery", order=20, compute=gallery_section, drawings=_drawings)
