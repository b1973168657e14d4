"""Who influences whom: high-influence pairs on a test split, and near-duplicates in the training set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from lightning_memaudit.outcomes.store import Outcomes, OutcomeStore

__all__ = ["describe_duplicates", "describe_influence"]
