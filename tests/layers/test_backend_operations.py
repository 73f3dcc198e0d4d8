"""The forms of operations that JAX gets, against the plain ones."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_crossvit import layers
from keras_crossvit._internal.flash_attention import has_flash_attention
from keras_crossvit.layers import _backend_operations, attention
from keras_crossvit.layers._factories import convolution, layer_norm

pytestmark = pytest.mark.backends
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="a form for JAX")


def _random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize(("kernel_size", "stride", "padding"), [(7, 4, 3), (4, 4, 0), (3, 2, 1), (3, 1, 1)])
def test_convolution_of_pixels_is_the_layers_own(kernel_size, stride, padding):
    layer = convolution("stem", 8, "float32", kernel_size=kernel_size, strides=stride)
    images = _random(2, 16, 24, 3)
    padded = np.pad(images, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    layer.build(padded.shape)
    layer.bias.assign(_random(8, seed=1))
    convolved = _backend_operations.convolve_pixels(layer, ops.convert_to_tensor(images), padding)
    np.testing.assert_allclose(ops.convert_to_numpy(convolved), ops.convert_to_numpy(layer(padded)), rtol=0, atol=1e-5)


def test_another_class_token_leaves_the_others():
    tokens, class_token = _random(2, 5, 3), _random(2, 1, 3, seed=1)
    replaced = ops.convert_to_numpy(_backend_operations.replace_class_token(ops.convert_to_tensor(tokens), class_token))
    np.testing.assert_array_equal(replaced, np.concatenate([class_token, tokens[:, 1:]], axis=1))


@pytest.mark.parametrize("offset", [0, 30])
def test_layer_norm_of_half_precision_rounds_only_its_result(offset):
    layer = layer_norm("norm", "mixed_bfloat16")
    tokens = ops.cast(_random(3, 50, 64) + offset, "bfloat16")
    layer.build(tokens.shape)
    layer.gamma.assign(_random(64, seed=1))
    layer.beta.assign(_random(64, seed=2))
    exact = ops.convert_to_numpy(ops.cast(tokens, "float32")).astype("float64")
    exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-6)
    exact = exact * _random(64, seed=1) + _random(64, seed=2)
    normalized = ops.convert_to_numpy(ops.cast(layer(tokens), "float32"))
    np.testing.assert_allclose(normalized, exact, rtol=2**-8, atol=2e-3)  # bfloat16 has 8 bits


@on_jax
@pytest.mark.parametrize("num_tokens", [8, 9])
def test_flash_attention_is_attention(num_tokens, monkeypatch):
    """The calls to cuDNN's attention, with what XLA computes for them on a CPU."""
    import jax

    layer = layers.Attention(16, 2)
    tokens = _random(3, num_tokens, 16)
    plain = ops.convert_to_numpy(layer(tokens))

    def loss(tokens):
        return ops.sum(ops.square(layer(tokens, training=True)))

    gradient = jax.grad(loss)(tokens)
    calls = []

    def without_cudnn(*args, implementation, **kwargs):
        calls.append(implementation)
        return original(*args, **kwargs)

    original = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", without_cudnn)
    monkeypatch.setattr(attention, "has_flash_attention", lambda dtype, head_dim: True)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(tokens)), plain, rtol=0, atol=1e-6)
    np.testing.assert_allclose(jax.grad(loss)(tokens), gradient, rtol=0, atol=1e-5)
    assert calls == ["cudnn", "cudnn"]


@on_jax
@pytest.mark.parametrize(
    ("capability", "dtype", "head_dim", "available"),
    [
        ("9.0", "bfloat16", 32, True),
        ("8.0", "float16", 64, True),
        ("7.5", "bfloat16", 32, False),
        ("gfx90a", "bfloat16", 32, False),
        ("9.0", "float32", 32, False),
        ("9.0", "bfloat16", 36, False),
        ("9.0", "bfloat16", 256, False),
    ],
)
def test_flash_attention_needs_a_gpu_that_has_it(capability, dtype, head_dim, available, monkeypatch):
    import jax

    assert not has_flash_attention(dtype, head_dim)  # on a CPU
    monkeypatch.setattr(jax, "local_devices", lambda: [types.SimpleNamespace(compute_capability=capability)])
    assert has_flash_attention(dtype, head_dim) is available
