"""The wrapper that lets any LightningDataModule train on one subset of its examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Subset

from lightning_memaudit.data.loaders import clone_generator, subset_loader
from lightning_memaudit.data.source import DataSource
from lightning_memaudit.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import torch
    from torch.utils.data import Dataset

    from lightning_memaudit.data.plan import SubsetPlan

__all__ = ["SubsetDataModule"]

_FORWARDED = (
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "state_dict",
    "load_state_dict",
    "on_exception",
)


class SubsetDataModule(LightningDataModule):
    """Any LightningDataModule, training on the examples of ``plan.mask(model_id)`` only.

    The training loader keeps its batch size, collate, workers and sampler (weights are sliced); validation, test and
    predict loaders, batch transfer hooks and every attribute are the wrapped module's own. ``setup`` runs under the plan's
    seed and leaves the global random state alone, so that the weights are those of training on
    ``torch.utils.data.Subset(dataset, indices)`` by hand, and every model sees the same rows under the same numbers.

    Args:
        datamodule: The user's data module, or a ``DataSource`` that several models share.
        plan: Which examples each model trains on.
        model_id: Which model this is.
        eval_dataset: All training examples in the same order without random transforms (or a callable that takes the data
            module); they are scored instead of the training data set.
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
        super().__init__()
        self._owns_source = not isinstance(datamodule, DataSource)
        self.source = (
            datamodule
            if isinstance(datamodule, DataSource)
            else DataSource(
                datamodule, seed=plan.seed, eval_dataset=eval_dataset, train_loader_factory=train_loader_factory
            )
        )
        self.plan = plan
        self.model_id = model_id
        self._generator: torch.Generator | None = None
        self.indices: npt.NDArray[np.int64] = np.flatnonzero(plan.mask(model_id))
        base = self.source.datamodule
        self.prepare_data_per_node = base.prepare_data_per_node
        self.allow_zero_length_dataloader_with_multiple_devices = (
            base.allow_zero_length_dataloader_with_multiple_devices
        )
        for name in _FORWARDED:  # bound methods of the base, so that Lightning still sees which hooks the user overrode
            setattr(self, name, getattr(base, name))
        if not len(self.indices):
            raise ArgumentError(
                f"model_id={model_id}: its subset is empty (design={plan.design!r}); leave this model out"
            )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "source" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.source.datamodule, name)

    def prepare_data(self) -> None:
        """Prepare the wrapped module, under the plan's seed."""
        self.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Set up the wrapped module, under the plan's seed."""
        self.source.setup(stage, self.trainer)

    def teardown(self, stage: str | None = None) -> None:
        """Tear down the wrapped module, unless other models share it."""
        if self._owns_source:
            self.source.datamodule.teardown(stage)  # type: ignore[arg-type]
            self.source.forget_setup(stage)

    def train_dataloader(self) -> DataLoader[Any]:
        """The wrapped module's training loader over the subset."""
        n_examples = self.source.n_examples()
        if n_examples != self.plan.n_examples:
            raise ArgumentError(
                f"plan: it is for {self.plan.n_examples} examples and the training data set has {n_examples}; "
                f"make it with SubsetPlan({n_examples}, ...)"
            )
        if self.source.train_loader_factory is not None:
            return self.source.train_loader_factory(Subset(self.source.train_dataset(), self.indices.tolist()))
        loader = self.source.train_loader()
        if self._generator is None:
            self._generator = clone_generator(loader.generator)
        return subset_loader(loader, self.indices, self._generator)
