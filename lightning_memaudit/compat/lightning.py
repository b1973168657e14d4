"""What the package needs of Lightning beyond its documented interface; names as of Lightning 2.5 to 2.6."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning_memaudit.compat import names
from lightning_memaudit.compat.names import absent, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.cli import LightningCLI

__all__ = [
    "apply_configured_optimizer",
    "arguments_of",
    "before_batch_transfer",
    "check_private_steps",
    "forks_workers",
    "hyperparameters",
    "is_compiled",
    "is_link",
    "is_part",
    "missing_from_trainer",
    "reload_training_data",
    "training_source",
    "user_optimizers",
    "without_logging_to_trainer",
]

_DP = "DifferentialPrivacy"


def missing_from_trainer(trainer: Trainer) -> str | None:
    """What a loop of ours needs of a Trainer and does not find, in words; None where all is there.

    For the engines, which leave training to Lightning's loop then. The name is that of
    ``without_logging_to_trainer``.
    """
    return absent("lightning", trainer, "_logger_connector")


@contextmanager
def without_logging_to_trainer(trainer: Trainer, connector: Any) -> Iterator[None]:
    """Put ``connector`` in the place of what collects logged values, for a while.

    ``Trainer._logger_connector`` answers ``callback_metrics``, ``logged_metrics`` and ``progress_bar_metrics``, so that
    a loop of ours, which logs nothing, can tell when they are asked for.

    Raises:
        ConfigurationError: The Trainer has no such attribute; ``missing_from_trainer`` tells before.
    """
    require("lightning", trainer, "_logger_connector", purpose="training without logging")
    kept = trainer._logger_connector
    trainer._logger_connector = connector
    try:
        yield
    finally:
        trainer._logger_connector = kept


def before_batch_transfer(trainer: Trainer, pl_module: LightningModule, batch: Any) -> Any:
    """Call the user's ``on_before_batch_transfer``, of the data module or the module, as Lightning's loops do.

    ``LightningModule._on_before_batch_transfer`` finds the one that is meant; where it is missing that is done here,
    without the profiler.
    """
    if names.has(pl_module, "_on_before_batch_transfer"):
        return pl_module._on_before_batch_transfer(batch, dataloader_idx=0)
    from lightning.pytorch.utilities.model_helpers import is_overridden

    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    given = datamodule is not None and is_overridden("on_before_batch_transfer", datamodule)
    return (datamodule if given else pl_module).on_before_batch_transfer(batch, 0)


def check_private_steps(trainer: Trainer) -> None:
    """Refuse DP-SGD with a Lightning whose loop over training batches is built otherwise.

    Raises:
        ConfigurationError: The name of ``training_source``, ``reload_training_data`` or ``is_part`` is missing.
    """
    require("lightning", trainer.fit_loop, "_data_source", "_combined_loader", "_should_accumulate", purpose=_DP)


def training_source(trainer: Trainer) -> Any:
    """What the fit loop calls for the training loader: ``FitLoop._data_source``, whose ``dataloader`` is a method.

    DP-SGD puts Poisson samples into its place.

    Raises:
        ConfigurationError: The fit loop has no such attribute.
    """
    require("lightning", trainer.fit_loop, "_data_source", purpose=_DP)
    return trainer.fit_loop._data_source


def reload_training_data(trainer: Trainer) -> None:
    """Have the fit loop ask for its training loader now, even if it has one: ``FitLoop._combined_loader``.

    Raises:
        ConfigurationError: The fit loop has no such attribute, so that it would keep the loader that it has.
    """
    require("lightning", trainer.fit_loop, "_combined_loader", purpose=_DP)
    trainer.fit_loop._combined_loader = None
    trainer.fit_loop.setup_data()


def is_part(trainer: Trainer) -> bool:
    """Whether the optimizer waits for more batches before its step: ``FitLoop._should_accumulate()``.

    Raises:
        ConfigurationError: The fit loop has no such method.
    """
    require("lightning", trainer.fit_loop, "_should_accumulate", purpose=_DP)
    return bool(trainer.fit_loop._should_accumulate())


def is_compiled(pl_module: LightningModule) -> bool:
    """Whether the whole module went through ``torch.compile``: ``LightningModule._compiler_ctx`` is no longer None.

    Raises:
        ConfigurationError: The module has no such attribute, so that DP-SGD could not see its layers and not know it.
    """
    require("lightning", pl_module, "_compiler_ctx", purpose=_DP)
    return pl_module._compiler_ctx is not None


def forks_workers(strategy: Any) -> bool:
    """Whether a DDP strategy starts its processes by fork or spawn: ``DDPStrategy._start_method``.

    Raises:
        ConfigurationError: A DDP strategy has no such attribute.
    """
    from lightning.pytorch.strategies import DDPStrategy

    if not isinstance(strategy, DDPStrategy):
        return False
    require("lightning", strategy, "_start_method", purpose=f"{_DP} with {type(strategy).__name__}")
    return bool(strategy._start_method != "popen")


def user_optimizers(optimizers: Sequence[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """The optimizers without the one that stands for none.

    Where ``configure_optimizers`` returns None, Lightning makes a ``_MockOptimizer`` and lists it among the Trainer's.
    It is known by its maker: Lightning has no other optimizers.
    """
    return [each for each in optimizers if type(each).__module__.partition(".")[0] != "lightning"]


def hyperparameters(pl_module: LightningModule) -> dict[str, Any]:
    """``hparams_initial`` without ``_instantiator``, which LightningCLI adds to say who built the module.

    Where that has another name, a module built by LightningCLI counts as another one than the same built by hand.
    """
    return {name: value for name, value in getattr(pl_module, "hparams_initial", {}).items() if name != "_instantiator"}


def arguments_of(callback: Callback) -> dict[str, Any]:
    """The arguments that one of Lightning's own callbacks was made with, but for ``verbose``.

    Each is kept as an attribute of its name, or of that with an underscore before it (``StochasticWeightAveraging``);
    None stands for one that is kept nowhere.
    """
    own = vars(callback)
    arguments = [name for name in inspect.signature(type(callback)).parameters if name != "verbose"]
    return {name: own.get(name, own.get(f"_{name}")) for name in arguments}


def apply_configured_optimizer(cli: LightningCLI) -> None:
    """Give ``cli.model`` the ``optimizer:`` and ``lr_scheduler:`` of the configuration as LightningCLI does.

    ``LightningCLI._add_configure_optimizers_method_to_model`` reads them from ``cli.config_init``.

    Raises:
        ConfigurationError: LightningCLI has no such method, and the configuration asks for an optimizer.
    """
    name = "_add_configure_optimizers_method_to_model"
    if names.has(cli, name):
        cli._add_configure_optimizers_method_to_model(None)
    elif cli.config_init.get("optimizer"):
        require("lightning", cli, name, purpose="optimizer: in a configuration")


def is_link(name: str) -> bool:
    """Whether an attribute of a module is its way to the Trainer or Fabric: ``_trainer``, ``_fabric``.

    Under another name the Trainer counts as a value that a module holds, and models are trained one by one.
    """
    return name in ("_trainer", "_fabric")
