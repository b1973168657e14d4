"""The gradients of a module's training_step for many models at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from lightning_memaudit.compat.torch import compile_graph, unflatten
from lightning_memaudit.training.engines.ensemble.inspection import Inspection, loss_of
from lightning_memaudit.training.engines.ensemble.pooling import ChannelsLastPooling
from lightning_memaudit.training.engines.in_memory.loop import training_step_of
from lightning_memaudit.training.engines.in_memory.support import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import LightningModule

    from lightning_memaudit.training.engines.ensemble.stack import Stack

__all__ = ["EnsembleGradients", "Traces"]

_Tensors = dict[str, torch.Tensor]
_Step = Callable[..., list[torch.Tensor]]
_FEW = 8  # uses of a batch size that do not repay a trace
_COMPILER: dict[str, Any] = {
    "fallback_random": True,  # the random numbers that are drawn otherwise, too
    "compile_threads": 1,  # other processes train meanwhile
    "cpp.vec_isa_ok": True,  # what the processor says that it can do is not tried out one by one, which takes 10 s
}


@dataclass(slots=True)
class Traces:
    """Traced training steps, for all chunks of one process.

    Attributes:
        steps: By the shapes of a batch.
        uses: Of batches of other sizes than most, which are traced when they come up often enough.
    """

    steps: dict[tuple[torch.Size, ...], _Step] = field(default_factory=dict)
    uses: Counter[tuple[torch.Size, ...]] = field(default_factory=Counter)


class EnsembleGradients:
    """Computes the gradients of K models, each on its own batch, by ``vmap`` over ``grad`` of ``training_step``.

    A step that is the same computation every time is traced once for each batch size, and the trace is what runs:
    the transformations then cost nothing per step.

    Args:
        pl_module: The module whose ``training_step`` is called; its own parameters are not used.
        spec: How tensors make up a batch.
        inspection: What is known of the step.
        traces: What was traced before; it is added to.
        batch_size: Examples in a full batch.
        compiled: Compile the trace of full batches.
    """

    def __init__(
        self,
        pl_module: LightningModule,
        spec: Any,
        inspection: Inspection,
        *,
        traces: Traces,
        batch_size: int,
        compiled: bool = False,
    ) -> None:
        self._module = _TrainingStep(pl_module)
        self._spec = spec
        self._unused = inspection.unused
        self._steady = inspection.steady
        self._traces = traces
        self._batch_size = batch_size
        self._compiled = compiled

    def __call__(self, stack: Stack, leaves: list[torch.Tensor], index: int) -> None:
        """Leave the gradients in ``.grad`` of the stacked parameters; buffers are updated in place.

        Args:
            stack: The models.
            leaves: The tensors of a batch ``[K, batch, ...]``.
            index: Number of the batch in its epoch.
        """
        if self._steady:
            used = {name: parameter for name, parameter in stack.trained.items() if name not in self._unused}
            rest = {name: parameter for name, parameter in stack.trained.items() if name in self._unused} | stack.fixed
            tensors = [*(t.detach() for t in (*used.values(), *rest.values())), *stack.buffers.values(), *leaves]
            found = self._step((list(used), list(rest), list(stack.buffers)), tensors)(*tensors)
            for parameter, gradient in zip(used.values(), found, strict=True):
                parameter.grad = gradient.contiguous()  # fused optimizers go through memory as it lies
            return
        for parameter in stack.trained.values():
            parameter.grad = None
        losses = vmap(self._loss(index), randomness="different")(stack.trained, stack.fixed, stack.buffers, leaves)
        torch.autograd.backward(losses.sum())  # of the parameters that take part in this step

    def _step(self, names: Sequence[Sequence[str]], tensors: list[torch.Tensor]) -> _Step:
        """What gives the gradients for tensors of these shapes: those of the stack under their names, and a batch."""
        shapes = tuple(leaf.shape for leaf in tensors[sum(map(len, names)) :])
        if shapes in self._traces.steps:
            return self._traces.steps[shapes]
        gradients = vmap(grad(self._loss(0)), randomness="different")

        def step(*tensors: torch.Tensor) -> list[torch.Tensor]:
            rest = iter(tensors)
            named = [dict(zip(kind, islice(rest, len(kind)), strict=True)) for kind in names]
            with ChannelsLastPooling():
                return list(gradients(*named, list(rest)).values())

        is_full = shapes[0][1] == self._batch_size
        self._traces.uses[shapes] += 1
        if not is_full and self._traces.uses[shapes] <= _FEW:
            return step
        state = torch.get_rng_state()
        traced: _Step = make_fx(step)(*[tensor.clone() for tensor in tensors])  # which it may write to
        torch.set_rng_state(state)
        if is_full and self._compiled:
            traced = _compiled(traced, tensors)
        self._traces.steps[shapes] = traced
        return traced

    def _loss(self, index: int) -> Callable[..., torch.Tensor]:
        def loss(used: _Tensors, rest: _Tensors, buffers: _Tensors, leaves: list[torch.Tensor]) -> torch.Tensor:
            batch = unflatten(leaves, self._spec)
            tensors = {f"pl_module.{name}": tensor for name, tensor in (used | rest | buffers).items()}
            given, learn = dict(tensors), {name: tensor.requires_grad for name, tensor in tensors.items()}
            found = loss_of(functional_call(self._module, tensors, (batch, index)))
            for name, tensor in tensors.items():  # functional_call leaves here what the module has bound anew
                if tensor is not given[name] or tensor.requires_grad != learn[name]:
                    raise Unsupported(f"training_step, which binds or thaws {name.removeprefix('pl_module.')}")
            return found

        return loss


class _TrainingStep(nn.Module):
    """Lets ``functional_call`` run ``training_step`` while the user's module keeps its class."""

    def __init__(self, pl_module: LightningModule) -> None:
        super().__init__()
        self.pl_module = pl_module

    def forward(self, batch: Any, index: int) -> Any:
        return training_step_of(self.pl_module)(batch, index)


def _compiled(traced: Any, tensors: list[torch.Tensor]) -> _Step:
    """A traced step, compiled without a look at how it is called, which is the same every time."""
    with torch.no_grad():
        compiled = compile_graph(traced, tensors, _COMPILER)

    @torch.no_grad()
    def step(*tensors: torch.Tensor) -> list[torch.Tensor]:
        return list(compiled(*tensors))

    return step
