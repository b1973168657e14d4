"""A user's LightningDataModule, set up once and the same way in every process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader, Dataset

from lightning_memaudit.data.label_order import check_label_order
from lightning_memaudit.data.loaders import (
    check_map_style,
    check_plain,
    dataloaders_in,
    drawn_dataset,
    sequential_loader,
)
from lightning_memaudit.data.randomness import seeded
from lightning_memaudit.exceptions import UnsupportedDataError
from lightning_memaudit.functional.checks import argument_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

__all__ = ["DataSource", "check_datamodule"]


class DataSource:
    """What the models of one population share in one process: the data module, its seed, and its splits.

    ``prepare_data``, ``setup`` and the loader methods of the user's data module run under the PLAN's seed, and
    ``setup`` once per stage, so that a ``random_split`` without a generator gives every model the same rows.

    Args:
        datamodule: The user's data module.
        seed: Seed of the plan.
        eval_dataset: All training examples in the same order without random transforms, or a callable that takes the
            data module and returns them; None scores the training data set itself.
        train_loader_factory: ``f(dataset) -> DataLoader`` for training loaders that cannot be rebuilt (own samplers,
            several loaders). With it, ``eval_dataset`` is needed when ``train_dataloader()`` gives no ``DataLoader``:
            the models then train on its rows.
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
        self._order_checked = False
        self._stages: set[str | None] = set()

    def prepare_data(self) -> None:
        """Run the module's ``prepare_data`` unless it ran before."""
        if not self._prepared:
            with seeded(self.seed):
                self.datamodule.prepare_data()
            self._prepared = True

    def setup(self, stage: str | None) -> None:
        """Run the module's ``setup(stage)`` unless it ran before."""
        if stage not in self._stages:
            with seeded(self.seed):
                self.datamodule.setup(stage=stage)  # type: ignore[arg-type]
            self._stages.add(stage)

    def teardown(self, stage: str | None) -> None:
        """Run the module's ``teardown(stage)``; ``setup`` may run again after it."""
        self._stages.clear()  # a teardown may free what other stages set up
        self.datamodule.teardown(stage=stage)  # type: ignore[arg-type]

    def train_loader(self) -> DataLoader[Any]:
        """The user's training loader, over all rows.

        Raises:
            UnsupportedDataError: It is not one plain ``DataLoader``.
        """
        return check_plain(self._train_dataloader(), what="train_dataloader()")

    def train_dataset(self) -> Dataset[Any]:
        """All training examples as the models train on them.

        Raises:
            UnsupportedDataError: The module's training loader does not tell, and no ``eval_dataset`` was given.
        """
        if self.train_loader_factory is None:
            return self.train_loader().dataset
        loader = self._train_dataloader()
        if isinstance(loader, DataLoader):
            return loader.dataset
        if self._eval_dataset is None:
            raise UnsupportedDataError(
                f"train_dataloader() gives a {type(loader).__name__}, which does not tell the training examples; pass "
                "eval_dataset= with all of them in a fixed order"
            )
        return self._scored_train_dataset()

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
            UnsupportedDataError: A loader whose rows cannot be numbered.
        """
        if splits is None:
            return {
                name: loader for family in ("train", "val", "test") for name, loader in self._family(family).items()
            }
        wanted = [splits] if isinstance(splits, str) else list(splits)
        families = sorted({split.split("-")[0] for split in wanted} & {"train", "val", "test"})
        known = {name: loader for family in families for name, loader in self._family(family).items()}
        missing = [split for split in wanted if split not in known]
        if missing or not wanted:
            raise argument_error(
                "splits",
                wanted,
                f"the data module {type(self.datamodule).__name__} has no {', '.join(missing)!r}; "
                f"there is {', '.join(self.scoring_loaders())}",
            )
        return {split: known[split] for split in wanted}

    def _family(self, name: str) -> dict[str, DataLoader[Any]]:
        """The scoring loaders of ``train``, of ``val`` (``val-0``, ``val-1``, ...), or of ``test``."""
        if name == "train":
            return {name: self._train_scoring_loader()}
        if not is_overridden(f"{name}_dataloader", self.datamodule):
            return {}
        if name == "test":
            self.setup("test")
        elif "fit" not in self._stages:  # setup("fit") is for training and validation
            self.setup("validate")
        return _named_loaders(name, self._call(f"{name}_dataloader"))

    def _train_scoring_loader(self) -> DataLoader[Any]:
        self.setup("fit")
        dataset = self._scored_train_dataset()
        n_scored = check_map_style(dataset, what="eval_dataset")
        n_trained = self.n_examples()
        if n_scored != n_trained:
            raise argument_error(
                "eval_dataset",
                self._eval_dataset,
                f"the {n_trained} examples of the training data set are needed, in the same order, and it has "
                f"{n_scored}",
            )
        return sequential_loader(self._template(dataset), dataset)

    def check_order(self, target: Callable[[Any], torch.Tensor]) -> None:
        """Refuse an ``eval_dataset`` whose labels are not those of the training data set, row by row; done once.

        Args:
            target: The label in one sample.

        Raises:
            ArgumentError: A row has another label; the first one is named.
        """
        if self._eval_dataset is None or self._order_checked:
            return
        with seeded(self.seed):
            check_label_order(self.train_dataset(), self._scored_train_dataset(), target)
        self._order_checked = True

    def _template(self, dataset: Dataset[Any]) -> DataLoader[Any]:
        """The loader whose batch size, collate and workers scoring takes over."""
        if self.train_loader_factory is None:
            return self.train_loader()
        with seeded(self.seed):
            made: Any = self.train_loader_factory(dataset)
        loaders = [part for part in dataloaders_in(made) if isinstance(part, DataLoader)]
        if not loaders:
            raise UnsupportedDataError(
                f"train_loader_factory gives a {type(made).__name__} without any torch DataLoader"
            )
        return next((loader for loader in loaders if loader.dataset is dataset), loaders[0])

    def _scored_train_dataset(self) -> Dataset[Any]:
        if self._eval_dataset is None:
            return self.train_dataset()
        if callable(self._eval_dataset) and not isinstance(self._eval_dataset, Dataset):
            with seeded(self.seed):
                return self._eval_dataset(self.datamodule)
        return self._eval_dataset

    def _train_dataloader(self) -> Any:
        if not is_overridden("train_dataloader", self.datamodule):
            raise UnsupportedDataError(
                f"{type(self.datamodule).__name__} has no train_dataloader(); define it in the data module (not in the "
                "LightningModule)"
            )
        return self._call("train_dataloader")

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
    if isinstance(datamodule, type):
        raise argument_error("datamodule", datamodule, f"an instance is needed: {datamodule.__name__}(...)")
    ancestors = {f"{base.__module__}.{base.__name__}" for base in type(datamodule).__mro__}
    if any(name.startswith("pytorch_lightning.") for name in ancestors):
        raise argument_error(
            "datamodule",
            datamodule,
            "a LightningDataModule of lightning.pytorch is needed, not of the package pytorch_lightning; the two "
            "do not mix",
        )
    raise argument_error(
        "datamodule",
        datamodule,
        "a lightning.pytorch.LightningDataModule is needed (LightningDataModule.from_datasets(...) makes one of "
        "data sets)",
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
                f"{name}_dataloader() gives a {type(loader).__name__}; a torch DataLoader is needed, or leave the "
                "split out with splits="
            )
        dataset = drawn_dataset(loader, what=f"{name}_dataloader()")
        if len(dataset):  # type: ignore[arg-type]
            sequential[split] = sequential_loader(loader, dataset)
    return sequential
