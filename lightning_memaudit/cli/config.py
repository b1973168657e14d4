"""LightningCLI configurations with an ``audit:`` block, turned into an ``Audit``."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from jsonargparse import SUPPRESS
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lightning_memaudit.audit import Audit
from lightning_memaudit.cli.output import warn
from lightning_memaudit.cli.settings import AuditSettings, instance
from lightning_memaudit.compat.lightning import apply_configured_optimizer
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError, MemauditError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lightning.pytorch import LightningDataModule, LightningModule

__all__ = ["AuditConfig"]

_DESCRIPTION = (
    "Train the population that a LightningCLI configuration with an `audit:` block describes, and report what it "
    "memorizes. Models that the store holds already are not trained again. Configurations without class paths, as "
    "LightningCLI(Net, Data) writes them, need the classes first: --model project.Net --data project.Data --config "
    "config.yaml."
)
_USAGE = "memaudit run --config CONFIG [--config AUDIT_CONFIG] [options]"
_FIT_ONLY = {"ckpt_path": str | None, "weights_only": bool | None}  # arguments of Trainer.fit in LightningCLI's files
_OTHER_COMMANDS = ("subcommand", "validate", "test", "predict")


class _Parser(LightningArgumentParser):
    """Reports errors as ``ConfigurationError``, with a way out where LightningCLI's own files need one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise instead of printing the usage."""
        if not self.exit_on_error:
            super().error(message, ex)
        hint = "`memaudit run --help` lists all options"
        if "'lightning.Lightning" in message and "is not accepted" in message:
            hint = (
                "the configuration has no class_path, as LightningCLI(Net, Data) writes it; name the classes BEFORE "
                "it: --model project.Net --data project.Data --config config.yaml"
            )
        elif "'__main__." in message:
            hint = "the class was defined in a script; name the file as its module: class_path: script.Net"
        raise ConfigurationError(f"{message.strip()}\n{hint}") from ex


class AuditConfig(LightningCLI):
    """Parses what LightningCLI parses, plus ``audit:`` and the options of ``memaudit run``; instantiates nothing.

    Args:
        arguments: Command line arguments.

    Raises:
        ConfigurationError: A file cannot be read, a key or value is not understood.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.model: LightningModule
        super().__init__(
            save_config_callback=None,
            seed_everything_default=False,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=_Parser,
            parser_kwargs={"prog": "memaudit run", "usage": _USAGE, "description": _DESCRIPTION},
            args=_plain_configs(arguments),
            run=False,
            load_from_checkpoint_support=False,
        )
        if self.config["ckpt_path"]:
            warn(f"ckpt_path={self.config['ckpt_path']!r} left out: every model of an audit starts anew")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the audit block and the options of the command."""
        parser.allow_abbrev = False  # a misspelt option is an error, not the one it starts like
        parser.add_class_arguments(AuditSettings, "audit")
        parser.add_argument(
            "--treatments",
            type=list[dict[str, Any]],
            default=[],
            help="What is done to models whose harm is measured: a list of {class_path, init_args}, such as "
            "lightning_memaudit.treatments.Prune with {amount: 0.9}.",
        )
        parser.add_argument("--store", type=str | None, default=None, help="Overrides audit.store.")
        parser.add_argument("--n-models", type=int | None, default=None, help="Overrides audit.n_models.")
        parser.add_argument(
            "--out", type=str | None, default=None, help="Folder for the report; <store>/report by default."
        )
        parser.add_argument(
            "--shard",
            type=str | None,
            default=None,
            help="i/n: train only the models whose number is i modulo n (i from 0), in one of n runs on one store.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Estimate models, time and disk; record nothing.")
        parser.add_argument("--no-progress", action="store_true", help="Show no progress bar.")
        for name, kind in _FIT_ONLY.items():
            parser.add_argument(f"--{name}", type=kind, default=None, help=SUPPRESS)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse ``args`` without a look at ``sys.argv``."""
        self.config = parser.parse_args(args)
        self.seed: int | bool | None = self.config["seed_everything"]
        self.config["seed_everything"] = False  # LightningCLI seeds nothing; seeds follow from the plan

    def instantiate_classes(self) -> None:
        """Classes are instantiated model by model, by the audit."""

    def make_model(self) -> LightningModule:
        """A fresh module, with ``optimizer:`` and ``lr_scheduler:`` applied as LightningCLI does."""
        with _building("model"):
            self.config_init = self._instantiated("model", "optimizer", "lr_scheduler")
            self.model = self.config_init["model"]
            apply_configured_optimizer(self)
        return self.model

    def make_data(self) -> LightningDataModule:
        """The data module."""
        with _building("data"):
            return self._instantiated("data")["data"]  # type: ignore[no-any-return]

    def audit(self) -> Audit:
        """The audit that the configuration describes.

        Raises:
            ConfigurationError: No data module, or an import path that leads nowhere.
        """
        if self.config.get("data") is None:
            raise ConfigurationError(
                "data is missing: a LightningDataModule is needed (class_path and init_args); loaders inside the "
                "LightningModule cannot be subset"
            )
        settings = AuditSettings(**vars(self.config["audit"]))
        if settings.seed is None:
            settings.seed = 0 if isinstance(self.seed, bool) or self.seed is None else self.seed
        settings.store = self.config["store"] or settings.store
        if self.config["n_models"] is not None:
            settings.n_models = self.config["n_models"]
        treatments = [instance(one, f"treatments[{i}]") for i, one in enumerate(self.config["treatments"])]
        return Audit(
            self.make_model,
            self.make_data,
            trainer=self._trainer_arguments(),
            treatments=treatments,
            **settings.to_arguments(),
        )

    def shard(self) -> tuple[int, int] | None:
        """The shard to train, if one was asked for.

        Raises:
            ArgumentError: It is not ``i/n``, with i from 0 to n - 1.
        """
        text = self.config["shard"]
        if text is None:
            return None
        own, slash, of = text.partition("/")
        if not (slash and own.isascii() and own.isdigit() and of.isascii() and of.isdigit() and int(own) < int(of)):
            raise ArgumentError(
                f"--shard {text}: i/n is needed, with i from 0 to n - 1: 0/4, 1/4, 2/4 and 3/4 for four shards"
            )
        return int(own), int(of)

    def _trainer_arguments(self) -> dict[str, Any]:
        with _building("trainer"):
            trainer = self._instantiated("trainer")["trainer"]
        defaults = self.parser.get_defaults()["trainer"]
        return {name: value for name, value in vars(trainer).items() if value != getattr(defaults, name, None)}

    def _instantiated(self, *keys: str) -> Any:
        """The configuration's ``keys`` with their classes instantiated anew."""
        kept = self.config.clone()
        for key in [key for key in vars(kept) if key not in keys]:
            del kept[key]
        if hasattr(self.parser, "instantiate"):
            return self.parser.instantiate(kept)
        return self.parser.instantiate_classes(kept)  # jsonargparse < 4.49


@contextmanager
def _building(key: str) -> Iterator[None]:
    """Name the part whose class failed, and what it said itself, without jsonargparse's account of it."""
    try:
        yield
    except MemauditError:
        raise
    except Exception as error:
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:
            cause = deeper
        raise ConfigurationError(
            f"{key}: its class could not be instantiated: {type(cause).__name__}: {cause} (--debug shows where)"
        ) from error


def _plain_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments, with configuration files nested under ``fit:`` lifted out of it."""
    plain: list[str] = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if previous in ("--config", "-c"):
            plain.append(_plain_config(argument))
        elif option in ("--config", "-c") and equals:
            plain.append(f"{option}={_plain_config(value)}")
        else:
            plain.append(argument)
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
    if not {"fit", *_OTHER_COMMANDS} & set(content):
        return path
    lifted = {key: value for key, value in content.items() if key not in ("fit", *_OTHER_COMMANDS)}
    return json.dumps(lifted | (content.get("fit") or {}), default=str)
