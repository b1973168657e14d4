"""DP-SGD on an unmodified LightningModule, by one callback."""

from __future__ import annotations

import math
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info

from lightning_memaudit.callbacks.dp.account import Account
from lightning_memaudit.callbacks.dp.attachment import Attachment
from lightning_memaudit.callbacks.dp.refusals import check_module_hooks, check_optimizers, check_trainer
from lightning_memaudit.compat.opacus import check_private_steps as check_opacus
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.functional.accounting import Mechanism, epsilon_spent
from lightning_memaudit.functional.checks import argument_error, as_positive_int

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from lightning_memaudit.callbacks.dp.attachment import Sampling
    from lightning_memaudit.callbacks.dp.gradients import GradSampleMode

__all__ = ["DifferentialPrivacy"]

_REPORTS = 100  # of epsilon in one fit, at most; each takes some hundredths of a second


class DifferentialPrivacy(Callback):
    """Trains with DP-SGD: Poisson samples, per-example clipping and noise, with Opacus, and the ε spent so far.

    The module, its optimizer and its data stay as they are. What would make the accounting wrong is refused with the
    way out. Neighbours differ by one training example added or removed.

    Args:
        target_epsilon: The budget ε. With it alone, the noise is the least that keeps all planned steps within it; with
            ``noise_multiplier`` too, training ends before the step that would exceed it.
        target_delta: δ, below one over the number of examples.
        noise_multiplier: Standard deviation of the noise over ``max_grad_norm``; 0 clips and samples without noise.
        max_grad_norm: Norm to which the gradient of each example is clipped.
        grad_sample_mode: ``"hooks"``; ``"functorch"`` (``torch.func`` for every layer); or ``"ghost"`` (per-example
            norms only: less memory where layers are wide, no shared parameters).
        max_physical_batch_size: Examples of a step that fit into memory. Larger samples come in parts; Lightning counts
            each part as a batch, and all parts of a sample as one step.
        sample_rate: Probability that an example enters a step; None takes 1 / batches an epoch. An epoch has
            ``round(1 / sample_rate)`` steps.
        expected_batch_size: What the noisy sum is divided by; None takes ``sample_rate`` × number of examples.
        steps: Steps that the noise is computed for, and after which training ends; None takes what the Trainer plans.
        loss_reduction: Whether ``training_step`` returns the mean over the batch or the sum.
        fix_modules: Replace BatchNorm by GroupNorm, and LSTM, GRU and MultiheadAttention by Opacus's own layers.

    Attributes:
        mechanism: What each step does, from the start of a fit on.

    Raises:
        ArgumentError: An argument out of range, or a budget that no noise meets.
        ConfigurationError: A Trainer, module or checkpoint whose steps could not be accounted for.
        UnsupportedDataError: A training loader that Poisson samples cannot replace.

    Note:
        Only the weights are private. Logged losses, metrics on private validation data, early stopping, and a choice of
        settings by them are not. Where ``sample_rate`` and ``expected_batch_size`` are None they follow from the number
        of examples, which is then no secret; to compare neighbouring data sets, fix both, and ``steps``. A loss that
        averages over tokens must give each example the same weight whatever else is in the batch. Coins and noise come
        from torch's generators, which are no cryptographic ones.

    Example:
        The user's own script with one line more::

            private = DifferentialPrivacy(target_epsilon=3.0, target_delta=1e-5)
            Trainer(max_epochs=20, callbacks=[private]).fit(model, datamodule=data)
            private.epsilon  # 2.99
    """

    # Lightning passes over hooks that are not callable.
    on_train_batch_start = None  # type: ignore[assignment]
    on_before_zero_grad = None  # type: ignore[assignment]
    on_before_backward = None  # type: ignore[assignment]
    on_before_optimizer_step = None  # type: ignore[assignment]

    def __init__(
        self,
        target_epsilon: float | None = None,
        *,
        target_delta: float = 1e-5,
        noise_multiplier: float | None = None,
        max_grad_norm: float = 1.0,
        grad_sample_mode: Literal["hooks", "functorch", "ghost"] = "hooks",
        max_physical_batch_size: int | None = None,
        sample_rate: float | None = None,
        expected_batch_size: float | None = None,
        steps: int | None = None,
        loss_reduction: Literal["mean", "sum"] = "mean",
        fix_modules: bool = False,
    ) -> None:
        if target_epsilon is None and noise_multiplier is None:
            raise argument_error("target_epsilon", None, "a budget is needed, such as 3.0, or a noise_multiplier")
        if grad_sample_mode not in ("hooks", "functorch", "ghost"):
            raise argument_error("grad_sample_mode", grad_sample_mode, "one of 'hooks', 'functorch', 'ghost' is needed")
        if loss_reduction not in ("mean", "sum"):
            raise argument_error("loss_reduction", loss_reduction, "one of 'mean', 'sum' is needed")
        self.target_epsilon = _positive(target_epsilon, "target_epsilon")
        if max_grad_norm is None:
            raise argument_error("max_grad_norm", None, "a positive number is needed")
        if not (_is_number(target_delta) and 0 < target_delta < 1):
            raise argument_error(
                "target_delta",
                target_delta,
                "a number above 0 and well below 1 over the number of examples is needed, such as 1e-5",
            )
        self.target_delta = float(target_delta)
        if noise_multiplier is not None and not (_is_number(noise_multiplier) and 0 <= noise_multiplier < math.inf):
            raise argument_error("noise_multiplier", noise_multiplier, "a number of at least 0 is needed")
        self.noise_multiplier = None if noise_multiplier is None else float(noise_multiplier)
        self.max_grad_norm: float = _positive(max_grad_norm, "max_grad_norm")
        self.grad_sample_mode: GradSampleMode = grad_sample_mode
        self.max_physical_batch_size = _count(max_physical_batch_size, "max_physical_batch_size")
        self.sample_rate = _positive(sample_rate, "sample_rate", most=1.0)
        self.expected_batch_size = _positive(expected_batch_size, "expected_batch_size")
        self.steps = _count(steps, "steps")
        self.loss_reduction = loss_reduction
        self.fix_modules = fix_modules
        self.mechanism: Mechanism | None = None
        self._account = Account()
        self._limit = math.inf
        self._reports_every = 1
        self._next_report = self._next_epoch_report = math.inf
        self._module: weakref.ref[LightningModule] | None = None
        self._attached: Attachment | None = None

    @property
    def epsilon(self) -> float:
        """The ε spent so far, at ``target_delta``; infinite once a step had no noise."""
        return epsilon_spent(self._account.history, self.target_delta)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be accounted for, and take over the training loader."""
        if stage != "fit":
            return
        self._detach()
        check_opacus()
        splits = self.max_physical_batch_size is not None
        check_trainer(trainer, splits_batches=splits)
        check_module_hooks(pl_module, self.grad_sample_mode, splits_batches=splits)
        if self.fix_modules:
            from lightning_memaudit.callbacks.dp.modules import fix_module

            for replaced in fix_module(pl_module):
                rank_zero_info(f"DifferentialPrivacy: {replaced}")
        if trainer.global_step == 0:  # a module that is trained once more goes on spending
            again = self._module is not None and self._module() is pl_module
            self._account = Account(history=self._account.history if again else [])
        self._module = weakref.ref(pl_module)
        self._attached = Attachment(
            trainer, sample_rate=self.sample_rate, max_physical_batch_size=self.max_physical_batch_size
        )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Settle the noise, and attach to module and optimizer, which exist by now."""
        from lightning_memaudit.callbacks.dp.modules import check_module

        attached = self._attached
        if attached is None:
            raise ConfigurationError("callbacks: add DifferentialPrivacy before trainer.fit, not during it")
        check_module(pl_module)
        optimizer = check_optimizers(trainer.optimizers)
        sampling = attached.load_data()
        if sampling is None:
            return
        mechanism = self.mechanism = self._settle(trainer, sampling)
        rank_zero_info(f"DifferentialPrivacy: {mechanism}")
        attached.start(
            pl_module,
            optimizer,
            mechanism,
            mode=self.grad_sample_mode,
            loss_reduction=self.loss_reduction,
            steps_before=sum(part.steps for part in self._account.history),
            may_step=lambda: self._account.steps_done < self._limit,
            on_step=partial(self._account.step, mechanism.noise_multiplier, mechanism.sample_rate),
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse to go on from steps that were not private, and see to it that training ends with the budget."""
        attached, done = self._attached, self._account.steps_done
        if attached is None or attached.sampling is None:
            return
        if trainer.global_step > done:
            raise ConfigurationError(
                f"the checkpoint comes after {trainer.global_step} steps, of which {done} are on the account of "
                "DifferentialPrivacy; go on from one that was trained with it"
            )
        if trainer.fit_loop.epoch_loop.batch_progress.current.ready % attached.sampling.parts:
            raise ConfigurationError(
                "the checkpoint was taken between the parts of a sample that max_physical_batch_size splits; go on "
                "from one taken after a whole step (ModelCheckpoint without train_time_interval)"
            )
        if self._limit < trainer.estimated_stepping_batches:
            attached.end_at(trainer.global_step + int(self._limit) - done)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Clip a part of a sample when other parts are still to come."""
        if trainer.accumulate_grad_batches > 1 and self._attached is not None:
            self._attached.keep_part()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log ε in the course of a long epoch."""
        done = self._account.steps_done
        if done >= self._next_report:
            self._next_report = done + max(trainer.log_every_n_steps, self._reports_every)  # type: ignore[attr-defined]
            self._report(trainer, pl_module, on_step=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log ε, at the last step in any case."""
        done = self._account.steps_done
        if done >= min(self._next_epoch_report, self._limit):
            self._next_epoch_report = done + self._reports_every
            self._report(trainer, pl_module, on_step=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put everything back."""
        self._detach()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put everything back."""
        if stage == "fit":
            self._detach()

    def state_dict(self) -> dict[str, Any]:
        """The account, for a checkpoint."""
        return self._account.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the account of a checkpoint."""
        self._account.load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a worker process gets: nothing of a fit, nor the module's ``log`` that Lightning puts here."""
        kept = {name: value for name, value in vars(self).items() if name not in ("log", "log_dict")}
        return kept | {"_module": None, "_attached": None}

    def _settle(self, trainer: Trainer, sampling: Sampling) -> Mechanism:
        """The noise, and where training ends."""
        if self.target_delta >= 1 / sampling.n_examples:
            warnings.warn(
                f"target_delta={self.target_delta:g} is not below 1 / {sampling.n_examples} examples, so that "
                "publishing a random example would count as private; lower it",
                UserWarning,
                stacklevel=2,
            )
        planned = self.steps or trainer.estimated_stepping_batches
        noise, self._limit = self._account.settle(
            self.target_epsilon, self.target_delta, self.noise_multiplier, sampling.rate, planned
        )
        every, done = trainer.log_every_n_steps, self._account.steps_done  # type: ignore[attr-defined]
        self._reports_every = 1 if math.isinf(self._limit) else math.ceil(self._limit / _REPORTS)
        self._next_epoch_report = done + 1
        self._next_report = done + max(every, self._reports_every) if every else math.inf
        return Mechanism(
            noise_multiplier=noise,
            max_grad_norm=self.max_grad_norm,
            sample_rate=sampling.rate,
            expected_batch_size=self.expected_batch_size or sampling.rate * sampling.n_examples,
            steps=None if math.isinf(planned) else int(planned),
        )

    def _report(self, trainer: Trainer, pl_module: LightningModule, *, on_step: bool) -> None:
        if self.mechanism is None or self.mechanism.noise_multiplier == 0 or trainer.barebones:
            return
        pl_module.log(
            "dp/epsilon",
            self.epsilon,
            on_step=on_step,
            on_epoch=not on_step,
            prog_bar=True,
            sync_dist=trainer.world_size > 1,
        )

    def _detach(self) -> None:
        if self._attached is not None:
            self._attached.detach()
            self._attached = None


def _positive(value: Any, name: str, *, most: float = math.inf) -> Any:
    if value is not None and not (_is_number(value) and 0 < value <= most and value < math.inf):
        limit = f" up to {most:g}" if most < math.inf else ""
        raise argument_error(name, value, f"a positive number{limit} is needed")
    return None if value is None else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _count(value: int | None, name: str) -> int | None:
    return None if value is None else as_positive_int(value, name=name)
