"""A user's LightningDataModule, set up once and the same way in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, Dataset

from lightning_memaudit.data.loaders import check_map_style, check_plain, sequential_loader
from lightning_memaudit.data.randomness import seeded
from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lightning.pytorch import Trainer

__all__ = ["DataSource", "TrainLoaderFactory", "check_datamodule"]

TrainLoaderFactory = "Callable[[Dataset[Any]], DataLoader[Any]]"


class DataSource:
    """What the models of one population share in one process: the data module, its seed, and its splits.

    ``prepare_data``, ``setup`` and the loader methods of the user's data module run under the PLAN's seed, and ``setup``
    once per stage, so that a ``random_split`` without a generator gives every model the same rows.

    Args:
        datamodule: The user's data module.
        seed: Seed of the plan.
        eval_dataset: All training examples in the same order without random transforms, or a callable that takes the data
            module and returns them; None scores the training data set itself.
        train_loader_factory: ``f(dataset) -> DataLoader`` for training loaders that cannot be rebuilt (own samplers, several
            loaders). With it, ``eval_dataset`` is needed when the module's own training loader is not a plain one.
    """

    def __init__(
        self,
        datamodule: LightningDataModule,
        *,
        seed: int,
        eval_dataset: Dataset[Any] | Callable[[LightningDataModule], Dataset[Any]] | None = None,
        train_loader_factory: Callable[[Dataset[Any]], DataLoader[Any]] | None = None,
    ) -> None:
        check_datamodule(datamodule)
        self.datamodule = datamodule
        self.seed = seed
        self.train_loader_factory = train_loader_factory
        self._eval_dataset = eval_dataset
        self._prepared = False
        self._stages: set[str | None] = set()

    def prepare_data(self) -> None:
        """Run the module's ``prepare_data`` unless it ran before."""
        if not self._prepared:
            with seeded(self.seed):
                self.datamodule.prepare_data()
            self._prepared = True

    def setup(self, stage: str | None, trainer: Trainer | None = None) -> None:
        """Run the module's ``setup(stage)`` unless it ran before."""
        if trainer is not None:
            self.datamodule.trainer = trainer
        if stage not in self._stages:
            with seeded(self.seed):
                self.datamodule.setup(stage)  # type: ignore[arg-type]
            self._stages.add(stage)

    def forget_setup(self, stage: str | None) -> None:
        """Let ``setup(stage)`` run again, after the module was torn down."""
        self._stages.discard(stage)

    def train_loader(self) -> DataLoader[Any]:
        """The user's training loader, over all rows.

        Raises:
            UnsupportedDataError: It is not one plain ``DataLoader``.
        """
        return check_plain(self._call("train_dataloader"), what="train_dataloader()")

    def train_dataset(self) -> Dataset[Any]:
        """All training examples as the models train on them."""
        if self.train_loader_factory is None:
            return self.train_loader().dataset
        loader = self._call("train_dataloader")
        return loader.dataset if isinstance(loader, DataLoader) else self._scored_train_dataset()

    def n_examples(self) -> int:
        """How many training examples there are."""
        return check_map_style(self.train_dataset(), what="the training data set")

    def scoring_loaders(self, splits: Iterable[str] | None = None) -> dict[str, DataLoader[Any]]:
        """One sequential loader per split, over every row in the data set's own order.

        Args:
            splits: Names out of ``"train"``, ``"val"``, ``"test"`` (``"val-0"``, ``"val-1"`` where there are several);
                None takes every split that the module has.

        Raises:
            ArgumentError: A split was asked for that the module does not have.
        """
        wanted = None if splits is None else list(splits)
        loaders = {"train": self._train_scoring_loader()} if wanted is None or "train" in wanted else {}
        for name, stage in (("val", "validate"), ("test", "test")):
            if wanted is not None and not any(split.split("-")[0] == name for split in wanted):
                continue
            if is_overridden(f"{name}_dataloader", self.datamodule):
                if name == "test" or not self._stages & {"fit", None}:
                    self.setup(stage)
                loaders |= _named_loaders(name, self._call(f"{name}_dataloader"))
        if wanted is not None:
            missing = [split for split in wanted if split not in loaders]
            if missing:
                raise ArgumentError(
                    f"splits={wanted!r}: the data module {type(self.datamodule).__name__} has no {missing[0]!r}; "
                    f"there is {', '.join(loaders) or 'none of them'}"
                )
            loaders = {split: loaders[split] for split in wanted}
        return loaders

    def _train_scoring_loader(self) -> DataLoader[Any]:
        dataset = self._scored_train_dataset()
        n_scored = check_map_style(dataset, what="eval_dataset")
        if self.train_loader_factory is None:
            template = self.train_loader()
            n_trained = len(template.dataset)  # type: ignore[arg-type]
        else:
            template, n_trained = self.train_loader_factory(dataset), n_scored
        if n_scored != n_trained:
            raise ArgumentError(
                f"eval_dataset has {n_scored} examples and the training data set has {n_trained}: they must be the same "
                "examples in the same order"
            )
        return sequential_loader(template, dataset)

    def _scored_train_dataset(self) -> Dataset[Any]:
        if self._eval_dataset is None:
            return self.train_loader().dataset
        if callable(self._eval_dataset) and not isinstance(self._eval_dataset, Dataset):
            with seeded(self.seed):
                return self._eval_dataset(self.datamodule)
        return self._eval_dataset

    def _call(self, name: str) -> Any:
        with seeded(self.seed):
            return getattr(self.datamodule, name)()


def check_datamodule(datamodule: object) -> None:
    """Refuse what is not a ``lightning.pytorch.LightningDataModule``.

    Raises:
        ArgumentError: It is something else; a module of the ``pytorch_lightning`` package is named as such.
    """
    if isinstance(datamodule, LightningDataModule):
        return
    ancestors = {f"{base.__module__}.{base.__name__}" for base in type(datamodule).__mro__}
    if any(name.startswith("pytorch_lightning.") for name in ancestors):
        raise ArgumentError(
            f"{type(datamodule).__name__} comes from the package pytorch_lightning; import LightningDataModule from "
            "lightning.pytorch instead (the two packages do not mix)"
        )
    raise ArgumentError(
        f"datamodule={type(datamodule).__name__}: a lightning.pytorch.LightningDataModule is needed "
        "(LightningDataModule.from_datasets(...) makes one of data sets)"
    )


def _named_loaders(name: str, loaders: Any) -> dict[str, DataLoader[Any]]:
    if isinstance(loaders, CombinedLoader):
        loaders = loaders.iterables
    if loaders is None or (isinstance(loaders, list | tuple | dict) and not loaders):
        return {}
    if isinstance(loaders, dict):
        named = {f"{name}-{key}": loader for key, loader in loaders.items()}
    elif isinstance(loaders, list | tuple):
        named = {f"{name}-{i}": loader for i, loader in enumerate(loaders)} if len(loaders) > 1 else {name: loaders[0]}
    else:
        named = {name: loaders}
    sequential = {}
    for split, loader in named.items():
        if not isinstance(loader, DataLoader):
            raise UnsupportedDataError(
                f"{name}_dataloader() gives a {type(loader).__name__}; a torch DataLoader is needed, or leave the split out "
                "with splits="
            )
        check_map_style(loader.dataset, what=f"the data set of {name}_dataloader()")
        if loader.batch_size is None:
            raise UnsupportedDataError(
                f"{name}_dataloader() does not batch by batch_size, so that its rows cannot be told apart; give it "
                "batch_size=, or leave the split out with splits="
            )
        sequential[split] = sequential_loader(loader, loader.dataset)
    return sequential
