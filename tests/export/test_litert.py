"""The quantized LiteRT file of the model that phones and browsers get."""

import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.export import litert
from keras_crossvit.export.sample_pictures import comparison_pictures
from keras_crossvit.export.tracing import in_float32
from keras_crossvit.metadata import metadata_of
from tests.helpers import reference
from tests.helpers.backends import call


@pytest.fixture(scope="module")
def model():
    weights = reference.draw_weights("crossvit_9_dagger_240")
    return kc.crossvit_9_dagger(weights={name: np.asarray(array, "float32") for name, array in weights.items()})


def test_dynamic_int8_is_a_quarter_of_the_size_and_nearly_the_same_on_photographs(model, tmp_path):
    path = tmp_path / "model.tflite"
    litert.write(in_float32(model), path, metadata_of(model), quantize="dynamic-int8", batch_size=1)
    assert path.stat().st_size < 9.9e6  # 8.8 million parameters, scales and the graph
    pictures, described = comparison_pictures(None, channels=3)
    assert described == "parts of two photographs"
    inputs = kc.preprocess(pictures[::7], model)  # the whole ones
    logits, expected = kc.load_runtime(path).logits(*inputs), call(model, inputs)
    error = np.sqrt(np.mean((logits - expected) ** 2) / np.mean(expected**2))
    # Rounding a kernel to 8 bits moves a product by 0.7 %: the largest of 256 drawn weights, 2.9 deviations, is cut
    # into 127 steps. Some twenty products follow each other, and the errors add up as independent ones do.
    assert 0.005 < error < 0.007 * np.sqrt(20)
