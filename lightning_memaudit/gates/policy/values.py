"""Values of policies: each function checks one and names the key, the value and what is needed."""

from __future__ import annotations

import datetime as dt
import difflib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "as_choice",
    "as_count",
    "as_date",
    "as_flag",
    "as_list",
    "as_names",
    "as_number",
    "as_table",
    "as_text",
    "check_keys",
]


def check_keys(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse keys that are not known; the nearest one is suggested."""
    names = list(known)
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigurationError(f"{where}: unknown key {key!r}; {meant}possible are {', '.join(names)}")


def as_table(value: Any, where: str) -> Mapping[str, Any]:
    """A table."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{where} = {value!r:.80}; a table is needed")
    return value


def as_number(value: Any, where: str) -> float:
    """A finite number."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ConfigurationError(f"{where} = {value!r:.80}; a finite number is needed")


def as_count(value: Any, where: str, *, least: int) -> int:
    """A whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{where} = {value!r:.80}; a whole number of at least {least} is needed")
    return value


def as_flag(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where} = {value!r:.80}; true or false is needed")
    return value


def as_text(value: Any, where: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{where} = {value!r:.80}; a text is needed")
    return value


def as_choice(value: Any, known: tuple[str, ...], where: str) -> str:
    """One of some texts; the nearest one is suggested."""
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigurationError(f"{where} = {value!r:.80}; {meant}possible are {', '.join(known)}")
    return str(value)


def as_list(value: Any, where: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list | tuple):
        raise ConfigurationError(f"{where} = {value!r:.80}; a list is needed")
    return list(value)


def as_names(table: Mapping[str, Any], key: str, default: tuple[str, ...], where: str) -> tuple[str, ...]:
    """A list of names or patterns; a single one may stand for itself."""
    if key not in table:
        return default
    value = table[key]
    names = [value] if isinstance(value, str) else as_list(value, f"{where}.{key}")
    if not all(isinstance(name, str) and name for name in names) or not (names or key == "exclude"):
        raise ConfigurationError(f"{where}.{key} = {value!r:.80}; a list of names or patterns is needed")
    return tuple(names)


def as_date(value: Any, where: str) -> dt.date:
    """A day."""
    if isinstance(value, dt.datetime):
        return value.date()
    if isinstance(value, dt.date):
        return value
    try:
        return dt.date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{where} = {value!r:.80}; a date is needed, such as 2027-06-30") from error
