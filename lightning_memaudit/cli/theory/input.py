"""What the user of ``memaudit theory`` types: numbers, priors, and files of counts or frequencies."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lightning_memaudit.exceptions import ConfigurationError, MissingDataError
from lightning_memaudit.functional.long_tail import dirichlet, from_frequencies, two_level, uniform, zipf

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.functional.checks import FloatArray
    from lightning_memaudit.functional.long_tail import DirichletPrior, Prior

__all__ = ["number", "numbers", "prior_maker", "read_column", "whole", "wholes"]

_PRIORS = "zipf:EXPONENT, uniform, two-level:N_HEAVY:MASS, dirichlet:ALPHA or file:PATH"
_MOST_COUNT = 10**10


def number(option: str, text: str, such_as: str = "a finite number is needed, such as 0.5") -> float:
    """A finite number.

    Raises:
        ConfigurationError: It is none.

    Example:
        >>> number("--gamma", "0.5")
        0.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(f"{option} {text or repr(text)}: {such_as}")
    return value


def whole(option: str, text: str) -> int:
    """A whole number, also as 1e6.

    Raises:
        ConfigurationError: It is none.

    Example:
        >>> whole("--n-points", "1e6")
        1000000
    """
    such_as = "a whole number is needed, such as 1000 or 1e6"
    try:
        return int(text)
    except ValueError:
        value = number(option, text, such_as)
    if value != math.floor(value):
        raise ConfigurationError(f"{option} {text}: {such_as}")
    return int(value)


def numbers(option: str, text: str) -> list[float]:
    """Numbers with commas between them."""
    return [number(option, part.strip()) for part in text.split(",")]


def wholes(option: str, text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [whole(option, part.strip()) for part in text.split(",")]


def prior_maker(text: str) -> tuple[Callable[[int], Prior | DirichletPrior], int | None]:
    """What makes the prior for a number of points, and that number where the prior has its own.

    Args:
        text: One of zipf:EXPONENT, uniform, two-level:N_HEAVY:MASS, dirichlet:ALPHA, file:PATH.

    Raises:
        ConfigurationError: It is none of them, or lacks a number.
        MissingDataError: The file is not there.

    Example:
        >>> make, n_points = prior_maker("two-level:2:0.5")
        >>> make(12).frequencies, n_points
        (array([0.25, 0.05]), None)
    """
    kind, *rest = text.split(":")
    if kind == "file" and text != "file:" and rest:
        listed = from_frequencies(read_column("--prior file", text.removeprefix("file:")))
        return lambda _: listed, listed.n_points
    if kind == "zipf" and len(rest) == 1:
        exponent = number("--prior zipf:EXPONENT", rest[0])
        return lambda n: zipf(n, exponent), None
    if kind == "uniform" and not rest:
        return uniform, None
    if kind == "two-level" and len(rest) == 2:
        heavy, mass = whole("--prior two-level:N_HEAVY", rest[0]), number("--prior two-level:MASS", rest[1])
        return lambda n: two_level(n, heavy, mass), None
    if kind == "dirichlet" and len(rest) == 1:
        concentration = number("--prior dirichlet:ALPHA", rest[0])
        return lambda n: dirichlet(n, concentration), None
    raise ConfigurationError(f"--prior {text}: {_PRIORS} is needed, such as zipf:1.0")


def read_column(option: str, path: str) -> FloatArray:
    """The numbers of a CSV file of one column, or of two: name and number; a first line without a number is a header.

    Args:
        option: Who asks, for messages.
        path: A local file.

    Returns:
        The numbers, float64[P], at most 1e10 each.

    Raises:
        MissingDataError: The file is not there or cannot be read.
        ConfigurationError: It holds something else, or nothing.
    """
    lines = _lines(option, path)
    if lines and _as_number(lines[0][1][-1]) is None:
        del lines[0]
    if not lines:
        raise ConfigurationError(f"{option} {path}: there is no number in it; one line for each point is needed")
    width, names, values = len(lines[0][1]), set[str](), []
    for position, cells in lines:
        where = f"{option} {path}, line {position}"
        if len(cells) != width or width > 2:
            raise ConfigurationError(
                f"{where}: {','.join(cells)!r} has {len(cells)} columns; a number, or a name and a number, is needed "
                "on every line"
            )
        value = _as_number(cells[-1])
        if value is None or not 0 <= value <= _MOST_COUNT:
            raise ConfigurationError(f"{where}: {cells[-1]!r} is not a number from 0 to 1e10; correct that line")
        if width == 2 and cells[0] in names:
            raise ConfigurationError(f"{where}: {cells[0]!r} is there twice; add its numbers up")
        names.add(cells[0])
        values.append(value)
    return np.array(values)


def _lines(option: str, path: str) -> list[tuple[int, list[str]]]:
    """Line numbers and cells of the lines that are not blank."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise MissingDataError(f"{option} {path}: there is no such file; check the path") from error
    except OSError as error:
        raise MissingDataError(f"{option} {path}: it cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{option} {path}: it is not a text file in UTF-8; save it as CSV") from error
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise ConfigurationError(f"{option} {path}: it is no CSV file ({error}); check its quotation marks") from error
    return [(position, cells) for position, cells in rows if any(cells)]


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
