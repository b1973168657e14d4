"""The optimizer of DP-SGD: the user's own, stepping along the noisy mean of clipped per-example gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lightning_memaudit.compat.opacus import dp_optimizer
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_memaudit.callbacks.dp.gradients import PerExampleGradients
    from lightning_memaudit.callbacks.dp.poisson import Draw

__all__ = ["PrivateOptimizer"]


class PrivateOptimizer(dp_optimizer()):  # type: ignore[misc]
    """Opacus's ``DPOptimizer`` over ``PerExampleGradients``.

    Args:
        optimizer: The user's optimizer; learning rate schedulers stay attached to it.
        gradients: Where clipped sums come from.
        draw: The sample that the current batch came from.
        may_step: Asked before every step; a step that it forbids is not taken.
        on_step: Called at every step that is taken.
        rank: Which process this is; the first one adds the noise.
        world_size: Number of processes.
        settings: ``noise_multiplier``, ``max_grad_norm``, ``expected_batch_size``, ``loss_reduction`` and ``generator``
            of ``DPOptimizer``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        gradients: PerExampleGradients,
        draw: Draw,
        *,
        may_step: Callable[[], bool],
        on_step: Callable[[], None],
        rank: int = 0,
        world_size: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(optimizer, **settings)
        self._gradients = gradients
        self._draw = draw
        self._may_step = may_step
        self._on_step = on_step
        self._rank = rank
        self._world_size = world_size
        self._stepped = -1

    @property
    def accumulated_iterations(self) -> int:
        """One: ``expected_batch_size`` is that of a whole step."""
        return 1

    def clip_and_accumulate(self) -> None:
        """Add the clipped gradients of the current batch to those of the step."""
        parameters = self.params
        for parameter, clipped in zip(
            parameters, self._gradients.clipped_sum(self.max_grad_norm, parameters), strict=True
        ):
            parameter.summed_grad = clipped if parameter.summed_grad is None else parameter.summed_grad + clipped

    def add_noise(self) -> None:
        """Make ``grad`` the noisy sum over all processes."""
        if self._rank == 0:
            super().add_noise()
        else:
            for parameter in self.params:
                parameter.grad = parameter.summed_grad.view_as(parameter)
        if self._world_size > 1:
            for parameter in self.params:
                torch.distributed.all_reduce(parameter.grad)

    def pre_step(self, closure: Callable[[], float] | None = None) -> bool:
        """Turn the gradients of the current batch into a private one.

        Raises:
            ConfigurationError: A second step on one batch, or gradients that are not per example.
        """
        if not self._may_step():
            self.zero_grad()
            return False
        if self._stepped == self._draw.number:
            raise ConfigurationError(
                "a second optimizer step was taken on one batch; the accounting counts a fresh sample for every step, "
                "so take one step in each training_step"
            )
        self._stepped = self._draw.number
        self.clip_and_accumulate()
        self.add_noise()
        self.scale_grad()
        self._on_step()
        for parameter in self.params:
            parameter.summed_grad = None
        return True

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        self._gradients.discard()
        for parameter in self.params:
            parameter.summed_grad = None
        self.original_optimizer.zero_grad(set_to_none)

    def detach(self) -> None:
        """Take what Opacus keeps on parameters off again."""
        for parameter in self.params:
            vars(parameter).pop("summed_grad", None)
