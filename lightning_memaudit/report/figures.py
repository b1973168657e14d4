"""Figures of a report as PNG and SVG files, the same bytes each time."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from lightning_memaudit.report.document import present

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from lightning_memaudit.sections.section import Drawing

__all__ = ["captions", "drawings", "figure_files", "inline_svg"]

_INK, _RULE = "#010203", "#040506"  # stand for the colours of the page, which a style sheet knows
_QUIET: Any = {
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _RULE,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.facecolor": "none",
    "svg.fonttype": "none",
    "font.size": 9.0,
}


def drawings(content: Mapping[str, Any]) -> dict[str, Drawing]:
    """What can be drawn of a report, by name."""
    return {
        drawing.name: drawing
        for section in present(content)
        if content[section.name]["status"] == "ok"
        for drawing in section.drawings(content[section.name])
    }


def captions(content: Mapping[str, Any]) -> dict[str, str]:
    """What each figure shows."""
    return {name: drawing.caption for name, drawing in drawings(content).items()}


def figure_files(content: Mapping[str, Any]) -> dict[str, bytes]:
    """Every figure as PNG and as SVG, by file name."""
    files: dict[str, bytes] = {}
    for name, drawing in drawings(content).items():
        figure = drawing.draw()
        for kind in ("png", "svg"):
            files[f"{name}.{kind}"] = _file(figure, name, kind)
            figure.set_layout_engine(None)  # its places are found; the next format takes them over
    return files


def inline_svg(drawing: Drawing) -> str:
    """A figure as an SVG element in the colours of the page around it, with nothing that could clash with another."""
    from matplotlib import rc_context

    with rc_context(_QUIET):
        text = _file(drawing.draw(), drawing.name, "svg").decode()
    text = text[text.index("<svg") :].replace(_INK, "currentColor").replace(_RULE, "var(--rule)")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    referenced = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in referenced else "", text)
    text = re.sub(r"font: [^;\"]*?(\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", text)
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1).strip()


def _file(figure: Figure, name: str, kind: str) -> bytes:
    from matplotlib import rc_context

    file = io.BytesIO()
    with rc_context({"svg.hashsalt": f"memaudit {name}"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a page's fonts may have it
        figure.savefig(file, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return file.getvalue()
