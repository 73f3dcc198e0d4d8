"""The package's logger, `logging.getLogger("keras_crossvit")`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from os import PathLike

from keras_crossvit._internal.user_text import one_line, printable

logger = logging.getLogger("keras_crossvit")


def _escape_names(record: logging.LogRecord) -> bool:
    """Makes a message printable: texts, paths and errors that it is formatted with are each on one line."""
    record.msg = printable(str(record.msg))
    if isinstance(record.args, tuple):
        record.args = tuple(
            one_line(each) if isinstance(each, (str, PathLike, BaseException)) else each for each in record.args
        )
    return True


logger.addFilter(_escape_names)


class _PrintHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


@contextlib.contextmanager
def log_to_stdout() -> Iterator[None]:
    """Prints the logger's messages of level INFO and above, unless a handler was added to the logger before.

    They do not reach the root logger meanwhile, for which a library may have installed a handler of its own.
    """
    if logger.handlers:
        yield
        return
    handler, level, propagate = _PrintHandler(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
