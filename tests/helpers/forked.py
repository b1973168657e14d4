"""Processes without the six seconds that importing Lightning and leaving Python take.

They are forked from a server that has imported what they need; each is a process of its own otherwise, with the
arguments, the working directory and the environment that it is given.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMAUDIT = "import sys; from lightning_memaudit.cli import main; sys.exit(main())"
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["lightning_memaudit.audit", "lightning_memaudit.cli.run", "tests.helpers.tiny"])


class Forked:
    """A running process, with the part of the interface of ``Popen`` that tests need.

    Args:
        program: A script, or code as after ``python -c``.
        arguments: What follows in ``sys.argv``.
        cwd: Working directory.
        env: Its whole environment; None for that of this process.
    """

    def __init__(
        self, program: Path | str, *arguments: Any, cwd: Path | str = ".", env: Mapping[str, str] | None = None
    ) -> None:
        self._outputs = [Path(tempfile.mkstemp(prefix="forked-")[1]) for _ in range(2)]
        given = (program, [str(argument) for argument in arguments], str(Path(cwd).resolve()), dict(env or os.environ))
        self._process = _SERVER.Process(target=_run, args=(*given, self._outputs))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 240.0) -> tuple[str, str]:
        """Wait for its end; standard output and standard error."""
        self._process.join(timeout)
        assert self.returncode is not None, f"it has not ended in {timeout} s"
        said = [path.read_text() for path in self._outputs]
        for path in self._outputs:
            path.unlink()
        return said[0], said[1]


def finished(program: Path | str, *arguments: Any, **options: Any) -> str:
    """Standard output of a process that ends well."""
    process = Forked(program, *arguments, **options)
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return out


def _run(
    program: Path | str, arguments: list[str], folder: str, environment: dict[str, str], outputs: list[Path]
) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # it depends on the environment
    torch.set_num_threads(1)
    main = sys.modules["__main__"] = ModuleType("__main__")
    sys.argv = ["-c", *arguments]
    sys.path[:0] = ["", *environment.get("PYTHONPATH", "").split(os.pathsep)]
    if isinstance(program, Path):
        main.__file__ = sys.argv[0] = str(program)
        sys.path[0] = str(program.parent)
        program = program.read_text()
    try:
        exec(compile(program, sys.argv[0], "exec"), vars(main))
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
        sys.stdout.flush()
        sys.stderr.flush()
