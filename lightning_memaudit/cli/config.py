"""LightningCLI configurations with an ``audit:`` block, turned into an ``Audit``."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, instantiate_class

from lightning_memaudit.audit import Audit
from lightning_memaudit.data.plan import Design
from lightning_memaudit.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import LightningDataModule, LightningModule

__all__ = ["AuditConfig", "AuditSettings"]

_LIGHTNING_ONLY = ("ckpt_path", "weights_only", "verbose", "return_predictions", "subcommand")
_SCORE_NAMES = ("multiclass", "binary", "sequence")


@dataclass
class AuditSettings:
    """The ``audit:`` block of a configuration.

    Args:
        n_models: Size of the population.
        subset_fraction: Share of the examples that each model trains on.
        design: How subsets are drawn.
        seed: Seed of the plan; by default ``seed_everything``.
        store: Folder or URL of the record.
        groups: Groupings by name: ``{digit: label, race: race}``.
        units: Attribute or column of the training data set whose equal values are in or out together.
        canaries: Row numbers of the canaries.
        score_fn: ``multiclass``, ``binary``, ``sequence``, the import path of a function, or ``{class_path, init_args}``.
        executor: How models are run through.
        splits: Splits to score.
        eval_dataset: Import path of a function that takes the data module and returns the examples without random transforms.
        train_loader_factory: Import path of a function that takes a data set and returns the training loader.
    """

    n_models: int = 100
    subset_fraction: float = 0.7
    design: Design = "fixed_size"
    seed: int | None = None
    store: str = "memaudit"
    groups: dict[str, str] | None = None
    units: str | None = None
    canaries: list[int] | None = None
    score_fn: str | dict[str, Any] = "multiclass"
    executor: str = "auto"
    splits: list[str] | None = None
    eval_dataset: str | None = None
    train_loader_factory: str | None = None


class AuditConfig(LightningCLI):
    """Parses what LightningCLI parses, plus ``audit:`` and the options of ``memaudit run``; instantiates nothing by itself.

    Args:
        arguments: Command line arguments.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.model: LightningModule
        super().__init__(
            save_config_callback=None,
            seed_everything_default=False,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_kwargs={"prog": "memaudit run", "description": "Train the population and report what it memorizes."},
            args=_plain_configs(arguments),
            run=False,
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the audit block and the options of the command."""
        parser.add_class_arguments(AuditSettings, "audit")
        parser.add_argument("--store", type=str | None, default=None, help="Overrides audit.store.")
        parser.add_argument("--n-models", type=int | None, default=None, help="Overrides audit.n_models.")
        parser.add_argument(
            "--out", type=str | None, default=None, help="Folder for the report; <store>/report by default."
        )
        parser.add_argument("--dry-run", action="store_true", help="Estimate models, time and disk; record nothing.")
        parser.add_argument("--no-progress", action="store_true", help="Show no progress bar.")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse ``args`` without a look at ``sys.argv``."""
        self.config = parser.parse_args(args)

    def _set_seed(self) -> None:
        """Seeds follow from the plan."""

    def instantiate_classes(self) -> None:
        """Classes are instantiated model by model, by the audit."""

    def make_model(self) -> LightningModule:
        """A fresh module, with ``optimizer:`` and ``lr_scheduler:`` of the configuration applied as LightningCLI does."""
        keys = ("model", "optimizer", "lr_scheduler")
        kept = self.config.clone()
        for key in [key for key in kept.__dict__ if key not in keys]:
            del kept[key]
        self.config_init = self.parser.instantiate_classes(kept)
        self.model = self.config_init["model"]
        self._add_configure_optimizers_method_to_model(None)
        return self.model

    def make_data(self) -> LightningDataModule:
        """The data module."""
        kept = self.config.clone()
        for key in [key for key in kept.__dict__ if key != "data"]:
            del kept[key]
        return self.parser.instantiate_classes(kept)["data"]  # type: ignore[no-any-return]

    def audit(self) -> Audit:
        """The audit that the configuration describes.

        Raises:
            ConfigurationError: No data module, or an import path that leads nowhere.
        """
        if self.config.get("data") is None:
            raise ConfigurationError(
                "data is missing: a LightningDataModule is needed (class_path and init_args); loaders inside the LightningModule "
                "cannot be subset"
            )
        block = self.config["audit"]
        settings = dict(vars(block)) if not isinstance(block, dict) else dict(block)
        if settings["seed"] is None:
            seed = self.config.get("seed_everything")
            settings["seed"] = 0 if isinstance(seed, bool) or seed is None else seed
        for option in ("store", "n_models"):
            if self.config.get(option) is not None:
                settings[option] = self.config[option]
        settings["score_fn"] = _score_function(settings["score_fn"])
        for option in ("eval_dataset", "train_loader_factory"):
            if settings[option] is not None:
                settings[option] = _imported(settings[option], option)
        return Audit(self.make_model, self.make_data, trainer=self._trainer_arguments(), **settings)

    def _trainer_arguments(self) -> dict[str, Any]:
        kept = self.config.clone()
        for key in [key for key in kept.__dict__ if key != "trainer"]:
            del kept[key]
        trainer = self.parser.instantiate_classes(kept)["trainer"]
        defaults = self.parser.get_defaults()["trainer"]
        return {name: value for name, value in dict(vars(trainer)).items() if value != getattr(defaults, name, None)}


def _plain_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments, with configuration files reduced to what an audit needs: ``fit:`` lifted, fit-only keys left out."""
    plain: list[str] = []
    follows_config = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if follows_config:
            plain.append(_plain_config(argument))
        elif option in ("--config", "-c") and equals:
            plain.append(f"{option}={_plain_config(value)}")
        else:
            plain.append(argument)
        follows_config = argument in ("--config", "-c")
    return plain


def _plain_config(path: str) -> str:
    if not Path(path).is_file():
        raise ConfigurationError(f"--config {path}: there is no such file")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--config {path}: not YAML ({error})") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"--config {path}: a mapping with model, data, trainer and audit is needed")
    lifted = {**{key: value for key, value in content.items() if key != "fit"}, **(content.get("fit") or {})}
    if lifted.get("ckpt_path"):
        warnings.warn(
            f"ckpt_path={lifted['ckpt_path']!r} left out: every model of an audit starts anew",
            UserWarning,
            stacklevel=2,
        )
    kept = {key: value for key, value in lifted.items() if key not in _LIGHTNING_ONLY}
    return path if kept == content else json.dumps(kept)


def _score_function(setting: str | dict[str, Any]) -> Any:
    if isinstance(setting, dict):
        return instantiate_class((), setting)
    return setting if setting in _SCORE_NAMES else _imported(setting, "score_fn")


def _imported(path: str, name: str) -> Any:
    found = locate(path)
    if not callable(found):
        raise ConfigurationError(
            f"audit.{name}={path!r}: no function of that import path (searched from {Path.cwd()} and {len(sys.path)} places)"
        )
    return found
