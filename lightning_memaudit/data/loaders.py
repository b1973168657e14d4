"""Taking a user's DataLoader apart, and putting it together again over other rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from lightning_memaudit.exceptions import UnsupportedDataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = [
    "check_made_over",
    "check_map_style",
    "check_plain",
    "clone_generator",
    "dataloaders_in",
    "drawn_dataset",
    "sequential_loader",
    "subset_loader",
    "warn_of_a_batch_of_one",
]

_SCORING_BATCH = 64
_IN_PROCESS = {
    "num_workers": 0,
    "timeout": 0,
    "prefetch_factor": None,
    "persistent_workers": False,
    "multiprocessing_context": None,
    "pin_memory": False,
}
_LEVELS, _ENTRIES = 8, 100  # how far a data set is looked through for the one that it wraps
_warned_of_one: set[tuple[int, int]] = set()

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
    if loader.batch_sampler is None:
        raise UnsupportedDataError(
            f"{what} has batch_size=None: batches come out of the data set, so that rows cannot be told apart. "
            f"Way out: {_WAY_OUT}"
        )
    if loader.batch_size is None or type(loader.batch_sampler) is not BatchSampler:
        raise UnsupportedDataError(
            f"{what} has batch_sampler={type(loader.batch_sampler).__name__}, which cannot be carried over to a "
            f"subset; use batch_size= and shuffle=True. Way out: {_WAY_OUT}"
        )
    return loader


def dataloaders_in(loaders: Any) -> list[Any]:
    """The loaders in what a data module or factory gives: one, or a list, dict or ``CombinedLoader`` of several."""
    if isinstance(loaders, CombinedLoader):
        loaders = loaders.iterables
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        return [loader for part in loaders for loader in dataloaders_in(part)]
    return [loaders]


def check_made_over(made: Any, rows: Subset[Any]) -> None:
    """Refuse what a ``train_loader_factory`` made, unless it goes through the rows that it was given.

    A data set is looked through, several levels deep: by ``dataset``, ``datasets`` and its other attributes, and a
    ``Subset`` of the same data set counts when it has none but the given rows.

    Raises:
        UnsupportedDataError: The given rows are nowhere in it: every model would train on the same examples.
    """
    if any(_leads_to(loader, rows, _LEVELS) for loader in dataloaders_in(made)):
        return
    raise UnsupportedDataError(
        f"train_loader_factory gives a {type(made).__name__} over other rows than it was given, so that models would "
        "train on examples that count as left out. f(dataset) must build its DataLoader over the "
        f"{len(rows)} rows of its argument: DataLoader(dataset, ...), or over a data set that holds them in "
        "an attribute .dataset"
    )


def _leads_to(thing: Any, rows: Subset[Any], levels: int) -> bool:
    if thing is rows:
        return True
    if type(thing) is Subset and thing.dataset is rows.dataset:
        return bool(np.isin(np.asarray(thing.indices), np.asarray(rows.indices)).all())
    if isinstance(thing, DataLoader):
        return _leads_to(thing.dataset, rows, levels)  # not by its sampler, which may be over other rows
    iterates = hasattr(thing, "__getitem__") or hasattr(thing, "__iter__")
    if (
        levels == 0
        or not iterates
        or thing is rows.dataset
        or isinstance(thing, torch.Tensor | np.ndarray | str | bytes)
    ):
        return False
    held = [getattr(thing, "dataset", None), getattr(thing, "datasets", None), *getattr(thing, "__dict__", {}).values()]
    for value in held:
        several = list(value.values()) if isinstance(value, Mapping) else value
        parts = several[:_ENTRIES] if isinstance(several, list | tuple) else [several]
        if any(_leads_to(part, rows, levels - 1) for part in parts if not isinstance(part, list | tuple | Mapping)):
            return True
    return False


def subset_loader(
    loader: DataLoader[Any],
    rows: npt.NDArray[np.int64],
    clone: Callable[[torch.Generator | None], torch.Generator | None],
    *,
    in_process: bool = False,
) -> DataLoader[Any]:
    """The user's training loader over ``rows`` of its data set; all other settings are kept.

    Args:
        loader: A loader that ``check_plain`` let pass.
        rows: The rows to train on.
        clone: Gives the generator that stands in for one of the user's.
        in_process: Leave out worker processes.

    Raises:
        UnsupportedDataError: The sampler cannot be carried over to a subset.
    """
    dataset: Subset[Any] = Subset(loader.dataset, rows.tolist())
    sampler = _subset_sampler(loader, dataset, rows, clone)
    n_drawn = len(sampler)  # type: ignore[arg-type]
    if loader.drop_last and loader.batch_size is not None and n_drawn < loader.batch_size:
        raise UnsupportedDataError(
            f"drop_last=True with batch_size={loader.batch_size} leaves no batch of {n_drawn} examples "
            f"(a subset of {len(rows)}); set drop_last=False or a smaller batch"
        )
    return _rebuild(loader, dataset, sampler, clone(loader.generator), **(_IN_PROCESS if in_process else {}))


def warn_of_a_batch_of_one(loader: DataLoader[Any], subset: DataLoader[Any]) -> None:
    """Warn, once for a data set and batch size, when only the subset leaves a last batch of one example.

    Args:
        loader: The user's training loader.
        subset: The same over a subset.
    """
    batch_size = loader.batch_size or 1
    n_before, n_drawn = len(loader.sampler), len(subset.sampler)  # type: ignore[arg-type]
    if loader.drop_last or batch_size == 1 or n_drawn % batch_size != 1 or n_before % batch_size == 1:
        return
    if (n_before, batch_size) in _warned_of_one:
        return
    _warned_of_one.add((n_before, batch_size))
    warnings.warn(
        f"batch_size={batch_size}: the {n_drawn} training examples of a subset leave a last batch of 1 (all {n_before} "
        "do not), on which BatchNorm fails or gives extreme values; choose another subset_fraction or batch_size, or "
        "drop_last=True",
        UserWarning,
        stacklevel=3,
    )


def sequential_loader(loader: DataLoader[Any], dataset: Dataset[Any]) -> DataLoader[Any]:
    """``dataset`` in its own order, nothing dropped, with the batch size, collate and workers of ``loader``.

    A loader with a batch sampler of its own lends its batch size where it has one.
    """
    batch_size = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or _SCORING_BATCH
    changes = {"batch_size": batch_size, "drop_last": False, "persistent_workers": False}
    if hasattr(loader, "in_order"):
        changes["in_order"] = True
    return _rebuild(loader, dataset, SequentialSampler(dataset), None, **changes)  # type: ignore[arg-type]


def clone_generator(generator: torch.Generator) -> torch.Generator:
    """A generator in the same state, so that the user's own one is never advanced."""
    twin = torch.Generator(device=generator.device)
    twin.set_state(generator.get_state())
    return twin


def drawn_dataset(loader: DataLoader[Any], *, what: str) -> Dataset[Any]:
    """The rows that an evaluation loader goes through: its data set, or a ``Subset`` of it.

    Raises:
        UnsupportedDataError: The rows cannot be numbered, or the sampler does not tell which they are.
    """
    n = check_map_style(loader.dataset, what=f"the data set of {what}")
    if loader.batch_size is None:
        raise UnsupportedDataError(
            f"{what} does not batch by batch_size, so that its rows cannot be told apart; give it batch_size=, or "
            "leave the split out with splits="
        )
    if type(loader.sampler) is SubsetRandomSampler:
        return Subset(loader.dataset, [int(i) for i in loader.sampler.indices])
    if _pool_size(loader.sampler) != n:
        raise UnsupportedDataError(
            f"{what} has the sampler {type(loader.sampler).__name__}, which does not tell which of the {n} rows it "
            "goes through; put them into torch.utils.data.Subset(dataset, indices), or leave the split out with splits="
        )
    return loader.dataset


def _pool_size(sampler: Any) -> int | None:
    """From how many rows a sampler draws, as far as it tells."""
    if type(sampler) in (SequentialSampler, RandomSampler):
        return len(sampler.data_source)
    if type(sampler) is WeightedRandomSampler:
        return len(sampler.weights)
    if type(sampler) is DistributedSampler:
        return len(sampler.dataset)  # type: ignore[arg-type]
    return len(sampler) if hasattr(sampler, "__len__") else None


def _subset_sampler(
    loader: DataLoader[Any],
    dataset: Subset[Any],
    rows: npt.NDArray[np.int64],
    clone: Callable[[torch.Generator | None], torch.Generator | None],
) -> Sampler[int]:
    sampler, total = loader.sampler, len(dataset.dataset)  # type: ignore[arg-type]
    name = type(sampler).__name__
    if type(sampler) not in (SequentialSampler, RandomSampler, WeightedRandomSampler):
        raise UnsupportedDataError(
            f"the sampler {name} of the training DataLoader cannot be carried over to a subset; use shuffle=True or a "
            f"WeightedRandomSampler (over Subset(dataset, indices) where only some rows are meant). Way out: {_WAY_OUT}"
        )
    if _pool_size(sampler) != total:
        raise UnsupportedDataError(
            f"the sampler {name} of the training DataLoader draws from {_pool_size(sampler)} rows and the data set has "
            f"{total}; make both the same"
        )
    if type(sampler) is RandomSampler:
        size = None if sampler.num_samples == total else max(1, round(sampler.num_samples * len(rows) / total))
        return RandomSampler(
            dataset, replacement=sampler.replacement, num_samples=size, generator=clone(sampler.generator)
        )
    if type(sampler) is WeightedRandomSampler:
        weights = sampler.weights[torch.as_tensor(rows)]
        n_drawable = int((weights > 0).sum())
        if not n_drawable:
            raise UnsupportedDataError("WeightedRandomSampler: every example of a subset has weight 0")
        size = max(1, round(sampler.num_samples * len(rows) / total))
        if not sampler.replacement:
            size = min(size, n_drawable)
        return WeightedRandomSampler(
            weights.tolist(), size, replacement=sampler.replacement, generator=clone(sampler.generator)
        )
    return SequentialSampler(dataset)


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
    }
    if hasattr(loader, "in_order"):  # since torch 2.6
        settings["in_order"] = loader.in_order
    return DataLoader(dataset, **(settings | changes))
