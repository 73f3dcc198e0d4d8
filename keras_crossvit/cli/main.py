"""The command line: parse, call one function, print."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from keras_crossvit import __version__
from keras_crossvit._internal.checks import nearest
from keras_crossvit._internal.errors import LONGEST_MESSAGE, CrossViTError, MissingLibraryError, ProcessLostError
from keras_crossvit._internal.log import log_to_stdout
from keras_crossvit._internal.optional import require_library
from keras_crossvit._internal.user_text import one_line, shown_name
from keras_crossvit.cli.environment import configure_environment, import_quietly

# A module of `keras_crossvit.cli` per command: HELP, EXAMPLES, add_arguments(parser) and run(arguments). IMPORTS names
# the libraries to import before `run`, and check(arguments), if there is one, finds mistakes before that; modules
# themselves import nothing heavy, so that --help is quick.
COMMANDS = (
    "quickstart",
    "train",
    "evaluate",
    "prepare",
    "predict",
    "explain",
    "export",
    "compare",
    "serve",
    "demo",
    "publish",
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
            parsed.check_first(parsed)
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


class _Parser(argparse.ArgumentParser):
    """A parser that names the nearest command, choice or option; a command's mistakes show the command's usage."""

    _takes_intermixed = False  # set for commands

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Takes arguments also between and after options, as in `evaluate MODEL --output OUT DATA`.

        Unknown ones are refused here, since argparse leaves them to the parser above, with its usage.
        """
        if self._takes_intermixed:
            self._takes_intermixed = False  # the next call is that of argparse itself
            try:
                parsed, unknown = self.parse_known_intermixed_args(args, namespace)
            finally:
                self._takes_intermixed = True
            if unknown:
                self._refuse(unknown)
            return parsed, unknown
        return super().parse_known_args(args, namespace)

    def _refuse(self, unknown: Sequence[str]) -> None:
        options = sorted(set(re.findall(r"--[\w-]+", self.format_help())))
        typed = next((each for each in unknown if each.startswith("-")), "").partition("=")[0]
        found = nearest(typed, options)
        self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean {found}?" if found else ""))

    def error(self, message: str) -> NoReturn:
        if choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message, re.DOTALL):
            found = nearest(choice[1], choice[2].replace("'", "").split(", "))
            message += f"; did you mean {found}?" if found else ""
        super().error(shown_name(message, LONGEST_MESSAGE))  # a pattern such as * may have become the name of a file


class _PrintCompletion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: object = None
    ) -> None:
        try:
            print(require_library("shtab", "completion").complete(parser, shell=values))
        except MissingLibraryError as error:
            parser.error(str(error))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="keras-crossvit", description="Train, evaluate, explain and deploy CrossViT with Keras 3.")
    parser.add_argument("--version", action="version", version=f"keras_crossvit {__version__}")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh", "tcsh"),
        help="print a script that completes commands and options in a shell",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name in COMMANDS:
        module = importlib.import_module(f"keras_crossvit.cli.{name}")
        examples = "\n".join(f"  keras-crossvit {name} {each}".rstrip() for each in module.EXAMPLES)
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--traceback", action="store_true", help="show the traceback of every error")
        command._takes_intermixed = True
        check = getattr(module, "check", lambda _: None)
        command.set_defaults(check_first=check, run=module.run, imports=getattr(module, "IMPORTS", ()))
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
    return one_line(" ".join(map(str.strip, text.split("\n")))) or type(error).__name__
