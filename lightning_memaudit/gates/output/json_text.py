"""JSON: everything, one object a row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_memaudit.gates.verdicts import GateResult

__all__ = ["json_text"]


def json_text(result: GateResult) -> str:
    """The result as JSON; what is not known is null."""
    return json.dumps(result.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
