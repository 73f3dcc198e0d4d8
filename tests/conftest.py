import os

# Read by TensorFlow when it is imported: no start-up notes among the results.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest


@pytest.fixture(autouse=True)
def _own_global_state():
    """Every test begins with the same seed and leaves the dtype policy as it found it."""
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(policy)
