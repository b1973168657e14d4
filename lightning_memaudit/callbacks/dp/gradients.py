"""Per-example gradients of an unmodified module: hooks on its layers, and Opacus's formulas for each kind of layer.

Unlike ``opacus.GradSampleModule`` a hook sits on the output TENSOR of a layer. So what a layer was given and what came
back belong together even where a forward pass is left out of the loss, a layer is registered under two names, or the
next layer works in place; and nothing is written onto modules or parameters.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from lightning_memaudit.compat.opacus import (
    differentiated_layer,
    gradient_samplers,
    norm_samplers,
    recurrent_cell,
    recurrent_layers,
)
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from lightning_memaudit.callbacks.dp.poisson import Draw

__all__ = ["GradSampleMode", "PerExampleGradients"]

GradSampleMode = Literal["hooks", "functorch", "ghost"]

_GRADIENTS = gradient_samplers()
_NORMS = norm_samplers()
_RECURRENT, _RECURRENT_CELL = recurrent_layers(), recurrent_cell()
_LOOKUPS = (nn.Embedding, nn.EmbeddingBag)  # of whole numbers, which torch.func has no gradient through
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-3}  # of a gradient; mixed precision comes last
_COARSE, _TINY = 0.05, 1e-7


@dataclass(slots=True, eq=False)
class _Call:
    """One use of a layer in a forward pass."""

    layer: nn.Module
    inputs: list[Tensor]
    number: int
    edge: GradientEdge | None = None
    gradient: Tensor | None = None
    passed: bool = False


class PerExampleGradients:
    """Attaches to a module and gives the sum of clipped per-example gradients after each backward pass.

    Args:
        module: The module; its layers get forward hooks until ``detach``.
        draw: The sample that the current batch came from.
        mode: ``"hooks"`` (Opacus's formula for each layer, ``torch.func`` for layers without one), ``"functorch"``
            (``torch.func`` for all), or ``"ghost"`` (norms only, then a second pass through each layer by itself).
        loss_is_mean: Whether the loss is the mean over the examples of a batch, else the sum.
        parts: By how much Lightning divides the loss since a sample comes in so many parts.
        verify: Whether to compare the first step's gradients with those of the loss.
    """

    def __init__(
        self, module: nn.Module, draw: Draw, *, mode: GradSampleMode, loss_is_mean: bool, parts: int, verify: bool
    ) -> None:
        self.enabled = True
        self._module = module
        self._draw = draw
        self._ghost = mode == "ghost"
        self._loss_is_mean = loss_is_mean
        self._parts = parts
        self._verify = verify
        self._names = {parameter: name for name, parameter in module.named_parameters()}
        self._layers = _layers(module)
        self._functional: dict[nn.Module, Callable[..., Any]] = {
            layer: _prepared(layer, name)
            for layer, name in self._layers.items()
            if type(layer) not in _GRADIENTS or (mode == "functorch" and not isinstance(layer, _LOOKUPS))
        }
        self._calls: list[_Call] = []
        self._found: dict[nn.Parameter, Tensor] = {}  # per-example gradients, or their norms in ghost mode
        self._number = -1  # of the batch that they belong to
        capture = self._capture
        if any(type(layer).__name__ == "OptimizedModule" for layer in module.modules()):
            capture = torch.compiler.disable(capture)  # type: ignore[no-untyped-call] # it works on tensors of one batch; there is nothing to compile
        self._handles = [layer.register_forward_hook(capture) for layer in self._layers]

    def __reduce__(self) -> tuple[Any, ...]:
        return _switched_off, ()  # a copy of the module, made in mid-training, has hooks that do nothing

    def detach(self) -> None:
        """Take all hooks off again."""
        self.enabled = False
        for handle in self._handles:
            handle.remove()
        self._calls.clear()
        self._found.clear()

    def discard(self) -> None:
        """Forget the gradients of the last backward pass."""
        self._found.clear()
        for call in self._calls:
            call.gradient = None

    def clipped_sum(self, max_norm: float, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """The sum of per-example gradients over the batch, each scaled down to ``max_norm`` where it is longer.

        Args:
            max_norm: The clip norm.
            parameters: The parameters that are trained.

        Returns:
            One tensor for each parameter; zeros after an empty sample.

        Raises:
            ConfigurationError: The backward pass gave no per-example gradient of a parameter, or not the right one.
        """
        self._check_found(parameters)
        n_examples = self._draw.n_examples
        if self._verify and n_examples:
            self._check_against_loss(parameters)
        if n_examples:
            norms = [found if self._ghost else _norm(found) for found in self._found.values()]
            norm = torch.stack([part.to(norms[0].device) for part in norms], dim=1).norm(2, dim=1)
            sums = self._weighted_sum((max_norm / (norm + 1e-6)).clamp(max=1.0), parameters)
        else:
            sums = [torch.zeros_like(parameter) for parameter in parameters]
        self._calls.clear()
        self._found.clear()
        return sums

    def _weighted_sum(self, weights: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        if not self._ghost:
            found = [self._found[parameter].to(parameter.dtype) for parameter in parameters]
            return [torch.einsum("i,i...", weights.to(each), each) for each in found]
        sums: dict[nn.Parameter, Tensor] = {}
        self.enabled = False  # the hooks are for the backward pass of the loss
        try:
            for call in self._calls:
                if call.gradient is None or call.edge is None:
                    continue
                own = [parameter for parameter in call.layer.parameters() if parameter.requires_grad]
                scale = weights.to(call.gradient).reshape(-1, *[1] * (call.gradient.dim() - 1))
                try:
                    clipped = torch.autograd.grad(call.edge, own, call.gradient * scale, retain_graph=True)
                except torch.OutOfMemoryError:
                    raise
                except RuntimeError as error:
                    raise ConfigurationError(
                        f"{self._describe(call.layer)}: no second pass for grad_sample_mode='ghost' ({error}); use "
                        "grad_sample_mode='hooks'"
                    ) from error
                sums |= zip(own, clipped, strict=True)
        finally:
            self.enabled = True
        return [sums[parameter] for parameter in parameters]

    def _capture(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not self.enabled or layer not in self._layers or not torch.is_grad_enabled() or not self._module.training:
            return
        first = output if isinstance(output, torch.Tensor) else next(iter(_tensors(output)), None)
        if first is None or not first.requires_grad:
            return
        call = _Call(layer, [tensor.detach() for tensor in _tensors(inputs)], self._draw.number)
        if self._ghost:
            if self._calls and self._calls[-1].number != call.number:
                self._calls.clear()
            call.edge = get_gradient_edge(first)
            self._calls.append(call)
        first.register_hook(partial(self._backward, call))  # type: ignore[no-untyped-call]

    def _backward(self, call: _Call, gradient: Tensor) -> None:
        if not self.enabled:
            return
        if call.number != self._draw.number or (self._found and self._number != call.number):
            raise ConfigurationError(
                "gradients of more than one batch were added up: the accounting counts one optimizer step for each; "
                "take optimizer.step() on each, and set a larger batch_size (with max_physical_batch_size where memory "
                "is short)"
            )
        if call.passed:
            raise ConfigurationError(
                f"{self._describe(call.layer)}: gradients go back through it twice in a step (a gradient penalty?), "
                "and per-example gradients know only of once; leave that term out of the loss"
            )
        self._number, call.passed = call.number, True
        rows = max(1, self._draw.n_examples)
        scaled = call.gradient = gradient.detach() * (self._parts * (rows if self._loss_is_mean else 1))
        with torch.no_grad():
            for parameter, found in self._sample(call.layer, call.inputs, scaled).items():
                if parameter.requires_grad:
                    self._add(parameter, found, call.layer)
        if not self._ghost:
            call.inputs.clear()
            call.gradient = None

    def _sample(self, layer: nn.Module, inputs: list[Tensor], gradient: Tensor) -> dict[nn.Parameter, Tensor]:
        """Per-example gradients, or in ghost mode their norms, of one layer's parameters."""
        try:
            if self._ghost and layer not in self._functional and getattr(layer, "padding_idx", None) is None:
                norms = _NORMS[type(layer)](layer, inputs, gradient) if type(layer) in _NORMS else {}
                if norms:
                    return norms
            if layer in self._functional:
                samples = self._sample_functionally(layer, inputs[0], gradient)
            else:
                samples = _GRADIENTS[type(layer)](layer, inputs, gradient)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"{self._describe(layer)}: Opacus cannot compute its per-example gradients "
                f"({type(error).__name__}: {error}); build it of layers such as Linear, Conv, Embedding and LayerNorm "
                "that are called with one batch-first tensor, or freeze it with requires_grad_(False)"
            ) from error
        if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
            next(iter(samples.values()))[:, layer.padding_idx] = 0  # as autograd has it; Opacus forgets
        if not self._ghost:
            return samples
        return {parameter: _norm(each) for parameter, each in samples.items()}

    def _sample_functionally(self, layer: nn.Module, inputs: Tensor, gradient: Tensor) -> dict[nn.Parameter, Tensor]:
        parameters = list(layer.parameters())
        inputs = inputs.to(gradient.dtype) if inputs.is_floating_point() else inputs
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="In CPU autocast, but the target dtype is not supported")
            found = self._functional[layer](
                parameters, inputs, gradient
            )  # Opacus takes whole numbers for low precision
        return dict(zip(parameters, found, strict=True))

    def _add(self, parameter: nn.Parameter, found: Tensor, layer: nn.Module) -> None:
        rows = max(1, self._draw.n_examples)
        if found.shape[0] != rows and not (type(layer) is _RECURRENT_CELL and found.shape[0] < rows):
            raise ConfigurationError(
                f"{self._describe(layer)}: it sees {found.shape[0]} rows in a batch of {rows} examples, so that its "
                "gradient cannot be told apart by example; keep the example the first dimension, and one row for each, "
                "through every layer that is trained"
            )
        before = self._found.get(parameter)
        if before is None:
            self._found[parameter] = found
        elif self._ghost:
            raise ConfigurationError(
                f"{self._describe(layer)}: it is used more than once in a step, or shares a parameter with another "
                "layer, which grad_sample_mode='ghost' cannot clip; use grad_sample_mode='hooks'"
            )
        elif len(before) >= len(found):
            before[: len(found)] += found
        else:  # packed sequences: the shorter ones come first in the backward pass
            found[: len(before)] += before
            self._found[parameter] = found

    def _check_found(self, parameters: Sequence[nn.Parameter]) -> None:
        if not self._found:
            raise ConfigurationError(
                "no per-example gradient was computed in this step: training_step returned None or a loss without "
                "gradient (every batch takes a step, so return a loss for each), or it does not call the layers that "
                "own the parameters (call self(...) where they sit on the LightningModule itself)"
            )
        if self._number != self._draw.number:
            raise ConfigurationError(
                "an optimizer step was taken without a backward pass on this batch; the accounting counts one for each"
            )
        missing = [self._name(parameter) for parameter in parameters if parameter not in self._found]
        if missing:
            raise ConfigurationError(
                f"no per-example gradient of {', '.join(missing)}: the parameter is not used in training_step, or not "
                "inside the forward of the layer that owns it; freeze it with requires_grad_(False), or move it into a "
                "layer of its own that is called"
            )

    def _check_against_loss(self, parameters: Sequence[nn.Parameter]) -> None:
        """Refuse gradients whose sum is not that of the loss: a penalty on weights, or hooks that change gradients."""
        first = next(iter(self._found.values()))
        divisor = self._parts * (first.shape[0] if self._loss_is_mean else 1)
        sums = self._weighted_sum(first.new_full(first.shape[:1], 1 / divisor, dtype=torch.float32), parameters)
        expected = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        whole = math.hypot(*[float(each.norm()) for each in expected])
        for parameter, ours, theirs in zip(parameters, sums, expected, strict=True):
            rounding = _ROUNDING.get(self._found[parameter].dtype, _COARSE)
            if not (ours - theirs).norm() <= rounding * max(float(theirs.norm()), whole / 10) + _TINY:
                raise ConfigurationError(
                    f"the gradient of {self._name(parameter)} is not the sum over the examples: there is a penalty on "
                    "weights in the loss (use weight_decay of the optimizer), a use of the parameter outside its "
                    "layer, or a hook that changes gradients; take it out"
                )
        self._verify = False

    def _describe(self, layer: nn.Module) -> str:
        return f"layer {self._layers[layer] or 'LightningModule'!r} ({type(layer).__name__})"

    def _name(self, parameter: nn.Parameter) -> str:
        return repr(self._names.get(parameter, f"a parameter of shape {tuple(parameter.shape)}"))


def _layers(module: nn.Module) -> dict[nn.Module, str]:
    """The outermost modules with parameters of their own that a formula covers, once each, by name."""
    found: dict[nn.Module, str] = {}

    def visit(layer: nn.Module, name: str) -> None:
        own = any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
        if own and type(layer) not in _RECURRENT:
            found.setdefault(layer, name)
        if own and type(layer) not in _GRADIENTS and type(layer) not in _RECURRENT:
            return  # torch.func covers what is inside
        for child_name, child in layer.named_children():
            visit(child, f"{name}.{child_name}".lstrip("."))

    visit(module, "")
    return found


def _prepared(layer: nn.Module, name: str) -> Callable[..., Any]:
    """The layer's per-example gradient by ``torch.func``."""
    try:
        return differentiated_layer(layer)
    except NotImplementedError as error:
        raise ConfigurationError(
            f"layer {name or 'LightningModule'!r} ({type(layer).__name__}): Opacus cannot compute its per-example "
            f"gradients ({error}); build it of layers such as Linear, Conv, Embedding and LayerNorm, or freeze it with "
            "requires_grad_(False)"
        ) from error


def _norm(samples: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(samples.reshape(len(samples), -1), dim=1)
    return norm


def _tensors(value: Any) -> list[Tensor]:
    values = value if isinstance(value, tuple | list) else [value]
    return [each for each in values if isinstance(each, torch.Tensor)]


def _switched_off() -> PerExampleGradients:
    made: PerExampleGradients = object.__new__(PerExampleGradients)
    made.enabled = False
    return made
