"""Dynamic int8 quantization of a trained model."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from lightning_memaudit.compat.torch import talkative_loggers
from lightning_memaudit.exceptions import ConfigurationError
from lightning_memaudit.functional.checks import argument_error
from lightning_memaudit.treatments.base import Treatment, detached_copy

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

__all__ = ["Quantize"]


@dataclass(frozen=True)
class Quantize(Treatment):
    """Quantizes a copy of the trained baseline model with torchao (extra ``[quantize]``).

    Weights of linear layers are int8 per output unit, activations int8 per example, measured as they come (dynamic).
    Convolutions, which torchao does not quantize dynamically, stay as they are.

    Args:
        bits: Bits of weights and activations; 8.
        name: The arm's name.

    Raises:
        ArgumentError: Another number of bits.
    """

    bits: int = 8
    name: str = ""

    def __post_init__(self) -> None:
        if self.bits != 8:
            raise argument_error("bits", self.bits, "8 is needed: dynamic quantization has no other bits")
        if not self.name:
            object.__setattr__(self, "name", f"quantize-int{self.bits}")

    def transform(self, pl_module: LightningModule) -> LightningModule:
        """A quantized copy.

        Raises:
            ConfigurationError: torchao is not installed, or there is no linear layer.
        """
        if not any(isinstance(module, nn.Linear) for module in pl_module.modules()):
            raise ConfigurationError(
                f"{self.name}: {type(pl_module).__name__} has no Linear layer, and dynamic quantization knows no other"
            )
        quantize_, config = _torchao()
        quantized = detached_copy(pl_module).eval()
        quantize_(quantized, config())
        return quantized


def _torchao() -> tuple[Any, Any]:
    loggers = [logging.getLogger(name) for name in ("torchao", *talkative_loggers())]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)  # they report GPU kernels that this machine cannot load, and old spellings
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise ConfigurationError(
            "treatments.Quantize needs torchao: pip install 'lightning-memaudit[quantize]'"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    return quantize_, Int8DynamicActivationInt8WeightConfig
