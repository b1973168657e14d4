"""What every treatment answers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lightning.pytorch import Callback, LightningModule

__all__ = ["Regime", "Treatment", "Tunable", "detached_copy"]


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


@runtime_checkable
class Tunable(Protocol):
    """A treatment with a learning rate of its own, which ``search_learning_rate`` can search."""

    @property
    def name(self) -> str:
        """The arm's name."""
        ...  # pragma: no cover

    @property
    def lr(self) -> float | Sequence[float] | str | None:
        """The rate; several to try; the name of a treatment whose rate is taken; None for the baseline's."""
        ...  # pragma: no cover

    @property
    def lr_search(self) -> Mapping[str, Any] | None:
        """How ``lr`` was searched, for the record."""
        ...  # pragma: no cover

    def with_lr(self, lr: float | None, lr_search: Mapping[str, Any] | None = None) -> Treatment:
        """The same treatment with another learning rate.

        Args:
            lr: The rate; None for the baseline's.
            lr_search: How it was searched.
        """
        ...  # pragma: no cover


def detached_copy(pl_module: LightningModule) -> LightningModule:
    """A deep copy without the Trainer, which stays the original's."""
    try:
        trainer = pl_module.trainer
    except RuntimeError:  # it has none
        return copy.deepcopy(pl_module)
    pl_module.trainer = None
    try:
        return copy.deepcopy(pl_module)
    finally:
        pl_module.trainer = trainer
