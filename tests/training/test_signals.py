import signal
import threading

import pytest

from keras_crossvit.training.signals import SignalHandler, StopOnSignal
from tests.helpers import training


class Steps(training.After):
    """Counts steps, and interrupts after the second one."""

    def __init__(self):
        super().__init__(2, lambda: signal.raise_signal(signal.SIGINT))
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        super().on_train_batch_end(batch, logs)


def fit(*callbacks, epochs=1):
    model = training.compiled_model()
    model.fit(training.batches(0, 0), epochs=epochs, verbose=0, callbacks=list(callbacks))


def listen_to(numbers, heard):
    with SignalHandler(threading.Event()):
        for number in numbers:
            signal.raise_signal(number)
            heard.append(number)


def test_fit_ends_after_the_step_in_which_it_is_interrupted():
    interrupted, steps = threading.Event(), Steps()
    with pytest.raises(KeyboardInterrupt), SignalHandler(interrupted):
        fit(steps, StopOnSignal(interrupted), epochs=3)
    assert steps.count == 2


def test_interrupted_before_the_first_step_fit_takes_none():
    interrupted, steps = threading.Event(), Steps()
    interrupted.set()
    with pytest.raises(KeyboardInterrupt):
        fit(steps, StopOnSignal(interrupted))
    assert steps.count == 0


def test_evaluation_within_fit_ends_too():
    interrupted = threading.Event()
    model = training.compiled_model()
    interrupted.set()
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(training.batches(0, 0), verbose=0, callbacks=[StopOnSignal(interrupted)])


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT, signal.SIGINT]])
def test_the_second_interrupt_does_not_wait_and_the_first_is_not_lost(numbers):
    heard = []
    with pytest.raises(KeyboardInterrupt):
        listen_to(numbers, heard)
    assert heard == numbers[:1]  # the second has raised


def test_where_nobody_interrupts_nothing_is_raised():
    heard = []
    listen_to([], heard)
    assert heard == []
