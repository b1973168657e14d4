"""What every treatment answers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning.pytorch import Callback, LightningModule

__all__ = ["Regime", "Treatment", "detached_copy"]


@dataclass(frozen=True, slots=True)
class Regime:
    """How the baseline models are trained: the same for all of them, whatever subset each has.

    Attributes:
        n_examples: Examples that a model trains on, by the plan.
        steps_per_epoch: Optimizer steps in an epoch.
        max_epochs: Epochs.
        max_steps: Optimizer steps at which training ends, whatever the epochs; None where there is no such limit.
    """

    n_examples: int
    steps_per_epoch: int
    max_epochs: int
    max_steps: int | None = None


@runtime_checkable
class Treatment(Protocol):
    """Something that is done during or after the training of a model; all but the name has a default.

    Attributes:
        name: The arm's name in store and report.

    Example:
        A treatment of one's own, which rounds the weights of trained models::

            @dataclass(frozen=True)
            class Rounded(Treatment):
                name: str = "rounded"

                def transform(self, pl_module):
                    rounded = copy.deepcopy(pl_module)
                    for parameter in rounded.parameters():
                        parameter.data = parameter.data.round(decimals=1)
                    return rounded
    """

    name: str

    @property
    def trains(self) -> bool:
        """Whether its models are trained; if not, trained ones are transformed."""
        return False

    @property
    def starts_trained(self) -> bool:
        """Whether a model starts from the trained baseline model of its number, so that they pair exactly.

        If not, it is trained anew, on the subset and from the seed of that model.
        """
        return True

    def trainer_arguments(self, regime: Regime) -> Mapping[str, Any]:
        """Trainer arguments that differ from the baseline's."""
        del regime
        return {}

    def callbacks(self, regime: Regime) -> Sequence[Callback]:
        """What goes along in training, fresh for each model."""
        del regime
        return ()

    def transform(self, pl_module: LightningModule) -> LightningModule:
        """What becomes of a trained module; the module itself stays as it is."""
        return pl_module

    def privacy(self, regime: Regime) -> dict[str, Any] | None:
        """ε, δ and the mechanism of one model; None where nothing is promised."""
        del regime
        return None


def detached_copy(pl_module: LightningModule) -> LightningModule:
    """A deep copy without the Trainer, which stays the original's."""
    trainer, pl_module._trainer = pl_module._trainer, None
    try:
        return copy.deepcopy(pl_module)
    finally:
        pl_module._trainer = trainer
