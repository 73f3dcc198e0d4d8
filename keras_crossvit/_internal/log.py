"""The package's logger, `logging.getLogger("keras_crossvit")`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

logger = logging.getLogger("keras_crossvit")


class _PrintHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


@contextlib.contextmanager
def log_to_stdout() -> Iterator[None]:
    """Prints the logger's messages of level INFO and above, unless a handler was added to the logger before."""
    if logger.handlers:
        yield
        return
    handler, level = _PrintHandler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
