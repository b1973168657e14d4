"""The ``audit:`` block of a configuration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning_memaudit.audit import ImpactOn  # noqa: TC001 - jsonargparse resolves the annotation
from lightning_memaudit.data.plan import Design  # noqa: TC001 - jsonargparse resolves the annotation
from lightning_memaudit.exceptions import ConfigurationError

__all__ = ["AuditSettings", "instance"]

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
        groups: Groupings by name: ``{digit: label, race: race}``; ``{class_path, init_args}`` describes one of
            ``data.groups``, such as ``lightning_memaudit.data.groups.Intersection``.
        units: Attribute or column of the training data set whose equal values are in or out together.
        canaries: Row numbers of the canaries.
        score_fn: ``multiclass``, ``binary``, ``sequence``, the import path of a function or score class, or
            ``{class_path, init_args}``.
        executor: ``auto``, ``trainer``, ``sequential``, ``ensemble``, ``process``, ``ray``, or
            ``{class_path, init_args}`` of one with options, such as ``lightning_memaudit.training.executors.Process``.
        splits: Splits to score.
        eval_dataset: Import path of a function that takes the data module and returns the training examples without
            random transforms.
        train_loader_factory: Import path of a function that takes a data set and returns the training loader.
        n_treated_models: Models of each treatment.
        impact_on: ``subset``: treated models train on the subsets of the baseline; ``full``: all arms, the baseline
            included, train on all data.
        keep_weights: Keep the weights of trained baseline models in the store.
    """

    n_models: int = 100
    subset_fraction: float = 0.7
    design: Design = "fixed_size"
    seed: int | None = None
    store: str = "memaudit"
    groups: dict[str, Any] | None = None
    units: str | None = None
    canaries: list[int] | None = None
    score_fn: str | dict[str, Any] = "multiclass"
    executor: str | dict[str, Any] = "auto"
    splits: list[str] | None = None
    eval_dataset: str | None = None
    train_loader_factory: str | None = None
    n_treated_models: int = 10
    impact_on: ImpactOn = "subset"
    keep_weights: bool = False

    def to_arguments(self) -> dict[str, Any]:
        """Arguments of ``Audit``, with import paths followed.

        Raises:
            ConfigurationError: An import path leads nowhere.
        """
        arguments = asdict(self)
        arguments["score_fn"] = _score_function(self.score_fn)
        if isinstance(self.executor, dict):
            arguments["executor"] = instance(self.executor, "audit.executor")
        if self.groups is not None:
            arguments["groups"] = {
                name: instance(of, f"audit.groups[{name!r}]") if isinstance(of, dict) and "class_path" in of else of
                for name, of in self.groups.items()
            }
        for name in ("eval_dataset", "train_loader_factory"):
            if arguments[name] is not None:
                arguments[name] = _imported(arguments[name], f"audit.{name}")
        return arguments


def _score_function(setting: str | dict[str, Any]) -> Any:
    if isinstance(setting, str):
        if setting in _SCORE_NAMES:
            return setting
        found = _imported(setting, "audit.score_fn", also=_SCORE_NAMES)
        return found() if isinstance(found, type) else found
    return instance(setting, "audit.score_fn")


def instance(setting: dict[str, Any], name: str) -> Any:
    """The object that ``{class_path, init_args}`` describes.

    Args:
        setting: The description.
        name: Where it stands, for messages.

    Raises:
        ConfigurationError: Another mapping, an import path that leads nowhere, or arguments that the class refuses.
    """
    if "class_path" not in setting or set(setting) - {"class_path", "init_args"}:
        raise ConfigurationError(f"{name}={setting!r}: a mapping of class_path and init_args is needed")
    try:
        return _imported(setting["class_path"], name)(**setting.get("init_args") or {})
    except TypeError as error:
        raise ConfigurationError(f"{name}={setting!r}: {error}") from error


def _imported(path: str, name: str, also: tuple[str, ...] = ()) -> Any:
    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        names = f"one of {', '.join(also)}, or " if also else ""
        raise ConfigurationError(
            f"{name}={path!r}: {names}an import path such as project.function is needed ({error}; modules are "
            f"searched for in {Path.cwd()} and on the Python path)"
        ) from error
    if not callable(found):
        raise ConfigurationError(f"{name}={path!r}: it is a {type(found).__name__}, and a function is needed")
    return found
