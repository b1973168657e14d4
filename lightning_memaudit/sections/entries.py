"""Entries of a section: ready for JSON, and with a reason where there is nothing to say."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["available", "frame_of", "plain", "unavailable"]


def available(**fields: Any) -> dict[str, Any]:
    """An entry that has something to say.

    Example:
        >>> available(n=3)
        {'status': 'ok', 'reason': None, 'n': 3}
    """
    return {"status": "ok", "reason": None, **fields}


def unavailable(reason: str) -> dict[str, Any]:
    """An entry that has not, and why.

    Example:
        >>> unavailable("there are no labels")
        {'status': 'unavailable', 'reason': 'there are no labels'}
    """
    return {"status": "unavailable", "reason": reason}


def plain(value: Any) -> Any:
    """NaN and infinities become None, tuples and arrays lists, NumPy numbers Python ones, keys texts.

    Example:
        >>> plain({1: (float("nan"), 2.0)})
        {'1': [None, 2.0]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def frame_of(columns: dict[str, Any]) -> Any:
    """A pandas DataFrame where pandas is installed, else the columns themselves.

    Example:
        >>> len(frame_of({"a": [1, 2]})["a"])
        2
    """
    try:
        import pandas as pd
    except ImportError:
        return columns
    return pd.DataFrame(columns)
