"""Image files read ahead of the model: order, bound, errors, threads that end."""

import itertools
import threading
import time

import numpy as np
import pytest
from PIL import Image

from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.preprocessing import files, preprocess
from keras_crossvit.preprocessing.files import preprocess_files
from tests.helpers.models import TINY

CONFIG = CrossViTConfig(num_classes=2, **TINY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("read_ahead")
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 256, (60 + 40 * (number % 3), 70, 3), dtype="uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "text.jpg").write_text("not an image")
    return folder


def reading_threads():
    return [each for each in threading.enumerate() if each.name.startswith("read-images")]


def test_batches_are_those_of_preprocess_in_order(folder):
    paths = [str(folder / f"{number}.png") for number in (3, 1, 6, 0, 2, 5, 4)]
    batches = list(preprocess_files(paths, CONFIG, 3, threads=4))
    assert [list(names) for names, _ in batches] == [paths[:3], paths[3:6], paths[6:]]
    for names, inputs in batches:
        for own, expected in zip(inputs, preprocess(list(names), CONFIG), strict=True):
            np.testing.assert_array_equal(own, expected)


def test_files_are_read_ahead_but_only_by_two_batches(folder, monkeypatch):
    count, read_image = itertools.count(), files.read_image

    def counted(path):
        next(count)
        return read_image(path)

    monkeypatch.setattr(files, "read_image", counted)
    batches = preprocess_files(itertools.repeat(str(folder / "0.png"), 10_000), CONFIG, 4, threads=2)
    for taken in range(1, 4):
        next(batches)
        end = time.monotonic() + 30
        # The model would compute now: two more batches, and the file after the last one that was taken, are read.
        expected = 4 * taken + 8
        while (done := int(repr(count)[6:-1])) < expected and time.monotonic() < end:
            time.sleep(0.01)
        assert done == expected
    assert reading_threads()
    batches.close()
    assert not reading_threads()


def test_files_that_cannot_be_read_are_reported_in_order_and_left_out(folder):
    names = ["0.png", "text.jpg", "1.png", "nowhere.png", "2.png"]
    errors = []
    batches = preprocess_files(
        [str(folder / name) for name in names],
        CONFIG,
        2,
        on_error=lambda path, error: errors.append((path, str(error))),
    )
    read = [path.rpartition("/")[2] for paths, _ in batches for path in paths]
    assert read == ["0.png", "1.png", "2.png"]
    assert [path.rpartition("/")[2] for path, _ in errors] == ["text.jpg", "nowhere.png"]
    assert all(path.rpartition("/")[2] in text for path, text in errors)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_thread_is_left_after_an_error_or_an_interrupt(error, folder, monkeypatch):
    paths = [str(folder / "0.png")] * 50 + ([str(folder / "text.jpg")] if error is ValueError else [])
    batches = preprocess_files(paths, CONFIG, 4)
    if error is KeyboardInterrupt:
        monkeypatch.setattr(files, "_BATCHES_AHEAD", 1)
        take = files.concurrent.futures.Future.result

        def interrupted(future, timeout=None):
            monkeypatch.setattr(files.concurrent.futures.Future, "result", take)
            raise KeyboardInterrupt

        next(batches)
        monkeypatch.setattr(files.concurrent.futures.Future, "result", interrupted)
    with pytest.raises(error):
        list(batches)
    assert not reading_threads()
