import signal
import threading

import pytest

from lightning_memaudit.training.interrupts import interrupts_noticed


class Interrupted:
    """Its finalizer is where Ctrl-C arrives."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_inside_a_finalizer_is_noticed_later() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_noticed() as check:
        check()
        thing = Interrupted()
        del thing
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


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
