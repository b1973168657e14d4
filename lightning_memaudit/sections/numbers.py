"""Numbers as people read them: percentages and points with no more digits than their interval supports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lightning_memaudit.exceptions import ArgumentError

__all__ = ["ENGLISH", "Numbers", "digits_for"]

Ends = list[float | None] | tuple[float | None, float | None] | None


def digits_for(width: float | None, default: int) -> int:
    """Decimals that an interval of this width supports: two significant digits of its half-width, at most ``default``.

    Args:
        width: Upper minus lower end, in the unit that is printed; None where there is no interval.
        default: Decimals without one.

    Example:
        >>> digits_for(46.0, 1), digits_for(3.1, 1), digits_for(None, 1)
        (0, 1, 1)
    """
    if width is None or not math.isfinite(width) or width <= 0:
        return default
    return min(default, max(0, 1 - math.floor(math.log10(width / 2))))


@dataclass(frozen=True, slots=True)
class Numbers:
    """Writes numbers in the notation of a place.

    Attributes:
        decimal: The decimal mark.
        percent_sign: A percentage, with ``{}`` for the number.

    Example:
        >>> ENGLISH.percent(0.1234), Numbers(decimal=",").percent(0.1234)
        ('12.3 %', '12,3 %')
    """

    decimal: str = "."
    percent_sign: str = "{} %"

    @classmethod
    def of(cls, locale: str) -> Numbers:
        """The notation of a locale such as ``"de"`` or ``"tr_TR"``; ``"en"`` is the default and needs no extra.

        Raises:
            ArgumentError: No such locale is known, or Babel is not installed.
        """
        if locale == "en":
            return ENGLISH
        try:
            from babel import Locale, UnknownLocaleError
        except ImportError as error:
            raise ArgumentError(
                f"locale={locale!r} needs Babel; pip install 'lightning-memaudit[locales]', or leave locale out"
            ) from error
        try:
            known = Locale.parse(locale.replace("-", "_"))
        except (UnknownLocaleError, ValueError) as error:
            raise ArgumentError(f"locale={locale!r} is not known; name one such as 'de' or 'fr_CA'") from error
        pattern = known.percent_formats[None].pattern
        before, after = pattern.partition("#")[0], pattern.rpartition("0")[2]
        return cls(known.number_symbols["latn"]["decimal"], f"{before}{{}}{after}")

    def percent(self, share: float | None, digits: int = 1, within: Ends = None) -> str:
        """A share as a percentage; "unknown" for null."""
        if share is None:
            return "unknown"
        return self.percent_sign.format(self._fixed(100 * share, _digits(within, digits, 100)))

    def number(self, value: float | None, digits: int = 2, within: Ends = None) -> str:
        """A number with a true minus sign; "–" for null.

        Example:
            >>> ENGLISH.number(-0.5), ENGLISH.number(None), ENGLISH.number(5.2, within=[1.1, 9.9])
            ('−0.50', '–', '5.2')
        """
        return "–" if value is None else self._fixed(value, _digits(within, digits, 1))

    def points(self, value: float | None, digits: int = 1, within: Ends = None) -> str:
        """A difference of shares in signed percentage points; "–" for null.

        Example:
            >>> ENGLISH.points(0.123), ENGLISH.points(-0.5), ENGLISH.points(0.123, within=[-0.1, 0.3])
            ('+12.3', '−50.0', '+12')
        """
        if value is None or not math.isfinite(value):
            return "–"
        text = self._fixed(100 * value, _digits(within, digits, 100))
        return text if text.startswith("−") or not text.strip(f"0{self.decimal}") else f"+{text}"

    def span(self, ends: Ends, digits: int = 1) -> str:
        """An interval in signed percentage points; "–" where it has no ends.

        Example:
            >>> ENGLISH.span([-0.01, 0.2]), ENGLISH.span([-0.01, 0.02]), ENGLISH.span([None, None])
            ('−1 to +20', '−1.0 to +2.0', '–')
        """
        if (known := _known(ends)) is None:
            return "–"
        low, high = known
        return f"{self.points(low, digits, ends)} to {self.points(high, digits, ends)}"

    def interval(self, ends: Ends, digits: int = 2) -> str:
        """An interval of plain numbers.

        Example:
            >>> ENGLISH.interval([0.024, 0.371], 3), ENGLISH.interval([0.0241, 0.0266], 3)
            ('0.02 to 0.37', '0.024 to 0.027')
        """
        if (known := _known(ends)) is None:
            return "–"
        low, high = known
        return f"{self.number(low, digits, ends)} to {self.number(high, digits, ends)}"

    def shares(self, ends: Ends, digits: int = 1) -> str:
        """An interval of shares as percentages.

        Example:
            >>> ENGLISH.shares([0.05, 0.088])
            '5.0 % to 8.8 %'
        """
        if (known := _known(ends)) is None:
            return "–"
        low, high = known
        return f"{self.percent(low, digits, ends)} to {self.percent(high, digits, ends)}"

    def p_value(self, value: float | None) -> str:
        """A p-value; "–" for null.

        Example:
            >>> ENGLISH.p_value(0.03), ENGLISH.p_value(1e-9)
            ('0.0300', '< 0.0001')
        """
        return f"< {self._fixed(0.0001, 4)}" if value is not None and value < 0.0001 else self.number(value, 4)

    def plain(self, value: Any) -> Any:
        """Floats that a template prints as they are."""
        return str(value).replace(".", self.decimal) if isinstance(value, float) else value

    def _fixed(self, value: float, digits: int) -> str:
        text = f"{value:.{digits}f}"
        text = text.replace("-", "−") if float(text) else text.replace("-", "")
        return text.replace(".", self.decimal)


ENGLISH = Numbers()


def _digits(within: Ends, default: int, unit: float) -> int:
    known = _known(within)
    return default if known is None else digits_for(unit * (known[1] - known[0]), default)


def _known(ends: Ends) -> tuple[float, float] | None:
    low, high = ends or (None, None)
    if low is None or high is None or not math.isfinite(high - low):
        return None
    return low, high
