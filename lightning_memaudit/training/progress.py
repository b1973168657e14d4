"""What a terminal shows while models are trained, and Ctrl-C that is neither lost nor shown as a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from types import FrameType

    from lightning_memaudit.outcomes.store import OutcomeStore

__all__ = ["Progress", "interrupts_noticed"]

_AGAIN_AFTER = 0.05  # seconds; finalizers are short


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


@contextmanager
def interrupts_noticed() -> Iterator[Callable[[], None]]:
    """Yield a function that raises ``KeyboardInterrupt`` when Ctrl-C was pressed and swallowed since the block began.

    Python prints and ignores exceptions in ``__del__`` (Lightning's profilers have one) and in callbacks of weak
    references. An interrupt that arrives there is delivered again a moment later. Outside the main thread, and where
    interrupts are ignored, nothing changes.
    """
    pressed = threading.Event()

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield check
        return
    timers: list[threading.Timer] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        if _is_swallowed(frame):
            timers.append(threading.Timer(_AGAIN_AFTER, os.kill, (os.getpid(), number)))
            timers[-1].daemon = True
            timers[-1].start()
        else:
            previous(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        for timer in timers:
            timer.cancel()
        signal.signal(signal.SIGINT, previous)


def _is_swallowed(frame: Any) -> bool:
    """Whether an exception that is raised here comes out of a finalizer or of the callback of a weak reference."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or code.co_filename == weakref.__file__:
            return True
        frame = frame.f_back
    return False
