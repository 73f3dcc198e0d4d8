"""Errors of backends during training are one line."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from keras_crossvit._internal.errors import explain_training_errors
from keras_crossvit.pipeline import Augmentation, open_dataset, prepare, training_batches
from tests.helpers import image_folders

CONFIG = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return image_folders.write_plain(tmp_path / "plain", 1)


def error_of(compute):
    with pytest.raises(RuntimeError) as raised, explain_training_errors():
        compute()
    message = str(raised.value)
    assert "\n" not in message
    return message


def fit(source):
    """Trains as a run does, so that an error in a batch comes out of the step."""
    inputs = [keras.Input((side, side, 3)) for side in (48, 32)]
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs[0])))
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(training_batches(source, CONFIG, Augmentation.none(), 3, seed=0, epoch=0), verbose=0)


@pytest.mark.parametrize("is_read_by_pillow", [False, True])
def test_a_missing_image_is_named(folder, is_read_by_pillow):
    gone = folder / "bleu" / "0.jpg"
    if is_read_by_pillow:
        image_folders.write_turned(gone)
    source = open_dataset(folder)
    gone.unlink()
    message = error_of(lambda: fit(source))
    assert str(gone) in message
    assert "No such file or directory" in message


def test_a_damaged_shard_is_reported(folder, tmp_path):
    prepare(folder, tmp_path / "shards")
    source = open_dataset(tmp_path / "shards")
    (shard,) = (tmp_path / "shards").glob("*.tfrecord")
    contents = bytearray(shard.read_bytes())
    contents[len(contents) // 2] ^= 1
    shard.write_bytes(contents)
    assert "corrupted record" in error_of(lambda: fit(source))


def with_numpy():
    np.ones(2**45)


def with_tensorflow():
    tf.zeros([2**43])


def with_jax():
    jax = pytest.importorskip("jax")
    jax.numpy.ones(2**43).block_until_ready()


def with_torch():
    pytest.importorskip("torch").zeros(2**43)


@pytest.mark.parametrize("allocate", [with_numpy, with_tensorflow, with_jax, with_torch])
def test_memory_that_is_not_there_is_one_line_with_remedies(allocate):
    message = error_of(allocate)
    assert re.search(r"not enough memory .*\(.*allocat.*\)", message)
    for remedy in ("gradient_checkpointing", "gradient_accumulation_steps", "batch_size"):
        assert remedy in message


def test_a_full_disk_is_not_a_lack_of_memory():
    message = error_of(lambda: tf.io.write_file("/dev/full", "x" * 100_000))
    assert "No space left" in message
    assert "memory" not in message


def test_other_errors_keep_their_type():
    with pytest.raises(RuntimeError, match="a bug") as raised, explain_training_errors():
        raise RuntimeError("a bug")
    assert type(raised.value) is RuntimeError


def test_an_out_of_memory_error_names_settings_that_need_less():
    def compute():
        raise tf.errors.ResourceExhaustedError(
            None,
            None,
            "Graph execution error:\n\nDetected at node mul\n\nOOM when allocating tensor with shape[9,9]\n\t"
            " [[{{node mul}}]]\nHint: list them.\n",
        )

    message = error_of(compute)
    assert "(OOM when allocating tensor with shape[9,9])" in message
    assert "gradient_checkpointing" in message
