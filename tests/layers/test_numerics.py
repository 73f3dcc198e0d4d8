"""Layers against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_crossvit import layers

# float32 has seven digits, and with standard normal weights the values are some dozens.
ROUNDING = 1e-4


def _softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _dense(layer, tokens):
    bias = 0 if layer.bias is None else ops.convert_to_numpy(layer.bias)
    return tokens @ ops.convert_to_numpy(layer.kernel) + bias


def _attend(query, key, value, *, heads, scale):
    def split(tokens):
        return tokens.reshape(*tokens.shape[:2], heads, -1).swapaxes(1, 2)

    query, key, value = map(split, (query, key, value))
    attended = _softmax(scale * query @ key.swapaxes(2, 3)) @ value
    return attended.swapaxes(1, 2).reshape(attended.shape[0], attended.shape[2], -1)


def _randomize(layer):
    random = np.random.default_rng(5)
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])


def _tokens(*shape):
    return np.random.default_rng(9).normal(size=shape).astype("float32")


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("qk_scale", [None, 0.7])
@pytest.mark.parametrize("cls_query_only", [True, False])
def test_attention_equals_numpy(cls_query_only, qk_scale, qkv_bias):
    layer = layers.Attention(12, 3, cls_query_only=cls_query_only, qk_scale=qk_scale, qkv_bias=qkv_bias)
    tokens = _tokens(2, 5, 12)
    layer.build(tokens.shape)
    _randomize(layer)
    if cls_query_only:
        projected = _dense(layer.query, tokens[:, :1]), _dense(layer.key, tokens), _dense(layer.value, tokens)
    else:
        projected = np.split(_dense(layer.qkv, tokens), 3, axis=-1)
    scale = 4**-0.5 if qk_scale is None else qk_scale
    expected = _dense(layer.projection, _attend(*projected, heads=3, scale=scale))
    np.testing.assert_allclose(ops.convert_to_numpy(layer(tokens)), expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("name", ["key", "value"])
def test_one_quantized_kernel_is_not_used_as_a_plain_matrix(name):
    layer = layers.Attention(12, 3, cls_query_only=True)
    tokens = _tokens(2, 5, 12)
    layer.build(tokens.shape)
    _randomize(layer)
    expected = ops.convert_to_numpy(layer(tokens))
    getattr(layer, name).quantize("int8")
    error = ops.convert_to_numpy(layer(tokens)) - expected
    assert np.sqrt(np.mean(error**2) / np.mean(expected**2)) < 0.1  # 127 steps, amplified by a softmax


def test_dropped_attention_weights_also_drop_the_value_bias():
    layer = layers.Attention(4, 1, cls_query_only=True, attn_drop_rate=0.5)
    tokens = np.zeros((64, 2, 4), "float32")
    layer.build(tokens.shape)
    layer.projection.kernel.assign(np.eye(4))
    layer.value.bias.assign(np.ones(4))
    outputs = ops.convert_to_numpy(layer(tokens, training=True))[:, 0, 0]
    # Two weights of 0.5, each dropped or doubled: their sum, and what the bias adds, is 0, 1 or 2.
    assert set(np.round(outputs, 6)) == {0.0, 1.0, 2.0}


def test_patch_tokens_pass_through_fusion():
    layer = layers.CrossAttentionFusion(12, 8, 2)
    own, partner = _tokens(2, 5, 12), _tokens(2, 4, 8)
    fused = ops.convert_to_numpy(layer([own, partner]))
    np.testing.assert_array_equal(fused[:, 1:], own[:, 1:])
    assert np.abs(fused[:, 0] - own[:, 0]).min() > 0


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_class_token_attends_to_the_patch_tokens_in_every_round(rounds):
    layer = layers.CrossAttentionFusion(6, 8, 2, rounds=rounds)
    own, partner = _tokens(2, 5, 6), _tokens(2, 4, 8)
    layer.build([own.shape, partner.shape])
    _randomize(layer)

    def norm(layer_norm, tokens):
        centered = tokens - tokens.mean(axis=-1, keepdims=True)
        normed = centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-6)
        return normed * ops.convert_to_numpy(layer_norm.gamma) + ops.convert_to_numpy(layer_norm.beta)

    def gelu(tokens):
        return ops.convert_to_numpy(ops.gelu(tokens, approximate=False))

    class_token = _dense(layer.to_partner, gelu(norm(layer.own_norm, own[:, :1])))
    for attention_norm, attention in zip(layer.attention_norms, layer.attentions, strict=True):
        tokens = norm(attention_norm, np.concatenate([class_token, partner[:, 1:]], axis=1))
        projected = (
            _dense(attention.query, tokens[:, :1]),
            _dense(attention.key, tokens),
            _dense(attention.value, tokens),
        )
        class_token = class_token + _dense(attention.projection, _attend(*projected, heads=2, scale=0.5))
    expected = _dense(layer.to_own, gelu(norm(layer.partner_norm, class_token)))
    fused = ops.convert_to_numpy(layer([own, partner]))
    np.testing.assert_allclose(fused[:, :1], expected, rtol=ROUNDING, atol=ROUNDING)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    inputs = np.ones((2000, 3, 4), "float32")
    outputs = ops.convert_to_numpy(layers.DropPath(0.25, seed=1)(inputs, training=True))
    for sample in outputs:
        assert len(np.unique(sample)) == 1
    values, counts = np.unique(outputs[:, 0, 0], return_counts=True)
    assert values == pytest.approx([0, 1 / 0.75])
    assert counts[0] / 2000 == pytest.approx(0.25, abs=0.06)  # six standard deviations of 2000 draws


def test_drop_path_is_deterministic_with_a_seed():
    inputs = np.ones((64, 1), "float32")
    first, second = layers.DropPath(0.5, seed=1), layers.DropPath(0.5, seed=1)
    draws = [ops.convert_to_numpy(layer(inputs, training=True)) for layer in (first, second, first)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_resizing_to_the_same_size_changes_nothing():
    image = _tokens(1, 6, 7, 3)
    np.testing.assert_array_equal(ops.convert_to_numpy(layers.BicubicResize(6, 7)(image)), image)


def test_single_convolution_is_a_dense_layer_on_each_patch():
    layer = layers.PatchEmbedding(5, 4)
    image = _tokens(2, 8, 12, 3)
    layer.build(image.shape)
    patches = image.reshape(2, 2, 4, 3, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 48)
    kernel = ops.convert_to_numpy(layer.convolutions[0].kernel).reshape(48, 5)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(image)), patches @ kernel, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0), ("mixed_float16", 0), ("float64", 1e-12)])
def test_gelu_is_rounded_once_in_training(policy, tolerance):
    layer = layers.MLP(16, 16, dtype=policy)
    layer.build((None, 9, 16))
    layer.set_weights([np.eye(16), np.zeros(16)] * 2)
    tokens = ops.cast(_tokens(2, 9, 16), layer.compute_dtype)
    wanted = ops.cast(ops.gelu(ops.cast(tokens, "float64"), approximate=False), layer.compute_dtype)
    trained = layer(tokens, training=True)
    assert keras.backend.standardize_dtype(trained.dtype) == layer.compute_dtype
    trained, wanted = (ops.convert_to_numpy(each).astype("float64") for each in (trained, wanted))
    np.testing.assert_allclose(trained, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Attention(10, 3), "embed_dim 10"),
        (lambda: layers.DropPath(1.0), "drop path rate 1"),
        (lambda: layers.MLP(8, 0), "hidden_dim 0"),
        (lambda: layers.PatchEmbedding(8, 12, stem_strides=(4, 2, 2)), "patch_size 12"),
        (lambda: layers.PatchEmbedding(6, 12, stem_strides=(4, 3, 1)), "embed_dim 6"),
        (lambda: layers.PatchEmbedding(8, 5)(keras.Input((12, 10, 3))), "image side 12"),
        (lambda: layers.CrossAttentionFusion(8, 8, 2, rounds=0), "rounds 0"),
        (lambda: layers.BicubicResize(0, 5), "height 0"),
        (lambda: layers.TransformerBlock(8, 2, mlp_ratio=-1), "mlp_ratio -1"),
    ],
)
def test_invalid_layers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
