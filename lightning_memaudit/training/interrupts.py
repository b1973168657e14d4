"""Ctrl-C that is not lost when it arrives inside a finalizer."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["interrupts_noticed"]


@contextmanager
def interrupts_noticed() -> Iterator[Callable[[], None]]:
    """Yield a function that raises ``KeyboardInterrupt`` when Ctrl-C was pressed and swallowed since the block began.

    Python ignores exceptions in ``__del__`` (Lightning's profilers have one), and with them an interrupt that arrives
    there. Outside the main thread, and where interrupts are ignored, nothing changes.
    """
    pressed = threading.Event()

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield check
        return

    def note(number: int, frame: Any) -> None:
        pressed.set()
        previous(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, previous)
