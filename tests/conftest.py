import os
import signal

# TensorFlow reads it when it is imported: no start-up messages in the output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Background jobs of a shell ignore SIGINT, and the processes that tests start and interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The slowest files start first, so that no worker is left with one of them at the end.
LONGEST = ("test_backends.py", "test_quickstart.py", "test_documents.py", "test_distributed.py", "test_parity.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def _isolated_global_state():
    """Every test starts with the same seed; the dtype policy is restored."""
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
