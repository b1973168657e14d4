"""Who trains which models next."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from lightning_memaudit.exceptions import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ModelQueue", "even_size", "last_size"]

_SMALL = 8  # models at once; fewer gain little over one after the other
_TRIES = 3  # of a model whose worker was killed


def even_size(n_models: int, largest: int, n_workers: int) -> int:
    """The size of leases of which every worker gets equally many, in as few rounds as there have to be.

    Args:
        n_models: In all.
        largest: Size that a lease may have.
        n_workers: How many processes share them.

    Example:
        >>> even_size(100, 32, 2), even_size(33, 32, 2), even_size(5, 1, 2)
        (25, 17, 1)
    """
    rounds = math.ceil(n_models / (largest * n_workers))
    return math.ceil(n_models / (rounds * n_workers))


def last_size(n_models: int, size: int, n_workers: int) -> int:
    """The size of the last leases: half of the others, so that nobody waits long for another at the end.

    Small ones stay as they are. Few models are dealt out in one round, since those that are trained at once take about
    as long when they are fewer.

    Args:
        n_models: In all.
        size: Of the leases before.
        n_workers: How many processes share them.

    Example:
        >>> last_size(128, 32, 2), last_size(33, 32, 2)
        (16, 17)
    """
    if n_models <= n_workers * size:
        return even_size(n_models, size, n_workers)
    n_full = max(0, (n_models - 2 * n_workers * size) // size + 1)
    return even_size(n_models - n_full * size, max(min(size, _SMALL), math.ceil(size / 2)), n_workers)


class ModelQueue:
    """The models that remain, dealt out in leases.

    Models whose worker was killed wait until all others are begun, and are left to workers: a model that kills
    whatever process trains it costs nothing but itself.

    Args:
        model_ids: Which models.
        size: Models that are trained at once; a lease has so many, or a multiple that gets smaller at the end.
        n_workers: How many processes share them.
        multiple: The largest multiple.
        last: Models that are trained at once in the last leases; None for no fewer.

    Attributes:
        size: As given, or as ``use`` has changed it.
    """

    def __init__(
        self, model_ids: Sequence[int], *, size: int, n_workers: int, multiple: int = 1, last: int | None = None
    ) -> None:
        self._fresh = deque(model_ids)
        self._suspect: deque[list[int]] = deque()
        self.size = size
        self._last = last or size
        self._multiple = multiple
        self._n_workers = n_workers
        self._tries: dict[int, int] = {}

    def use(self, size: int) -> None:
        """Deal out so many models at a time from now on, to the end."""
        self.size = self._last = size

    @property
    def remains(self) -> bool:
        """Whether there is any."""
        return bool(self._fresh or self._suspect)

    @property
    def is_fresh(self) -> bool:
        """Whether there are models on which no worker was killed."""
        return bool(self._fresh)

    def take(self) -> list[int]:
        """The next lease of fresh models."""
        size = self.size if len(self._fresh) >= 2 * self._n_workers * self.size else self._last
        share = math.ceil(len(self._fresh) / (size * self._n_workers))
        n_models = size * min(self._multiple, share)
        return [self._fresh.popleft() for _ in range(min(n_models, len(self._fresh)))]

    def take_as_worker(self) -> list[int]:
        """The next lease, of models on which a worker was killed when there are no others."""
        return self.take() if self._fresh else self._suspect.popleft()

    def give_back(self, model_ids: Sequence[int], *, why: str, at_once: int | None = None) -> None:
        """Return what a killed worker had begun and not finished: it was at the first of it.

        Args:
            model_ids: What it had in hand.
            why: How it ended.
            at_once: How many it trained at once; None for ``size``.

        Raises:
            TrainingError: Workers were killed on these models again and again.
        """
        at_once = at_once or self.size
        begun = list(model_ids[:at_once])
        self.return_untouched(model_ids[at_once:])
        if not begun:
            return
        for model_id in begun:
            self._tries[model_id] = self._tries.get(model_id, 0) + 1
        if max(self._tries[model_id] for model_id in begun) >= _TRIES:
            raise TrainingError(
                f"{_named(begun)}: {_TRIES} worker processes ended while they trained it ({why}). What is stored is "
                "kept. Is there too little memory? Take fewer workers or executor='sequential'"
            )
        self._suspect.append(begun)

    def return_untouched(self, model_ids: Sequence[int]) -> None:
        """Return what a worker had not begun."""
        self._fresh.extendleft(reversed(model_ids))


def _named(model_ids: Sequence[int]) -> str:
    return f"model {model_ids[0]}" + (f" (and {len(model_ids) - 1} trained with it)" if len(model_ids) > 1 else "")
