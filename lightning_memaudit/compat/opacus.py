"""What the package needs of the inside of Opacus; names as of Opacus 1.6. Opacus is imported when it is asked for.

Where a name is missing DP-SGD is refused, since an epsilon or a clipped gradient of another make would be a guess.
"""

from __future__ import annotations

import importlib
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_memaudit.compat.names import require
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

__all__ = [
    "Validators",
    "check_private_steps",
    "differentiated_layer",
    "dp_optimizer",
    "gradient_samplers",
    "module_validators",
    "norm_samplers",
    "privacy_losses",
    "recurrent_cell",
    "recurrent_layers",
    "renyi_divergence",
    "root_logger_kept",
]

_DP = "differential privacy"


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Import Opacus inside: it hangs a handler onto the root logger, after which other libraries' messages show."""
    handlers = logging.root.handlers[:]
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers


def check_private_steps() -> None:
    """Refuse DP-SGD with an Opacus that lacks anything in this module, before anything is trained.

    Raises:
        ConfigurationError: The name that is missing, and the version, are said.
    """
    for look in (_sampling_hooks, recurrent_layers, recurrent_cell, module_validators, dp_optimizer, privacy_losses):
        look()
    _named("opacus.grad_sample.functorch", "prepare_layer")
    _named("opacus.accountants.analysis.rdp", "compute_rdp")


def gradient_samplers() -> Mapping[type, Callable[..., dict[nn.Parameter, Tensor]]]:
    """Per-example gradients by kind of layer: ``GradSampleHooksFastGradientClipping.GRAD_SAMPLERS``.

    A user's ``register_grad_sampler`` adds to it.

    Raises:
        ConfigurationError: Opacus has no such table.
    """
    table: dict[type, Callable[..., dict[nn.Parameter, Tensor]]] = _sampling_hooks().GRAD_SAMPLERS
    return table


def norm_samplers() -> Mapping[type, Callable[..., dict[nn.Parameter, Tensor]]]:
    """Norms of per-example gradients by kind of layer: ``GradSampleHooksFastGradientClipping.NORM_SAMPLERS``.

    Raises:
        ConfigurationError: Opacus has no such table.
    """
    table: dict[type, Callable[..., dict[nn.Parameter, Tensor]]] = _sampling_hooks().NORM_SAMPLERS
    return table


def differentiated_layer(layer: nn.Module) -> Callable[..., Any]:
    """Per-example gradients of any layer by ``torch.func``: ``opacus.grad_sample.functorch.prepare_layer``.

    Opacus leaves what it made on the layer, as ``ft_compute_sample_grad``, from where it is taken off.

    Raises:
        ConfigurationError: Opacus has no such function, or leaves nothing.
        NotImplementedError: Opacus cannot differentiate this layer.
    """
    _named("opacus.grad_sample.functorch", "prepare_layer")(layer)
    require("opacus", layer, "ft_compute_sample_grad", purpose=_DP)
    made: Callable[..., Any] = vars(layer).pop("ft_compute_sample_grad")
    return made


def recurrent_layers() -> tuple[type[nn.Module], ...]:
    """Opacus's own recurrent layers, which are made of ``recurrent_cell``: ``opacus.layers.dp_rnn``."""
    return tuple(_named("opacus.layers.dp_rnn", name) for name in ("DPRNN", "DPLSTM", "DPGRU"))


def recurrent_cell() -> type[nn.Module]:
    """The linear layer inside recurrent ones, called once a time step: ``opacus.layers.dp_rnn.RNNLinear``."""
    kind: type[nn.Module] = _named("opacus.layers.dp_rnn", "RNNLinear")
    return kind


@dataclass(frozen=True, slots=True)
class Validators:
    """The layers that Opacus refuses, and those that it knows another for.

    Attributes:
        refused: Kinds of layers with a check of their own.
        fixers: What makes another layer of one, by kind.
    """

    refused: Mapping[type, Any]
    fixers: Mapping[type, Callable[..., nn.Module]]


def module_validators() -> Validators:
    """The tables ``ModuleValidator.VALIDATORS`` and ``ModuleValidator.FIXERS``.

    Raises:
        ConfigurationError: Opacus has no such tables.
    """
    validator = _named("opacus.validators", "ModuleValidator")
    require("opacus", validator, "VALIDATORS", "FIXERS", purpose=_DP)
    return Validators(validator.VALIDATORS, validator.FIXERS)


def dp_optimizer() -> type[Any]:
    """``opacus.optimizers.DPOptimizer``, with the methods and attributes that a subclass builds on.

    Raises:
        ConfigurationError: It is built otherwise.
    """
    kind: type[Any] = _named("opacus.optimizers", "DPOptimizer")
    require("opacus", kind, "add_noise", "scale_grad", "pre_step", "params", purpose=_DP)
    return kind


def privacy_losses() -> Any:
    """``opacus.accountants.analysis.prv``: privacy losses as random variables, and their composition.

    Raises:
        ConfigurationError: One of its parts is missing.
    """
    module = _imported("opacus.accountants.analysis.prv")
    require("opacus", module, *_LOSSES, purpose=_DP)
    return module


def renyi_divergence(*, sample_rate: float, noise_multiplier: float, orders: tuple[float, ...]) -> Any:
    """Rényi divergences of one noisy step: ``opacus.accountants.analysis.rdp.compute_rdp``.

    Args:
        sample_rate: Probability that an example enters the step.
        noise_multiplier: Standard deviation of the noise over the clip norm.
        orders: Of the divergences.

    Returns:
        float64[len(orders)].

    Raises:
        ConfigurationError: Opacus has no such function.
    """
    compute = _named("opacus.accountants.analysis.rdp", "compute_rdp")
    return compute(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=orders)


_LOSSES = (
    "Domain",
    "PoissonSubsampledGaussianPRV",
    "TruncatedPrivacyRandomVariable",
    "compose_heterogeneous",
    "discretize",
)


def _sampling_hooks() -> Any:
    kind = _named("opacus.grad_sample", "GradSampleHooksFastGradientClipping")
    require("opacus", kind, "GRAD_SAMPLERS", "NORM_SAMPLERS", purpose=_DP)
    return kind


def _named(module: str, name: str) -> Any:
    found = _imported(module)
    require("opacus", found, name, purpose=_DP)
    return getattr(found, name)


def _imported(module: str) -> Any:
    try:
        with root_logger_kept():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opacus":
            raise
        require("opacus", importlib.import_module("opacus"), module.removeprefix("opacus."), purpose=_DP)
        raise ConfigurationError(f"{_DP} needs {module} of opacus") from error
