"""What a terminal shows while models are trained."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["Progress"]


class Progress:
    """One bar over models with the time left; says on Ctrl-C what is kept.

    Args:
        store: Where the models go.
        model_ids: All of them.
        missing: Those that are to be trained.
        whose: Said behind "models".
        shown: Whether there is a bar.
    """

    def __init__(
        self, store: OutcomeStore, model_ids: Sequence[int], missing: Collection[int], whose: str, *, shown: bool
    ) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=len(model_ids),
            initial=len(model_ids) - len(missing),
            desc="models" + whose,
            unit="model",
            disable=not shown,
            dynamic_ncols=True,
        )
        self._store = store
        self._model_ids = model_ids
        self._whose = whose

    def advance(self) -> None:
        """One more model is stored."""
        self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.close()
        if kind is KeyboardInterrupt:
            shards = set(self._store.storage.names("outcomes/baseline"))
            n_stored = sum(f"{model_id:06d}.npz" in shards for model_id in self._model_ids)
            print(
                f"\nStopped. {n_stored} of {len(self._model_ids)} models{self._whose} are stored in {self._store.url}; "
                "run again to go on.",
                file=sys.stderr,
            )
