"""Figures in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_memaudit.gates.rules.base import Unit

__all__ = ["bound", "level", "signed", "value"]


def value(number: float | None, unit: Unit) -> str:
    """A number without a sign for what is above 0.

    Example:
        >>> value(0.05, "points"), value(0.815, "share"), value(8.0, "number"), value(None, "share")
        ('5 points', '81.5 %', '8', 'unknown')
    """
    if number is None:
        return "unknown"
    if unit == "points":
        return f"{_plain(100 * number)} points"
    return f"{_plain(100 * number)} %" if unit == "share" else _plain(number, digits=3)


def signed(number: float | None, unit: Unit) -> str:
    """A number, with a sign where it is a difference.

    Example:
        >>> signed(0.005, "points"), signed(-0.05, "points"), signed(0.8, "share")
        ('+0.5 points', '−5 points', '80 %')
    """
    text = value(number, unit)
    return f"+{text}" if unit == "points" and number is not None and number > 0 and text != "0 points" else text


def bound(end: float | None, unit: Unit, alpha: float, *, is_upper: bool) -> str:
    """The bound that decides.

    Example:
        >>> bound(0.031, "points", 0.05, is_upper=True)
        'at most +3.1 points with 95 % confidence'
    """
    return f"{'at most' if is_upper else 'at least'} {signed(end, unit)} with {level(alpha)} confidence"


def level(alpha: float) -> str:
    """One-sided confidence of a bound.

    Example:
        >>> level(0.05), level(0.0025)
        ('95 %', '99.75 %')
    """
    return f"{_plain(100 * (1 - alpha), digits=4)} %"


def _plain(number: float, digits: int = 2) -> str:
    text = f"{number:.{digits}f}".rstrip("0").rstrip(".")
    return text.replace("-", "−") if float(text) else "0"
