import atexit
import functools
import gc
import signal
import threading

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so would children


def pytest_collection_finish() -> None:
    """Settings of each process that runs tests; the one that only distributes them does without torch."""
    import torch
    from lightning.fabric.utilities import registry

    torch.set_num_threads(1)  # the suite runs in as many processes as there are cores
    registry.entry_points = functools.cache(registry.entry_points)  # else each Trainer reads what is installed: 9 ms
    atexit.register(gc.freeze)  # a process that ends need not look for garbage in all that was imported
