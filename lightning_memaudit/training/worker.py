"""A worker process: ``python -m lightning_memaudit.training.worker FOLDER N_THREADS``.

It unpacks the parcel in FOLDER and trains what standard input asks for, one JSON message a line: ``{"train": [3, 4]}``.
It answers on standard output: ``{"event": "ready"}``, ``{"event": "stored", "model_id": 3}``, ``{"event": "idle"}``,
``{"event": "failed", ...}``. What the user's code prints goes to standard error. When standard input ends, so does the
process: its parent is gone or has no more work.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run until standard input ends."""
    folder, n_threads = Path(arguments[0]), int(arguments[1])
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: queue.Queue[list[int]] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, requests), daemon=True).start()

    import torch

    from lightning_memaudit.exceptions import MemauditError
    from lightning_memaudit.training.session import Session

    torch.set_num_threads(n_threads)
    try:
        session = Session.open(folder)
        _say(answers, event="ready")
        while True:
            for model_id in session.train(requests.get()):
                _say(answers, event="stored", model_id=model_id)
            _say(answers, event="idle")
    except MemauditError as error:
        _say(answers, event="failed", kind=type(error).__name__, message=str(error))
    except BaseException as error:
        _say(answers, event="failed", kind="", message=f"{type(error).__name__}: {error}")
        traceback.print_exc()
    return 1


def _listen(stdin: TextIO, requests: queue.Queue[list[int]]) -> None:
    for line in stdin:
        requests.put(json.loads(line)["train"])
    os._exit(0)  # wherever the main thread is: nobody waits for it any more


def _say(answers: TextIO, **message: Any) -> None:
    answers.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
