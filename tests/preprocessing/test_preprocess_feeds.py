"""Keras and tf.data take the result of `preprocess` as it is."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from tests.helpers.models import tiny

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 40, 60, 3), dtype="uint8")
LABELS = np.arange(6) % 3
IMAGE = tf.TensorSpec((None, None, None, 3))


def compiled(model, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False, **options)
    return model


@pytest.fixture(scope="module")
def model():
    return compiled(tiny(num_classes=3))


@pytest.fixture(scope="module")
def eager_model():
    """Tests of unknown shapes trace the model for such data."""
    return compiled(tiny(num_classes=3), run_eagerly=True)


class Batches(keras.utils.PyDataset):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def __len__(self):
        return 2

    def __getitem__(self, i):
        rows = slice(3 * i, 3 * i + 3)
        return kc.preprocess(IMAGES[rows], self.model), LABELS[rows]


def generator(model):
    batches = Batches(model)
    yield from (batches[i] for i in range(len(batches)))


def dataset_of_generator(model):
    signature = ((IMAGE, IMAGE), tf.TensorSpec((None,), "int64"))
    return tf.data.Dataset.from_generator(lambda: generator(model), output_signature=signature)


def dataset_of_slices(model):
    return tf.data.Dataset.from_tensor_slices((kc.preprocess(IMAGES, model), LABELS)).batch(3)


def dataset_of_calls(model):
    def load(rows):
        inputs = tf.numpy_function(lambda i: kc.preprocess(IMAGES[i], model), [rows], [tf.float32, tf.float32])
        return tuple(tf.ensure_shape(each, IMAGE.shape) for each in inputs), tf.gather(LABELS, rows)

    return tf.data.Dataset.range(6).batch(3).map(load)


def dataset_of_layer(model):
    preprocessing = kc.layers.Preprocessing(model)
    images = IMAGES.astype("float32")  # as image_dataset_from_directory reads them
    dataset = tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(3)
    return dataset.map(lambda images, labels: (preprocessing(images), labels))


FORMS = [Batches, generator, dataset_of_generator, dataset_of_slices, dataset_of_calls, dataset_of_layer]


@pytest.mark.parametrize("data", FORMS)
def test_keras_accepts_it_in_every_form(eager_model, data):
    model = eager_model
    expected = model.predict(kc.preprocess(IMAGES, model), verbose=0)
    predicted = model.predict(data(model), verbose=0)
    # Sums are rounded differently in other batches, and floats not to whole levels before they are normalized.
    atol = 0.01 * np.abs(expected).max() if data is dataset_of_layer else 1e-5
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=atol)
    model.fit(data(model), validation_data=data(model), verbose=0)  # which evaluates, too


def test_every_method_of_a_model_accepts_it_without_a_warning(model):
    inputs = kc.preprocess(IMAGES, model)
    assert isinstance(inputs, tuple)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(inputs, LABELS, validation_split=0.5, verbose=0)
        model.fit(inputs, LABELS, validation_data=(inputs, LABELS), verbose=0)
        model.evaluate(inputs, LABELS, verbose=0)
        model.train_on_batch(inputs, LABELS)
        model.test_on_batch(inputs, LABELS)
        expected = model.predict_on_batch(inputs)
        for outputs in (model.predict(inputs, verbose=0), model(inputs), tf.function(model)(inputs)):
            np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)
        kc.feature_extractor(model)(inputs)
    np.testing.assert_allclose(model(list(inputs)), expected, rtol=0, atol=1e-5)


def test_runtimes_accept_it(model, tmp_path):
    model.save(tmp_path / "model.keras")
    inputs = kc.preprocess(IMAGES, model)
    logits = kc.load_runtime(tmp_path / "model.keras").logits(*inputs)
    np.testing.assert_allclose(logits, model(inputs), rtol=0, atol=1e-5)


def test_exported_preprocessing_returns_a_tuple_too(model):
    from keras_crossvit.exporting.graph_preprocessing import model_inputs, resize_and_crop

    dataset = tf.data.Dataset.from_tensor_slices(IMAGES).batch(3)
    dataset = dataset.map(lambda images: model_inputs(resize_and_crop(images, model.config), model.config))
    assert [each.shape for each in dataset.element_spec] == [(None, 48, 48, 3), (None, 32, 32, 3)]


def test_tensors_of_a_graph_are_refused(model):
    images = tf.data.Dataset.from_tensor_slices(IMAGES).batch(3)
    with pytest.raises(
        Exception, match=r"InvalidTypeError: preprocess.*layers\.Preprocessing"
    ):  # wrapped by TensorFlow
        images.map(lambda batch: kc.preprocess(batch, model))
