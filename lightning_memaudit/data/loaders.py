"""Taking a user's DataLoader apart, and putting it together again over other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
)

from lightning_memaudit.exceptions import UnsupportedDataError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["check_map_style", "check_plain", "clone_generator", "sequential_loader", "subset_loader"]

_WAY_OUT = (
    "pass train_loader_factory=f to SubsetDataModule or Audit, where f(dataset) returns the training DataLoader over "
    "the rows it is given, and eval_dataset= with all rows in a fixed order"
)


def check_map_style(dataset: object, *, what: str) -> int:
    """The number of examples of a map-style data set.

    Raises:
        UnsupportedDataError: The rows of the data set cannot be numbered.
    """
    name = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        raise UnsupportedDataError(
            f"{what} is an IterableDataset ({name}), whose examples have no fixed number; use a map-style data set "
            "(with __len__ and __getitem__)"
        )
    try:
        return len(dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError) as error:
        raise UnsupportedDataError(f"{what} ({name}) has no length; use a map-style data set") from error


def check_plain(loader: object, *, what: str) -> DataLoader[Any]:
    """The loader itself, when it can be rebuilt over other rows.

    Raises:
        UnsupportedDataError: It is not one plain ``DataLoader`` with automatic batching over a map-style data set.
    """
    if type(loader) is not DataLoader:
        raise UnsupportedDataError(
            f"{what} is a {type(loader).__name__}; only one plain torch DataLoader can be subset. Way out: {_WAY_OUT}"
        )
    check_map_style(loader.dataset, what=f"the data set of {what}")
    if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        raise UnsupportedDataError(
            f"{what} has a batch sampler of its own ({type(loader.batch_sampler).__name__}) or batches inside the data set, "
            f"so that its rows cannot be told apart. Way out: {_WAY_OUT}"
        )
    return loader


def subset_loader(
    loader: DataLoader[Any], rows: npt.NDArray[np.int64], generator: torch.Generator | None
) -> DataLoader[Any]:
    """The user's training loader over ``rows`` of its data set; all other settings are kept.

    Raises:
        UnsupportedDataError: The sampler cannot be carried over to a subset.
    """
    dataset: Subset[Any] = Subset(loader.dataset, rows.tolist())
    if loader.drop_last and loader.batch_size is not None and len(rows) < loader.batch_size:
        raise UnsupportedDataError(
            f"drop_last=True with batch_size={loader.batch_size} leaves no batch of a subset of {len(rows)} examples; "
            "set drop_last=False or a smaller batch"
        )
    return _rebuild(loader, dataset, _subset_sampler(loader.sampler, dataset, rows, generator), generator)


def sequential_loader(loader: DataLoader[Any], dataset: Dataset[Any]) -> DataLoader[Any]:
    """``dataset`` in its own order, nothing dropped, with the batch size, collate and workers of ``loader``."""
    return _rebuild(loader, dataset, SequentialSampler(dataset), None, drop_last=False, persistent_workers=False)  # type: ignore[arg-type]


def clone_generator(generator: torch.Generator | None) -> torch.Generator | None:
    """A generator in the same state, so that the user's own one is never advanced."""
    if generator is None:
        return None
    twin = torch.Generator(device=generator.device)
    twin.set_state(generator.get_state())
    return twin


def _subset_sampler(
    sampler: object, dataset: Subset[Any], rows: npt.NDArray[np.int64], generator: torch.Generator | None
) -> Sampler[int]:
    if type(sampler) is SequentialSampler:
        return SequentialSampler(dataset)
    if type(sampler) is RandomSampler:
        total = len(sampler.data_source)
        size = None if sampler.num_samples == total else max(1, round(sampler.num_samples * len(rows) / total))
        return RandomSampler(dataset, replacement=sampler.replacement, num_samples=size, generator=generator)
    if type(sampler) is WeightedRandomSampler:
        weights = sampler.weights[torch.as_tensor(rows)]
        size = max(1, round(sampler.num_samples * len(rows) / len(sampler.weights)))
        if not bool((weights > 0).any()):
            raise UnsupportedDataError("WeightedRandomSampler: every example of a subset has weight 0")
        return WeightedRandomSampler(weights.tolist(), size, replacement=sampler.replacement, generator=generator)
    raise UnsupportedDataError(
        f"the sampler {type(sampler).__name__} of the training DataLoader cannot be carried over to a subset; use "
        f"shuffle=True or a WeightedRandomSampler. Way out: {_WAY_OUT}"
    )


def _rebuild(
    loader: DataLoader[Any],
    dataset: Dataset[Any],
    sampler: Sampler[int],
    generator: torch.Generator | None,
    **changes: Any,
) -> DataLoader[Any]:
    settings: dict[str, Any] = {
        "batch_size": loader.batch_size,
        "sampler": sampler,
        "num_workers": loader.num_workers,
        "collate_fn": loader.collate_fn,
        "pin_memory": loader.pin_memory,
        "drop_last": loader.drop_last,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        "generator": generator,
        "prefetch_factor": loader.prefetch_factor,
        "persistent_workers": loader.persistent_workers,
        "in_order": getattr(loader, "in_order", True),
    }
    return DataLoader(dataset, **(settings | changes))
