"""Every precision that no other test writes, and fixed batch sizes: each file is run by its runtime."""

import importlib

import pytest

import keras_crossvit as kc
from keras_crossvit.export.formats import FORMATS
from keras_crossvit.export.report import relative_rms
from keras_crossvit.export.tracing import in_float32
from keras_crossvit.metadata import metadata_of
from tests.helpers.backends import call
from tests.helpers.exports import FILES, confident_model
from tests.helpers.models import images


@pytest.fixture(scope="module")
def model():
    return confident_model()


def written(model, folder, name, **options):
    path = folder / FILES[name][0]
    importlib.import_module(f"keras_crossvit.export.{name}").write(
        in_float32(model), path, metadata_of(model), **options
    )
    return path


@pytest.mark.parametrize(
    ("name", "quantize", "share"),
    [
        ("litert", "float16", None),  # the graph is most of so small a file
        ("openvino", "float16", 0.55),
        ("openvino", "bfloat16", 0.55),
        ("openvino", "int8-weights", 0.4),
    ],
)
def test_weights_are_rounded_as_far_as_the_format_allows(name, quantize, share, model, tmp_path):
    path = written(model, tmp_path, name, quantize=quantize, batch_size=None)
    inputs = images(model, batch=3)
    error = relative_rms(kc.load_runtime(path, threads=1).logits(*inputs), call(model, inputs))
    assert 1e-5 < error <= FORMATS[name].tolerances[quantize]
    if share is not None:
        assert path.with_suffix(".bin").stat().st_size < share * 4 * model.count_params()


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_fixed_batch_size_takes_any_number_of_pictures_all_the_same(name, model, tmp_path):
    runtime = kc.load_runtime(written(model, tmp_path, name, quantize=None, batch_size=2), threads=1)
    assert runtime.batch_size == 2
    inputs = images(model, batch=3)
    assert relative_rms(runtime.logits(*inputs), call(model, inputs)) < FORMATS[name].tolerances[None]
