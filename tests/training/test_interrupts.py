import signal
import threading

import pytest

from keras_crossvit.training.interrupts import Listening, StopWhenAsked
from tests.helpers import training


class Steps(training.After):
    """Counts steps, and interrupts after the second one."""

    def __init__(self):
        super().__init__(2, lambda: signal.raise_signal(signal.SIGINT))
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        super().on_train_batch_end(batch, logs)


def test_fit_ends_after_the_step_in_which_it_is_interrupted():
    interrupted, steps = threading.Event(), Steps()
    with Listening(interrupted), pytest.raises(KeyboardInterrupt):
        training.compiled_model().fit(
            training.batches(0, 0), epochs=3, verbose=0, callbacks=[steps, StopWhenAsked(interrupted)]
        )
    assert steps.count == 2


def test_evaluation_within_fit_ends_too():
    interrupted = threading.Event()
    model = training.compiled_model()
    interrupted.set()
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(training.batches(0, 0), verbose=0, callbacks=[StopWhenAsked(interrupted)])


def test_a_second_interrupt_does_not_wait():
    with Listening(threading.Event()):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
