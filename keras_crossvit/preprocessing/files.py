"""Reads and preprocesses image files in threads of their own, while the model computes."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_crossvit._internal.checks import resolve_threads
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.transforms import preprocess

BATCH_SIZE = 8  # for models without a fixed batch size
_BATCHES_AHEAD = 2


def preprocess_files(
    paths: Iterable[str],
    model_or_config: Any,
    batch_size: int,
    *,
    crop_fraction: float | None = None,
    on_error: Callable[[str, Exception], None] | None = None,
    threads: int | None = None,
) -> Iterator[tuple[Sequence[str], list[np.ndarray]]]:
    """Yields batches of image files in order: their paths, and the inputs that `preprocess` makes of them.

    Threads read ahead by two batches, so the next images are ready when the model has computed the last ones, and
    memory does not grow with the number of files. They end with the iterator.

    Args:
        paths: The files.
        model_or_config: As in `preprocess`.
        batch_size: Files per batch; the last batch may have fewer.
        crop_fraction: As in `preprocess`. Defaults to None.
        on_error: Is called, in order, with the path of a file that cannot be read and the error; the file is left out.
            Defaults to None: the error is raised.
        threads: Number of files to read at once. Defaults to None: the number of processors.

    Raises:
        OSError: without `on_error`, a file does not exist or cannot be read.
        ValueError: without `on_error`, a file is not an image.
    """

    def read(path: str) -> Sequence[np.ndarray]:
        return preprocess(read_image(path), model_or_config, crop_fraction=crop_fraction)

    for names, inputs in map_files(read, paths, batch_size, on_error=on_error, threads=threads):
        yield names, [np.concatenate(branch) for branch in zip(*inputs, strict=True)]


def map_files(
    function: Callable[[str], Any],
    paths: Iterable[str],
    batch_size: int,
    *,
    on_error: Callable[[str, Exception], None] | None = None,
    threads: int | None = None,
) -> Iterator[tuple[Sequence[str], Sequence[Any]]]:
    """Yields batches of files in order: their paths, and what `function` returns for each.

    Args and errors are those of `preprocess_files`, which also says how far threads are ahead.
    """

    def call(path: str) -> Any:
        try:
            return function(path)
        except (OSError, ValueError) as error:
            return error

    def readable() -> Iterator[tuple[str, Any]]:
        for path, result in _map_ahead(call, paths, _BATCHES_AHEAD * batch_size, resolve_threads(threads)):
            if not isinstance(result, Exception):
                yield path, result
            elif on_error is None:
                raise result
            else:
                on_error(path, result)

    files = readable()
    while batch := list(itertools.islice(files, batch_size)):
        names, results = zip(*batch, strict=True)
        yield names, results


def _map_ahead(
    function: Callable[[str], Any], items: Iterable[str], ahead: int, threads: int
) -> Iterator[tuple[str, Any]]:
    """Yields (item, function(item)) in order; at most `ahead` results wait to be taken."""
    pending: collections.deque[tuple[str, concurrent.futures.Future]] = collections.deque()
    executor = concurrent.futures.ThreadPoolExecutor(threads, "read-images")
    try:
        for item in items:
            pending.append((item, executor.submit(function, item)))
            if len(pending) > ahead:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:  # also after an interrupt, or if the iterator is not read to its end
        executor.shutdown(cancel_futures=True)
