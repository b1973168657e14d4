import signal
import threading
import time
import weakref

import pytest

from lightning_memaudit.training.progress import interrupts_noticed


class Interrupted:
    """Its finalizer is where Ctrl-C arrives."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Thing:
    pass


def finalized() -> None:
    """Let an interrupt arrive inside a finalizer."""
    Interrupted()


def called_back() -> None:
    """Let an interrupt arrive inside the callback of a weak reference."""
    thing = Thing()
    weakref.finalize(thing, signal.raise_signal, signal.SIGINT)
    del thing


@pytest.mark.parametrize("interrupt", [finalized, called_back])
def test_an_interrupt_that_python_would_ignore_comes_a_moment_later(interrupt) -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_noticed():
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("interrupt", [finalized, called_back])
def test_an_interrupt_that_python_would_ignore_is_noticed_at_the_next_check(interrupt) -> None:
    with interrupts_noticed() as check:
        check()
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            check()
    time.sleep(0.2)  # and is not delivered when the block has ended


def test_an_ordinary_interrupt_is_raised_at_once() -> None:
    with interrupts_noticed(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_other_threads_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with interrupts_noticed() as check:
            check()
            seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
