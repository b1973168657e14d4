"""DP-SGD, and its clipping without its noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from lightning_memaudit.callbacks.differential_privacy import DifferentialPrivacy
from lightning_memaudit.callbacks.learning_rate import LearningRate
from lightning_memaudit.functional.accounting import epsilon_spent, noise_multiplier
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.treatments.base import Treatment

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from lightning_memaudit.treatments.base import Regime

__all__ = ["DPSGD", "ClipOnly"]


@dataclass(frozen=True)
class DPSGD(Treatment):
    """Trains anew with DP-SGD (Abadi et al. 2016) through Opacus.

    Sample rate, expected batch size, steps and noise are fixed once from the plan: a subset that happens to be larger
    gets no other mechanism, so that ε is that of the plan's subset size under adding or removing one example.

    Args:
        target_epsilon: The budget ε of one model.
        noise_multiplier: Standard deviation of the noise over ``max_grad_norm``, instead of a budget.
        target_delta: δ.
        max_grad_norm: Norm to which each example's gradient is clipped.
        grad_sample_mode: How Opacus gets at the gradient of each example.
        lr: Learning rate of every parameter group in place of the baseline's; one that suits SGD makes clipping look
            like the price of privacy. Several are tried by the audit, which takes the best on training examples that
            models did not see; a text takes the rate of the treatment of that name.
        max_epochs: Epochs in place of the baseline's.
        name: The arm's name; None makes one of the budget.
        lr_search: How ``lr`` was searched, for the record; ``search_learning_rate`` says it.

    Raises:
        ArgumentError: Neither budget nor noise, or both; numbers out of range.

    Example:
        >>> DPSGD(target_epsilon=3.0, lr=0.5).name
        'dpsgd-eps3'
    """

    target_epsilon: float | None = None
    noise_multiplier: float | None = None
    target_delta: float = 1e-5
    max_grad_norm: float = 1.0
    grad_sample_mode: Literal["hooks", "functorch", "ghost"] = "hooks"
    lr: float | Sequence[float] | str | None = None
    max_epochs: int | None = None
    name: str = ""
    lr_search: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.target_epsilon is None) == (self.noise_multiplier is None):
            raise argument_error(
                "target_epsilon",
                self.target_epsilon,
                "exactly one of target_epsilon and noise_multiplier is needed, to say how private the models are, and "
                f"noise_multiplier={self.noise_multiplier!r}",
            )
        if self.noise_multiplier == 0:
            raise argument_error(
                "noise_multiplier", 0, "a number above 0 is needed; DP-SGD without noise is treatments.ClipOnly"
            )
        _check_training(self.lr, self.max_epochs)
        self._callback(sample_rate=0.5, steps=1, expected_batch_size=1.0)  # says what is out of range
        if not self.name:
            how = (
                f"eps{self.target_epsilon:g}" if self.target_epsilon is not None else f"noise{self.noise_multiplier:g}"
            )
            object.__setattr__(self, "name", f"dpsgd-{how}")

    @property
    def trains(self) -> bool:
        """Its models are trained."""
        return True

    @property
    def starts_trained(self) -> bool:
        """They are trained anew."""
        return False

    def with_lr(self, lr: float | None, lr_search: Mapping[str, Any] | None = None) -> DPSGD:
        """The same treatment with another learning rate, and how it was searched."""
        return replace(self, lr=lr, lr_search=lr_search)

    def trainer_arguments(self, regime: Regime) -> Mapping[str, Any]:
        """Epochs, where they are its own."""
        del regime
        return _epochs(self.max_epochs)

    def callbacks(self, regime: Regime) -> Sequence[Callback]:
        """The mechanism, and the learning rate."""
        return (*_learning_rate(self.lr), self._callback(**_mechanism(regime, self.max_epochs)))

    def privacy(self, regime: Regime) -> dict[str, Any]:
        """What one model spends when all its steps are taken, with its subset as the data set."""
        fixed = _mechanism(regime, self.max_epochs)
        rate, steps = fixed["sample_rate"], fixed["steps"]
        noise = self.noise_multiplier
        if self.target_epsilon is not None:
            noise = noise_multiplier(self.target_epsilon, self.target_delta, sample_rate=rate, steps=steps)
        return {
            "epsilon": epsilon_spent([(noise or 0.0, rate, steps)], self.target_delta),
            "delta": self.target_delta,
            "noise_multiplier": noise,
            "max_grad_norm": self.max_grad_norm,
            "sample_rate": rate,
            "steps": steps,
            "n_examples": regime.n_examples,
        }

    def _callback(self, **fixed: Any) -> DifferentialPrivacy:
        return DifferentialPrivacy(
            target_epsilon=self.target_epsilon,
            target_delta=self.target_delta,
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.max_grad_norm,
            grad_sample_mode=self.grad_sample_mode,
            **fixed,
        )


@dataclass(frozen=True)
class ClipOnly(Treatment):
    """DP-SGD without its noise: same sampling, clipping and learning rate, so that a drop splits into both causes.

    Args:
        max_grad_norm: Norm to which each example's gradient is clipped.
        grad_sample_mode: How Opacus gets at the gradient of each example.
        lr: Learning rate of every parameter group in place of the baseline's, as for ``DPSGD``; ``lr="dpsgd-eps3"``
            takes the rate of that arm, so that its drop splits into both causes.
        max_epochs: Epochs in place of the baseline's.
        name: The arm's name.
        lr_search: How ``lr`` was searched, for the record; ``search_learning_rate`` says it.

    Raises:
        ArgumentError: Numbers out of range.
    """

    max_grad_norm: float = 1.0
    grad_sample_mode: Literal["hooks", "functorch", "ghost"] = "hooks"
    lr: float | Sequence[float] | str | None = None
    max_epochs: int | None = None
    name: str = "clip-only"
    lr_search: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_training(self.lr, self.max_epochs)
        self._callback(sample_rate=0.5, steps=1, expected_batch_size=1.0)

    @property
    def trains(self) -> bool:
        """Its models are trained."""
        return True

    @property
    def starts_trained(self) -> bool:
        """They are trained anew."""
        return False

    def with_lr(self, lr: float | None, lr_search: Mapping[str, Any] | None = None) -> ClipOnly:
        """The same treatment with another learning rate, and how it was searched."""
        return replace(self, lr=lr, lr_search=lr_search)

    def trainer_arguments(self, regime: Regime) -> Mapping[str, Any]:
        """Epochs, where they are its own."""
        del regime
        return _epochs(self.max_epochs)

    def callbacks(self, regime: Regime) -> Sequence[Callback]:
        """The mechanism, and the learning rate."""
        return (*_learning_rate(self.lr), self._callback(**_mechanism(regime, self.max_epochs)))

    def _callback(self, **fixed: Any) -> DifferentialPrivacy:
        return DifferentialPrivacy(
            noise_multiplier=0.0, max_grad_norm=self.max_grad_norm, grad_sample_mode=self.grad_sample_mode, **fixed
        )


def _mechanism(regime: Regime, max_epochs: int | None) -> dict[str, Any]:
    steps = regime.steps_per_epoch * (max_epochs or regime.max_epochs)
    return {
        "sample_rate": min(1.0, 1 / regime.steps_per_epoch),
        "expected_batch_size": regime.n_examples / regime.steps_per_epoch,
        "steps": steps if regime.max_steps is None else min(steps, regime.max_steps),
    }


def _learning_rate(lr: float | Sequence[float] | str | None) -> tuple[LearningRate, ...]:
    if isinstance(lr, str | Sequence):
        raise argument_error("lr", lr, "an audit searches it before it trains; elsewhere pass one number")
    return () if lr is None else (LearningRate(lr),)


def _epochs(max_epochs: int | None) -> dict[str, Any]:
    return {} if max_epochs is None else {"max_epochs": max_epochs}


def _check_training(lr: float | Sequence[float] | str | None, max_epochs: int | None) -> None:
    rates = lr if isinstance(lr, Sequence) and not isinstance(lr, str) else [lr]
    if not rates or not all(rate is None or isinstance(rate, str) or rate > 0 for rate in rates):
        raise argument_error(
            "lr",
            lr,
            "a positive learning rate is needed, or several to try, or the name of a treatment that has "
            "one, or None for the baseline's",
        )
    if max_epochs is not None and max_epochs < 1:
        raise argument_error("max_epochs", max_epochs, "a positive number is needed, or None for the baseline's")
