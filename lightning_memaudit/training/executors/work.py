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
    """The models that nobody has begun, in leases that get smaller at the end, so that all finish at one time.

    Args:
        model_ids: Which models.
        size: Models in a lease.
        n_workers: How many share the work.
    """

    def __init__(self, model_ids: Sequence[int], size: int, n_workers: int) -> None:
        self._waiting = deque(model_ids)
        self._size = size
        self._n_workers = n_workers
        self._tries: dict[int, int] = {}

    @property
    def remains(self) -> bool:
        """Whether there is any."""
        return bool(self._waiting)

    @property
    def is_plenty(self) -> bool:
        """Whether everybody would have a full lease after this one."""
        return len(self._waiting) > 2 * self._n_workers * self._size

    def take(self) -> list[int]:
        """The next lease."""
        share = -(-len(self._waiting) // self._n_workers)
        return [self._waiting.popleft() for _ in range(min(self._size, share))]

    def give_back(self, model_ids: Sequence[int], *, why: str) -> None:
        """Return what a worker began and did not finish.

        Raises:
            TrainingError: Workers died on one of these again and again.
        """
        for model_id in model_ids:
            self._tries[model_id] = self._tries.get(model_id, 0) + 1
            if self._tries[model_id] >= _TRIES:
                raise TrainingError(
                    f"model {model_id}: {_TRIES} worker processes ended while they trained it ({why}); what is stored "
                    "is kept. Is there too little memory? Take executor='sequential', or Process(n_workers=...)"
                )
        self.return_untouched(model_ids)

    def return_untouched(self, model_ids: Sequence[int]) -> None:
        """Return what a worker had not begun."""
        self._waiting.extendleft(reversed(model_ids))
