"""Entry point: picks the subcommand and turns errors into one message and an exit code."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_memaudit.exceptions import MemauditError, TrainingError
from lightning_memaudit.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "EXIT_INTERRUPTED", "main"]

EXIT_ARGUMENTS, EXIT_INTERRUPTED = 2, 130
COMMANDS = {
    "run": "train the population of a LightningCLI config with an `audit:` block, and report",
    "status": "what a store holds, and whether it is whole",
    "report": "write report.html, report.md, report.json and figures from a store",
    "export": "write the scores of every example as CSV or Parquet",
    "gate": "hold a report or a store to a policy, for CI",
    "theory": "what limiting memorization must cost on long-tailed data, and for whom: a calculator",
    "demo": "the main job on built-in data: handwritten digits with a long tail and some wrong labels",
}
_USAGE = "usage: memaudit COMMAND [--help] [options]\n       memaudit --version\n\ncommands:\n" + "".join(
    f"  {name:8} {what}\n" for name, what in COMMANDS.items()
)
_EXITS = (
    "\nexit codes: 0 fine, 1 a gate failed, 2 bad arguments, configuration or policy, 3 undecided where the policy\n"
    "says so, 4 missing data or a mismatch with what exists, 130 Ctrl-C\n"
    "Every command takes --debug, which shows the traceback of an error.\n"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments after the program name; None takes those of the process.

    Returns:
        The exit code.
    """
    if argv is None:
        atexit.register(gc.freeze)  # else Python takes two seconds to look for garbage in torch when it ends
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE + _EXITS, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else EXIT_ARGUMENTS
    if arguments[0] == "--version":
        print(__version__)
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        return _fail(f"unknown command {command!r}\n{_USAGE}", EXIT_ARGUMENTS)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        run: Callable[[list[str]], int] = import_module(f"lightning_memaudit.cli.{command}").main
        return run(rest)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_ARGUMENTS
    except MemauditError as error:
        if debug:
            traceback.print_exc()
        in_your_code = isinstance(error, TrainingError) and not debug
        return _fail(f"{error} (--debug shows where)" if in_your_code else str(error), error.exit_code)
    except Exception as error:  # a user's class failed, or we did: say so in one line
        if debug:
            traceback.print_exc()
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", EXIT_ARGUMENTS)


def _fail(message: str, code: int) -> int:
    print(f"memaudit: {message}", file=sys.stderr)
    return code
