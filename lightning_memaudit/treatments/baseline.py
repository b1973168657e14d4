"""Nothing is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning.pytorch import Callback, LightningModule

    from lightning_memaudit.treatments.base import Regime

__all__ = ["Baseline"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The models as they are.

    Args:
        name: The arm's name.
    """

    name: str = "baseline"

    @property
    def trains(self) -> bool:
        """The baseline is trained."""
        return True

    def trainer_arguments(self, regime: Regime) -> Mapping[str, Any]:
        """None of its own."""
        del regime
        return {}

    def callbacks(self, regime: Regime) -> Sequence[Callback]:
        """None."""
        del regime
        return ()

    def transform(self, pl_module: LightningModule) -> LightningModule:
        """The module itself."""
        return pl_module
