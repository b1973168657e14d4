"""The wrapper that lets any LightningDataModule train on one subset of its examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Subset

from lightning_memaudit.compat.torch import batch_norms
from lightning_memaudit.data.loaders import (
    check_made_over,
    check_map_style,
    clone_generator,
    subset_loader,
    warn_of_a_batch_of_one,
)
from lightning_memaudit.data.plan import SubsetPlan
from lightning_memaudit.data.source import DataSource
from lightning_memaudit.functional.checks import argument_error

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import torch
    from torch.utils.data import Dataset

__all__ = ["SubsetDataModule"]


class SubsetDataModule(LightningDataModule):
    """Any LightningDataModule, training on the examples of ``plan.mask(model_id)`` only.

    The training loader keeps its batch size, collate, workers and sampler (weights are sliced). All else is the wrapped
    module itself: other loaders, batch transfer hooks, hyperparameters, any attribute read or written, and what
    ``isinstance`` answers. ``setup`` runs under the plan's seed and leaves the global random state alone, so that
    the weights are those of training on ``torch.utils.data.Subset(dataset, indices)`` by hand, and every model sees
    the same rows under the same numbers.

    Args:
        datamodule: The user's data module, or a ``DataSource`` that several models share.
        plan: Which examples each model trains on.
        model_id: Which model this is.
        eval_dataset: All training examples in the same order without random transforms (or a callable that takes the
            data module); they are scored instead of the training data set.
        train_loader_factory: ``f(dataset) -> DataLoader`` for a training loader that cannot be rebuilt.

    Raises:
        ArgumentError: The plan is for another number of examples, or ``model_id`` is no model number.
        UnsupportedDataError: An IterableDataset, a sampler or loader that cannot be subset.

    Example:
        >>> import torch
        >>> from lightning_memaudit import SubsetDataModule, SubsetPlan
        >>> data = torch.utils.data.TensorDataset(torch.arange(10.0)[:, None], torch.arange(10) % 2)
        >>> dm = LightningDataModule.from_datasets(train_dataset=data, batch_size=4)
        >>> subset = SubsetDataModule(dm, SubsetPlan(10), model_id=0)
        >>> len(subset.train_dataloader().dataset)
        7
    """

    def __init__(
        self,
        datamodule: LightningDataModule | DataSource,
        plan: SubsetPlan,
        model_id: int,
        *,
        eval_dataset: Dataset[Any] | Callable[[LightningDataModule], Dataset[Any]] | None = None,
        train_loader_factory: Callable[[Dataset[Any]], DataLoader[Any]] | None = None,
    ) -> None:
        # No super().__init__(): the attributes it sets (trainer, hparams, ...) are the wrapped module's.
        if not isinstance(plan, SubsetPlan):
            raise argument_error("plan", plan, "a SubsetPlan is needed, SubsetPlan(n_examples, ...)")
        self._owns_source = not isinstance(datamodule, DataSource)
        if isinstance(datamodule, DataSource):
            if eval_dataset is not None or train_loader_factory is not None:
                raise argument_error(
                    "eval_dataset" if eval_dataset is not None else "train_loader_factory",
                    eval_dataset if eval_dataset is not None else train_loader_factory,
                    "None is needed with a DataSource, which takes it itself",
                )
            self.source = datamodule
        else:
            self.source = DataSource(
                datamodule, seed=plan.seed, eval_dataset=eval_dataset, train_loader_factory=train_loader_factory
            )
        self.plan = plan
        self.model_id = model_id
        self.indices: npt.NDArray[np.int64] = np.flatnonzero(plan.mask(model_id))
        self._generators: list[tuple[torch.Generator, torch.Generator]] = []
        self._in_process = False
        if not len(self.indices):
            raise argument_error(
                "model_id",
                model_id,
                f"a model with examples is needed, and its subset is empty (design={plan.design!r})",
            )

    def __getattribute__(self, name: str) -> Any:
        if name in _OWN or name.startswith("__"):
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "source").datamodule, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.source.datamodule, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> type[LightningDataModule]:  # type: ignore[override]
        """The wrapped module's: ``isinstance`` is true for both, and checkpoints keep its name."""
        return type(object.__getattribute__(self, "source").datamodule)

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (), self.__dict__

    def in_process(self) -> SubsetDataModule:
        """The same, with a training loader that starts no worker processes."""
        self._in_process = True
        return self

    def prepare_data(self) -> None:
        """Prepare the wrapped module, under the plan's seed."""
        self.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Set up the wrapped module, under the plan's seed."""
        self.source.setup(stage)

    def teardown(self, stage: str | None = None) -> None:
        """Tear down the wrapped module, unless other models share it."""
        if self._owns_source:
            self.source.teardown(stage)

    def train_dataloader(self) -> DataLoader[Any]:
        """The wrapped module's training loader over the subset.

        Raises:
            ArgumentError: The plan is for another number of examples.
            UnsupportedDataError: The loader cannot be subset, or the factory's is not over the rows it was given.
        """
        factory = self.source.train_loader_factory
        if factory is not None:
            rows: Subset[Any] = Subset(self._checked(self.source.train_dataset()), self.indices.tolist())
            made = factory(rows)
            check_made_over(made, rows)
            return made
        loader = self.source.train_loader()
        self._checked(loader.dataset)
        subset = subset_loader(loader, self.indices, self._twin, in_process=self._in_process)
        if self._normalises_batches():
            warn_of_a_batch_of_one(loader, subset)
        return subset

    def _normalises_batches(self) -> bool:
        pl_module = getattr(self.source.datamodule.trainer, "lightning_module", None)
        return pl_module is not None and any(isinstance(layer, batch_norms()) for layer in pl_module.modules())

    def _checked(self, dataset: Dataset[Any]) -> Dataset[Any]:
        n_examples = check_map_style(dataset, what="the training data set")
        if n_examples != self.plan.n_examples:
            raise argument_error(
                "plan",
                self.plan,
                f"a plan for the {n_examples} examples of the training data set is needed, and it is for "
                f"{self.plan.n_examples}: SubsetPlan({n_examples}, ...)",
            )
        return dataset

    def _twin(self, generator: torch.Generator | None) -> torch.Generator | None:
        """The copy of a user's generator: made once, so that it goes on when loaders are made anew."""
        if generator is None:
            return None
        for original, twin in self._generators:
            if original is generator:
                return twin
        twin = clone_generator(generator)
        self._generators.append((generator, twin))
        return twin


_OWN = frozenset(vars(SubsetDataModule)) | {
    "source",
    "plan",
    "model_id",
    "indices",
    "_owns_source",
    "_generators",
    "_in_process",
}


def _blank() -> SubsetDataModule:
    return object.__new__(SubsetDataModule)
