"""A worker process: ``python -m lightning_memaudit.training.workers FOLDER N_THREADS``.

It does what standard input asks for, one JSON message a line: ``{"open": true}``, to unpack the run in FOLDER, which
may be written after the process was started, then ``{"train": [3, 4]}``; ``{"use": {...}}`` says how, from then on.
It answers on standard output: ``{"event": "ready"}``, ``{"event": "stored", "model_id": 3}``, ``{"event": "idle"}``,
``{"event": "failed", ...}``. What the user's code prints goes to standard error, of which no more is kept than that of
the model in hand. A parent that has no more models kills its workers; when standard input ends, the parent was killed
itself, and the process removes FOLDER and ends.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import shutil
import stat
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["main"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def main(arguments: list[str]) -> int:
    """Run until standard input ends."""
    folder, n_threads = Path(arguments[0]), int(arguments[1])
    asked, answers = os.fdopen(os.dup(_STDIN)), os.fdopen(os.dup(_STDOUT), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), _STDIN)  # the user's code neither reads requests nor writes answers
    os.dup2(_STDERR, _STDOUT)
    opened, requests = threading.Event(), queue.Queue[dict[str, Any]]()
    threading.Thread(target=_listen, args=(asked, opened, requests, folder), daemon=True).start()

    gc.disable()  # a start makes no garbage, and to look for it takes a seventh of the time
    import torch

    from lightning_memaudit.training.engines.choice import EngineChoice
    from lightning_memaudit.training.workers.remote_errors import describe
    from lightning_memaudit.training.workers.session import Session

    torch.set_num_threads(n_threads)
    try:
        opened.wait()
        session = Session.open(folder)
        gc.freeze()
        gc.enable()
        _say(answers, event="ready")
        while True:
            match requests.get():
                case {"use": choice}:
                    session.choice = EngineChoice.from_dict(choice)
                case {"train": model_ids}:
                    for model_id in session.train(model_ids):
                        _say(answers, event="stored", model_id=model_id)
                        _forget_output()
                    _say(answers, event="idle")
    except BaseException as error:
        traceback.print_exc()
        _say(answers, event="failed", **describe(error))
    return 1


def _listen(asked: TextIO, opened: threading.Event, requests: queue.Queue[dict[str, Any]], folder: Path) -> None:
    for line in asked:
        match json.loads(line):
            case {"open": _}:
                opened.set()
            case request:
                requests.put(request)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # wherever the main thread is: nobody waits for it any more


def _forget_output() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    if stat.S_ISREG(os.fstat(_STDERR).st_mode):
        os.lseek(_STDERR, 0, os.SEEK_SET)
        os.ftruncate(_STDERR, 0)


def _say(answers: TextIO, **message: Any) -> None:
    answers.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
