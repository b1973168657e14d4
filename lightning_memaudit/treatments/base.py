"""What every treatment answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning.pytorch import Callback, LightningModule

__all__ = ["Regime", "Treatment"]


@dataclass(frozen=True, slots=True)
class Regime:
    """How the baseline models are trained: the same for all of them, whatever subset each has.

    Attributes:
        n_examples: Examples that a model trains on, by the plan.
        batch_size: Examples in a batch.
        steps_per_epoch: Optimizer steps in an epoch.
        max_epochs: Epochs.
    """

    n_examples: int
    batch_size: int
    steps_per_epoch: int
    max_epochs: int


@runtime_checkable
class Treatment(Protocol):
    """Something that is done during or after the training of a model.

    Attributes:
        name: The arm's name in store and report.
        trains: Whether its models are trained anew. If not, the trained baseline model of the same number is
            transformed, so that each pair differs by the treatment alone.
    """

    @property
    def name(self) -> str:
        """The arm's name."""
        ...  # pragma: no cover

    @property
    def trains(self) -> bool:
        """Whether its models are trained anew."""
        ...  # pragma: no cover

    def trainer_arguments(self, regime: Regime) -> Mapping[str, Any]:
        """Trainer arguments that differ from the baseline's."""
        ...  # pragma: no cover

    def callbacks(self, regime: Regime) -> Sequence[Callback]:
        """What goes along in training, fresh for each model."""
        ...  # pragma: no cover

    def transform(self, pl_module: LightningModule) -> LightningModule:
        """What becomes of a trained module; the module itself stays as it is."""
        ...  # pragma: no cover
