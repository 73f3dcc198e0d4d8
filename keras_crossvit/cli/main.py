"""The command line: parse, call one function, print."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from keras_crossvit._internal.errors import ProcessLostError
from keras_crossvit._internal.optional import installation_of
from keras_crossvit.version import __version__

# A module of `keras_crossvit.cli` per command. Each has HELP, add_arguments(parser) and run(arguments), and
# imports in `run` what only that command needs.
COMMANDS = (
    "quickstart",
    "train",
    "evaluate",
    "prepare",
    "predict",
    "export",
    "serve",
    "demo",
    "convert",
    "benchmark",
    "list",
    "summary",
)
USER_ERRORS = (ValueError, TypeError, OSError, ImportError, RuntimeError)
NOTHING_LEFT = "no unfinished file is left behind"
EXIT_MISTAKE = 2
EXIT_PROCESS_LOST = 75  # sysexits.h: a passing failure, the user is invited to try again
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words of the command line. Defaults to None: those of the process.

    Returns:
        Exit code: 0, 2 for a mistake that one clear line explains, 75 if another process of a run was lost, or 130 for
        an interrupt.
    """
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # so that unfinished files are removed on this signal too
    try:
        parsed.run(parsed)
    except KeyboardInterrupt as interrupt:
        print(f"\nInterrupted; {_one_line(interrupt) if interrupt.args else NOTHING_LEFT}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _leave_reader()
    except USER_ERRORS as error:
        print(f"keras-crossvit {parsed.command}: {_one_line(error)}", file=sys.stderr)
        return EXIT_PROCESS_LOST if isinstance(error, ProcessLostError) else EXIT_MISTAKE
    return 0


def run_and_exit() -> None:
    """Runs the process's command and ends the process."""
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_reader()
    sys.stderr.flush()
    if code:
        # TensorFlow's threads, still in the middle of a step, crash an orderly shutdown; JAX's waits for the others.
        os._exit(code)
    sys.exit(code)


def _leave_reader() -> None:
    """Prints to no one from now on: the reader, such as `head`, has seen enough, and a flush would complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="keras-crossvit", description="CrossViT for Keras 3.")
    parser.add_argument("--version", action="version", version=f"keras_crossvit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name in COMMANDS:
        module = importlib.import_module(f"keras_crossvit.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.msg.startswith("No module named"):
        return f"{error.name} is not installed; run: {installation_of(error.name)}"
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        text = error.strerror  # a sentence of ours, without the number
    return " ".join(text.split()) or type(error).__name__
