"""Who trains which models next."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lightning_memaudit.exceptions import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Work"]

_TRIES = 3  # of a model whose worker was killed


class Work:
    """The models that remain, in leases that get smaller at the end, so that all finish at one time.

    Models whose worker was killed wait until all others are begun, and are left to workers: a model that kills
    whatever process trains it costs nothing but itself.

    Args:
        model_ids: Which models.
        chunk_size: Models that are trained at once.
        n_workers: How many share the work.
        n_chunks: Chunks in a full lease.
    """

    def __init__(self, model_ids: Sequence[int], *, chunk_size: int, n_workers: int, n_chunks: int = 1) -> None:
        self._fresh = deque(model_ids)
        self._suspect: deque[list[int]] = deque()
        self._chunk_size = chunk_size
        self._full = chunk_size * n_chunks
        self._n_workers = n_workers
        self._tries: dict[int, int] = {}

    @property
    def remains(self) -> bool:
        """Whether there is any."""
        return bool(self._fresh or self._suspect)

    @property
    def is_fresh(self) -> bool:
        """Whether there are models on which no worker was killed."""
        return bool(self._fresh)

    @property
    def is_plenty(self) -> bool:
        """Whether everybody would have a full lease after this one."""
        return len(self._fresh) > 2 * self._n_workers * self._full

    def take(self) -> list[int]:
        """The next lease of fresh models."""
        share = -(-len(self._fresh) // self._n_workers)
        return [self._fresh.popleft() for _ in range(min(self._full, share))]

    def take_as_worker(self) -> list[int]:
        """The next lease, of models on which a worker was killed when there are no others."""
        return self.take() if self._fresh else self._suspect.popleft()

    def give_back(self, model_ids: Sequence[int], *, why: str) -> None:
        """Return what a killed worker had begun and not finished: it was at the first chunk of it.

        Raises:
            TrainingError: Workers were killed on these models again and again.
        """
        begun = list(model_ids[: self._chunk_size])
        self.return_untouched(model_ids[self._chunk_size :])
        if not begun:
            return
        for model_id in begun:
            self._tries[model_id] = self._tries.get(model_id, 0) + 1
        if max(self._tries[model_id] for model_id in begun) >= _TRIES:
            raise TrainingError(
                f"{_named(begun)}: {_TRIES} worker processes ended while they trained it ({why}). What is stored is "
                "kept. Is there too little memory? Take fewer workers (Process(n_workers=2)) or executor='sequential'"
            )
        self._suspect.append(begun)

    def return_untouched(self, model_ids: Sequence[int]) -> None:
        """Return what a worker had not begun."""
        self._fresh.extendleft(reversed(model_ids))


def _named(model_ids: Sequence[int]) -> str:
    return f"model {model_ids[0]}" + (f" (and {len(model_ids) - 1} trained with it)" if len(model_ids) > 1 else "")
