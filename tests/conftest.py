import gc
import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

from tests.helpers.processes import PROJECT, compiled_once
from tests.helpers.shared import made_once

gc.disable()  # until all files are imported
# Keras and TensorFlow are not imported here: the process that only distributes tests needs none of them.
# Libraries read these when they are imported: no start-up messages of TensorFlow, and one thread for each worker.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
# OpenVINO would send usage data, from a copy of the process for each message.
os.environ.setdefault("CI", "true")
if os.environ.get("KERAS_BACKEND") == "jax" and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="compiled-by-jax-")  # for all workers and the processes they start
    os.environ.update(compiled_once(compiled.name))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Background jobs of a shell ignore SIGINT, and the processes that tests start and interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so that no change of others fails by chance; HYPOTHESIS_PROFILE=long draws new ones.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
# Libraries of the extra `test` without which the extra `dev` and `make test` do.
ONLY_IN_TEST = ("jax", "mlserver", "nncf", "openvino", "timm", "torch")
# Files and tests that get the marker `slow`, longest first; early also those that wait, while other backends compute.
SLOW = (
    "quickstart/",
    "test_documents.py::test_code_blocks_run",
    "test_notebook.py",
    "serving/",
    "demo/",
    "training/test_distributed.py",
    "models/test_published.py",
    "benchmarks/test_benchmark.py",
    "training/test_run.py",
    "exporting/test_exporter.py",
    "exporting/test_litert.py",
    "exporting/test_explanation.py",
    "exporting/test_image_input.py",
    "runtimes/test_loading.py",
    "runtimes/test_classification.py::test_files",
    "training/test_distillation.py",
    "training/test_probe.py",
    "exporting/test_fresh_process.py",
    "exporting/test_saved_model.py",
    "models/test_unknown_shapes.py",
    "preprocessing/test_preprocess_feeds.py",
    "internal/test_keras_compat.py",
    "explaining/test_explain.py",
    "explaining/test_ablation.py::test_a_quantized_model",
    "explaining/test_ablation.py::test_the_heat",
    "publishing/",
    "exporting/test_full_disk.py",
    "checkpoints/test_tensors.py",
    "deploy/",
    "comparing/test_compare.py",
    "checkpoints/test_torch_files.py",
    "internal/test_optimizers.py",
    "training/test_finetuning.py",
    "checkpoints/test_keras_files.py",
    "checkpoints/test_hub.py",
    "models/test_quantization.py",
    "exporting/test_serving_files.py",
    "training/test_resume.py::test_a_crossvit_killed",
    "training/test_multi_label.py",
    "cli/test_environment.py",
    "cli/test_convert.py",
    "models/test_saved_files.py",
    "exporting/test_signatures.py",
    "exporting/test_tool_metadata.py::test_file_for",
    "cli/test_evaluate.py::test_a_run_is_evaluated",
    "cli/test_main.py::test_summary_takes",
    "training/test_optimization.py::test_sgd",
    "cli/test_evaluate.py::test_checkpoint_and_export_have",
    "cli/test_evaluate.py::test_one_class",
    "cli/test_evaluate.py::test_wordnet",
    "checkpoints/test_reading.py::test_damaged",
    "models/test_builders.py::test_fit_trains",
    "training/test_resume.py::test_sequential_data",
    "training/test_failures.py::test_memory_that_is_not_there_is_one_line_with_remedies[with_tensorflow",
    "training/test_resume.py::test_an_interrupt_while",
    "internal/test_native_output.py",
    "models/test_gradient_checkpointing.py",
    "models/test_numerics.py::test_logits_and_gradients_compiled",
    "models/test_numerics.py::test_logits_compiled",
    "models/test_numerics.py::test_exported",
    "models/test_numerics.py::test_two_processes",
    "models/test_parity.py",
    "models/test_builders.py::test_a_compiled_model_is_only_traced",
    "models/test_fresh_process.py",
    "models/test_reference.py::test_gradients_and_losses_equal_the_reference[crossvit_9",
    "pipeline/test_batches.py::test_batches_are_the_same_in_another",
    "internal/test_malloc.py",
    "test_documents.py::test_site",
    "test_packaging.py::test_sdist",
    "test_packaging.py::test_two_builds",
    "test_packaging.py::test_wheel",
    "test_packaging.py::test_no_extra",
)
# Tests start in the order of that list and then of this one, so that a worker is not left with a long file at the end.
ORDER = (*SLOW, "models/", "explaining/", "exporting/", "checkpoints/", "training/", "layers/", "cli/")


def pytest_ignore_collect(collection_path, config):
    """Passes over files without any of the tests that `make check` asks for; each worker would import them."""
    wanted, name = config.option.markexpr, str(collection_path.relative_to(Path(__file__).parent))
    if collection_path.suffix == ".py" and wanted == "slow":
        return not name.startswith(tuple(prefix.partition("::")[0] for prefix in SLOW)) or None
    if collection_path.suffix == ".py" and wanted == "backends":
        return "mark.backends" not in collection_path.read_text() or None
    return None


def pytest_collection_finish():
    """Objects of what was imported, which are millions, are never searched for garbage; those of tests, seldom."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 50)
    gc.enable()


def pytest_collection_modifyitems(items):
    for item in items:
        if _rank(item) < len(SLOW):
            item.add_marker("slow")
    items.sort(key=_rank)


def _rank(item):
    """Place in the order of tests; the length of that list for all others."""
    name = f"{item.path.relative_to(Path(__file__).parent)}::{item.name}"
    return next((rank for rank, prefix in enumerate(ORDER) if name.startswith(prefix)), len(ORDER))


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


@pytest.fixture(autouse=True, scope="session")
def _path_of_processes():
    """Processes that tests start find the project, and import less; those that distribute tests do not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{PROJECT}/tests/helpers/lean", prepend=os.pathsep)
        yield


@pytest.fixture(autouse=True, scope="module")
def _quick_garbage_collection():
    """Keras collects garbage for every layer that it quantizes; what earlier files have left is passed over."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _isolated_global_state():
    """Every test starts with the same seed; the dtype policy is restored."""
    import keras

    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="session")
def letters(tmp_path_factory):
    """A tiny model of five letters and the result of exporting it as a SavedModel, which all workers share."""
    from keras_crossvit.exporting import export
    from tests.helpers.exports import confident_model
    from tests.helpers.models import DEEPER

    model = confident_model(class_names=list("abcde"), **DEEPER)
    return model, made_once(
        tmp_path_factory, "letters", lambda folder: export(model, folder / "letters", format="saved_model")
    )


@pytest.fixture(scope="session")
def letters_litert(tmp_path_factory):
    """A LiteRT file of `confident_model()` for any batch size, which all workers share; it needs no TensorFlow."""
    from tests.helpers.exports import confident_model, write_export

    return made_once(
        tmp_path_factory,
        "letters-litert",
        lambda folder: write_export(confident_model(), folder / "letters.tflite", batch_size="dynamic"),
    )
