"""The model's numbers in every precision, compiled and exported, against NumPy in float64 and the stored gradients.

Errors are relative, and counted in units of roundoff of the type that the model computes in: the most that a single
rounding adds. From the images to the logits the tokens are rounded some thirty times. Such errors have random signs, so
together they are about the square root of thirty units, in every type. Much more than that is not rounding.
"""

import functools

import numpy as np
import pytest
from keras import ops

import keras_crossvit as kc
from keras_crossvit.checkpoints.tensors import to_timm_layout
from tests.helpers import reference, tiny
from tests.helpers.backends import call, gradient_function
from tests.helpers.exports import write_export
from tests.helpers.numpy_crossvit import NumpyCrossViT
from tests.helpers.processes import run_python

NAME = "tiny_square"
ROUNDOFF = {"float32": 2**-24, "mixed_bfloat16": 2**-9, "mixed_float16": 2**-12}
LOGITS = 10  # of their rms; 2.7 to 4.9 in all types, eager, as a graph, by XLA and in files
# What an epsilon of 1e-5 in LayerNorm changes is 250 units of float32, and what tanh in GELU changes is 3,249.
# Rounding of the tokens passes backward through the same layers, with cancellation over tokens and images.
WORST_GRADIENT, MEDIAN_GRADIENT = 160, 25  # of the norm of each tensor's gradient; up to 84, and 8 to 12
KEY_BIAS = 1  # absolute: the exact gradient is zero (tests/models/test_reference.py); up to 0.3
STORED = 40  # sums of PyTorch's; 4 to 9, and 18 where a patch is one sum of 768 products (tiny_single_conv)


@functools.cache
def expected(name=NAME, kind=NumpyCrossViT):
    return kind(reference.draw_weights(name), reference.tiny_config(name)).logits(reference.draw_images(name))


def units(logits, roundoff, wanted=None):
    wanted = expected() if wanted is None else wanted
    return np.sqrt(np.mean((np.asarray(logits, "float64") - wanted) ** 2) / np.mean(wanted**2)) / roundoff


@functools.cache
def model(policy="float32"):
    return tiny.fresh_model(NAME, weights=tiny.reference_weights(NAME), dtype=policy)


@pytest.mark.parametrize("name", [name for name in reference.TINY if reference.tiny_pool(name) == "token"])
def test_numpy_equals_the_stored_logits(name):
    assert units(reference.arrays()[f"{name}/logits_two_images"], ROUNDOFF["float32"], expected(name)) < STORED


class OtherEpsilon(NumpyCrossViT):
    epsilon = 1e-5


class TanhGelu(NumpyCrossViT):
    def gelu(self, x):
        return x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2


class InterleavedHeads(NumpyCrossViT):
    def split(self, tokens, heads):
        return np.moveaxis(tokens.reshape(*tokens.shape[:2], -1, heads), -1, 2)


@pytest.mark.parametrize("kind", [OtherEpsilon, TanhGelu, InterleavedHeads])
def test_a_small_mistake_is_beyond_the_limit(kind):
    assert units(expected(kind=kind), ROUNDOFF["float32"]) > 10 * LOGITS


@pytest.mark.backends
@pytest.mark.parametrize("policy", ROUNDOFF)
def test_logits_are_right_to_rounding(policy):
    assert units(call(model(policy), reference.draw_images(NAME)), ROUNDOFF[policy]) < LOGITS


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])  # float32 with its gradients
def test_logits_compiled_by_xla_are_right_to_rounding(policy):
    import tensorflow as tf

    compiled = tf.function(functools.partial(model(policy), training=False), jit_compile=True)
    assert units(compiled(reference.draw_images(NAME)), ROUNDOFF[policy]) < LOGITS


@pytest.mark.parametrize("file", ["model.tflite", "model.onnx", "model.xml"])
def test_exported_logits_are_right_to_rounding(file, tmp_path):
    options = {"batch_size": 2} if file.endswith("tflite") else {}
    runtime = kc.load_runtime(write_export(model(), tmp_path / file, **options), threads=1)
    assert units(runtime.logits(*reference.draw_images(NAME)), ROUNDOFF["float32"]) < LOGITS


def _loss(logits):
    labels = np.array(reference.records()[NAME]["training"]["labels"])
    return ops.mean(ops.sparse_categorical_crossentropy(labels, logits, from_logits=True))


def _check_gradients(network, gradients, roundoff):
    """Compares norms, and products with a random direction, with those of the fixtures."""
    errors = []
    for path, gradient in gradients.items():
        name = kc.checkpoints.timm_name(path, network.config)
        gradient = to_timm_layout(np.asarray(gradient, "float64"), path.rpartition("/")[2])
        if name.endswith("attn.wk.bias"):
            assert np.linalg.norm(gradient) < KEY_BIAS * roundoff, name
            continue
        norm, probe = reference.records()[NAME]["training"]["gradient_norm_and_probe"][name]
        product = np.sum(gradient * reference.direction(name, gradient.shape))
        errors.append(max(abs(np.linalg.norm(gradient) - norm), abs(product - probe)) / norm / roundoff)
    assert np.median(errors) < MEDIAN_GRADIENT
    assert max(errors) < WORST_GRADIENT


@pytest.mark.backends
@pytest.mark.parametrize("policy", ROUNDOFF)
def test_gradients_are_right_to_rounding(policy):
    network = model(policy)
    _, gradients = gradient_function(network, reference.draw_images(NAME), _loss, training=True)()
    _check_gradients(network, gradients, ROUNDOFF[policy])


def test_logits_and_gradients_compiled_by_xla_are_right_to_rounding():
    import tensorflow as tf

    network = model()
    weights = network.trainable_variables

    @functools.partial(tf.function, jit_compile=True)
    def compute(*images):
        with tf.GradientTape() as tape:
            logits = network(list(images), training=True)
            loss = _loss(logits)
        return logits, tape.gradient(loss, [each.value for each in weights])

    logits, gradients = compute(*reference.draw_images(NAME))
    assert units(logits, ROUNDOFF["float32"]) < LOGITS
    _check_gradients(network, {each.path: array for each, array in zip(weights, gradients, strict=True)}, 2**-24)


def test_two_processes_train_to_the_same_bits(tmp_path):
    """With TensorFlow's deterministic operations, which also refuse any that has no such form."""
    program = """
import sys, numpy as np, tensorflow as tf
tf.config.experimental.enable_op_determinism()
from tests.helpers import training
model = training.compiled_model(crossvit=True)
model.fit(training.batches(0, 0).take(2), verbose=0)
np.savez(sys.argv[1], *[np.asarray(each) for each in (*model.variables, *model.optimizer.variables)])
"""
    for seed in ("1", "2"):
        run_python("-c", program, tmp_path / f"{seed}.npz", PYTHONHASHSEED=seed, TF_CPP_MIN_LOG_LEVEL="3")
    one, other = (dict(np.load(tmp_path / f"{seed}.npz")) for seed in ("1", "2"))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])
