"""A training run of a few seconds whose batches depend only on the epoch.

`python -m tests.helpers.training FOLDER STEPS SIGNAL` trains and sends itself a signal after a number of steps.
"""

import os
import signal
import sys

import keras
import tensorflow as tf

from keras_crossvit._internal.keras_compat import FusedAdamW
from keras_crossvit.training.resume import Interval, ResumableState, fit_resumable
from tests.helpers.models import tiny

EPOCHS, STEPS, CLASSES = 3, 5, 3


def batches(epoch, skip):
    def batch(step):
        seed = tf.stack([tf.cast(step, tf.int32), epoch])
        images = tuple(tf.random.stateless_normal((4, side, side, 3), seed) for side in (48, 32))
        labels = tf.random.stateless_uniform((4,), seed, 0, CLASSES, tf.int32)
        return images, tf.one_hot(labels, CLASSES)

    return tf.data.Dataset.range(STEPS).map(batch).skip(skip)


def compiled_model(*, crossvit=False, **optimizer):
    """Returns a model with everything that a state must have: dropout, drop path, EMA, gradient accumulation."""
    keras.utils.set_random_seed(7)
    adamw = FusedAdamW if crossvit else keras.optimizers.AdamW  # that of `train`, and one that a user may have
    if crossvit:
        model = tiny(CLASSES, drop_path_rate=0.3, drop_rate=0.1)
    else:
        inputs = [keras.Input((side, side, 3)) for side in (48, 32)]
        pooled = keras.layers.concatenate([keras.layers.GlobalAveragePooling2D()(each) for each in inputs])
        model = keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.Dropout(0.5)(pooled)))
    settings = {"use_ema": True, "ema_momentum": 0.9, "gradient_accumulation_steps": 2, **optimizer}
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(adamw(1e-3, **settings), loss, metrics=["accuracy"], jit_compile=False)
    return model


class After(keras.callbacks.Callback):
    """Calls a function after a number of steps of this process."""

    def __init__(self, steps, call):
        super().__init__()
        self._left, self._call = steps, call

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            self._call()


def interrupt_after(steps, number=signal.SIGINT):
    return After(steps, lambda: signal.raise_signal(number))


def run(folder, *callbacks, model=None, interval=2, epochs=EPOCHS, batches=batches, resume=None):
    model = compiled_model() if model is None else model
    resume = resume or ResumableState(folder, interval=Interval(steps=interval))
    fit_resumable(model, batches, epochs=epochs, resume=resume, validation_data=batches(99, 0), callbacks=callbacks)
    return model


if __name__ == "__main__":
    folder, steps, number = sys.argv[1], int(sys.argv[2]), signal.Signals[sys.argv[3]]
    run(folder, After(steps, lambda: os.kill(os.getpid(), number)), model=compiled_model(crossvit=True))
