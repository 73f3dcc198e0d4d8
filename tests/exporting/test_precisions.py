"""Every precision that no other test writes, and fixed batch sizes: each file is run by its runtime."""

import importlib

import pytest

import keras_crossvit as kc
from keras_crossvit.exporting.exporter import relative_rms
from keras_crossvit.exporting.formats import FORMATS
from keras_crossvit.exporting.tracing import in_float32
from keras_crossvit.runtimes.metadata import metadata_of
from tests.helpers.backends import call
from tests.helpers.exports import FILES, confident_model
from tests.helpers.models import images


@pytest.fixture(scope="module")
def model():
    return confident_model()


@pytest.mark.parametrize(
    ("name", "quantize", "batch_size", "share"),
    [
        ("litert", "float16", None, None),  # the graph is most of so small a file
        ("openvino", "float16", 2, 0.55),
        ("openvino", "bfloat16", None, 0.55),
        ("openvino", "int8-weights", None, 0.4),
        ("onnx", None, 2, None),
    ],
)
def test_file_answers_as_near_as_its_precision_allows(name, quantize, batch_size, share, model, tmp_path):
    path = tmp_path / FILES[name][0]
    writer = importlib.import_module(f"keras_crossvit.exporting.{name}_writer")
    writer.write(in_float32(model), path, metadata_of(model), quantize=quantize, batch_size=batch_size)
    runtime = kc.load_runtime(path, threads=1)
    assert runtime.batch_size == batch_size
    inputs = images(model, batch=3)  # which a batch size of 2 does not divide
    error = relative_rms(runtime.logits(*inputs), call(model, inputs))
    assert error <= FORMATS[name].tolerances[quantize]
    assert (error > 1e-5) == (quantize is not None)
    if share is not None:
        assert path.with_suffix(".bin").stat().st_size < share * 4 * model.count_params()
