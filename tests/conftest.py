import gc
import importlib.util
import os
import signal
import sys
from pathlib import Path

from tests.helpers.processes import QUICK_COMPILATION

# Libraries read these when they are imported: no start-up messages of TensorFlow, and quick compilation by JAX.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.setdefault("XLA_FLAGS", QUICK_COMPILATION)

import hypothesis
import keras
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Background jobs of a shell ignore SIGINT, and the processes that tests start and interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so that no change of others fails by chance; HYPOTHESIS_PROFILE=long draws new ones.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
# Keras collects garbage for every layer that it quantizes; without the objects of the libraries that takes no time.
gc.freeze()

# Libraries of the extra `test` without which the extra `dev` and `make test` do.
ONLY_IN_TEST = ("jax", "mlserver", "nncf", "openvino", "timm", "torch")
# Files and tests that get the marker `slow`, longest first: that is also the order in which they start.
SLOW = ()


def pytest_collection_modifyitems(items):
    for item in items:
        if _rank(item) < len(SLOW):
            item.add_marker("slow")
    items.sort(key=_rank)


def _rank(item):
    """Place in the list of slow tests; its length for all others."""
    name = f"{item.path.relative_to(Path(__file__).parent)}::{item.name}"
    return next((rank for rank, prefix in enumerate(SLOW) if name.startswith(prefix)), len(SLOW))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _skipped_without_library())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _skipped_without_library())


def _skipped_without_library():
    """Skips what needs a library that the extra `test` installs and `dev` does not."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ONLY_IN_TEST or library in sys.modules or importlib.util.find_spec(library):
            raise
        pytest.skip(str(error))


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
