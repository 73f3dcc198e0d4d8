"""The command line: parse, call one function, print."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from keras_crossvit import __version__
from keras_crossvit._internal.errors import CrossViTError, ProcessLostError
from keras_crossvit._internal.log import log_to_stdout
from keras_crossvit.cli.environment import configure_environment, import_quietly

# A module of `keras_crossvit.cli` per command: HELP, add_arguments(parser) and run(arguments). IMPORTS names the
# libraries to import before `run`; modules themselves import nothing heavy, so that --help is quick.
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
    "list",
    "summary",
)
# What one line explains: our own errors, the operating system's about files, and libraries that are not installed.
USER_ERRORS = (CrossViTError, OSError, ModuleNotFoundError)
NOTHING_LEFT = "no unfinished file is left behind"
EXIT_MISTAKE = 2
EXIT_PROCESS_LOST = 75  # sysexits.h: a temporary failure, try again
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words of the command line. Defaults to None: those of the process.

    Returns:
        Exit code: 0, 2 for a mistake that one clear line explains, 75 if another process of a run was lost, or 130 for
        an interrupt. Any other exception is a bug and leaves with its traceback.
    """
    parsed = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # so that unfinished files are removed on this signal too
    try:
        with log_to_stdout():
            import_quietly(parsed.imports)
            parsed.run(parsed)
    except KeyboardInterrupt as interrupt:
        print(f"\nInterrupted; {_one_line(interrupt) if interrupt.args else NOTHING_LEFT}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _detach_stdout()
    except USER_ERRORS as error:
        if parsed.traceback:
            raise
        print(f"keras-crossvit {parsed.command}: {_one_line(error)}", file=sys.stderr)
        return EXIT_PROCESS_LOST if isinstance(error, ProcessLostError) else EXIT_MISTAKE
    return 0


def run_and_exit() -> None:
    """Runs the process's command and ends the process."""
    configure_environment()
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _detach_stdout()
    sys.stderr.flush()
    if code:
        # An orderly shutdown crashes where TensorFlow's threads are in the middle of a step, and waits for other
        # processes under JAX.
        os._exit(code)
    sys.exit(code)


def _detach_stdout() -> None:
    """Discards further output: the reader, such as `head`, has closed the pipe, and a flush would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-crossvit", description="Train, evaluate, explain and deploy CrossViT with Keras 3."
    )
    parser.add_argument("--version", action="version", version=f"keras_crossvit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name in COMMANDS:
        module = importlib.import_module(f"keras_crossvit.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.add_argument("--traceback", action="store_true", help="show the traceback of every error")
        command.set_defaults(run=module.run, imports=getattr(module, "IMPORTS", ()))
    return parser


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and not isinstance(error, CrossViTError):
        from keras_crossvit._internal.optional import install_command

        return f"{error.name} is not installed. Run: {install_command(str(error.name))}"
    text = str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        text = error.strerror  # a sentence of ours, without the number
    return " ".join(text.split()) or type(error).__name__
