"""Ctrl-C that is neither lost nor shown as a traceback when it arrives where Python ignores exceptions."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["interrupts_noticed"]

_AGAIN_AFTER = 0.05  # seconds; finalizers are short


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
