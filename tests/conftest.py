import signal
import threading

import torch

torch.set_num_threads(1)  # the suite runs in as many processes as there are cores
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so would children
