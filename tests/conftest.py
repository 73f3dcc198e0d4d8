import os
import signal

# Read by TensorFlow when it is imported: no start-up notes among the results.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells let their background jobs ignore it, and processes hand that on to those that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The longest files, which begin first, so that no process is left alone with one of them at the end.
LONGEST = ("test_backends.py", "test_quickstart.py", "test_documents.py", "test_distribution.py", "test_parity.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def _own_global_state():
    """Every test begins with the same seed and leaves the dtype policy as it found it."""
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """A tiny model of five letters and the result of exporting it as a SavedModel."""
    from keras_crossvit.exporting import export
    from tests.helpers.exports import confident_model
    from tests.helpers.models import TINY

    model = confident_model(class_names=list("abcde"), depth=TINY["depth"])
    return model, export(model, tmp_path_factory.mktemp("saved_models") / "letters", format="saved_model")
