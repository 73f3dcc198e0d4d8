"""A Keras model in its runtime, on every backend."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_crossvit.runtimes.keras_model import KerasRuntime
from tests.helpers.backends import call
from tests.helpers.models import images, tiny

THREADS, CALLS = 6, 30


@pytest.mark.backends
def test_threads_that_share_a_model_get_their_own_answers():
    model = tiny(depth=((1, 1, 0),))
    runtime = KerasRuntime(model)
    inputs = images(model, batch=THREADS)
    wanted = call(model, inputs)
    together = threading.Barrier(THREADS)

    def ask(number):
        own = [each[number : number + 1] for each in inputs]
        together.wait()
        return [runtime.logits(*own)[0] for _ in range(CALLS)]

    with ThreadPoolExecutor(THREADS) as pool:
        answers = np.array(list(pool.map(ask, range(THREADS))))
    assert np.abs(wanted - np.roll(wanted, 1, axis=0)).max(axis=1).min() > 1e-4  # another's answer would be seen
    np.testing.assert_allclose(answers, np.repeat(wanted[:, None], CALLS, axis=1), rtol=0, atol=1e-6)
