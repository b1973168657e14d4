"""Which groups and arms a rule is about: names and patterns."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MEMORIZATION", "OVERALL", "group_name", "matches"]

OVERALL = "overall"
#: Bins of memorization of the training examples, from other models than those that are judged.
MEMORIZATION = "memorization"


def group_name(grouping: str, group: str) -> str:
    """The name by which policies call a group.

    Example:
        >>> group_name("race", "Black"), group_name("overall", "all")
        ('race=Black', 'overall')
    """
    return OVERALL if grouping == OVERALL else f"{grouping}={group}"


def matches(name: str, selectors: Sequence[str]) -> bool:
    """Whether one of the selectors is the name, or a pattern that fits it (``*``, ``?``, ``[abc]``; capitals count).

    Example:
        >>> matches("race=Black", ["race=*"]), matches("race=Black", ["sex=*", "race=White"])
        (True, False)
        >>> matches("size=[0, 1)", ["size=[0, 1)"])
        True
    """
    return any(name == selector or fnmatchcase(name, selector) for selector in selectors)
