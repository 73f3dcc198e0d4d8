"""Attention weights of every block and fusion."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_crossvit as kc
from tests.helpers.models import images, tiny

pytestmark = pytest.mark.backends


def arrays(outputs):
    return {name: ops.convert_to_numpy(each).astype("float64") for name, each in outputs.items()}


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def normalized(layer, tokens):
    tokens = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + layer.epsilon)
    return tokens * ops.convert_to_numpy(layer.gamma) + ops.convert_to_numpy(layer.beta)


def projected(layer, tokens):
    return tokens @ ops.convert_to_numpy(layer.kernel) + ops.convert_to_numpy(layer.bias)


def by_head(tokens, heads):
    return tokens.reshape(*tokens.shape[:2], heads, -1).transpose(0, 2, 1, 3)


@pytest.fixture(scope="module")
def model():
    model = tiny(depth=((1, 2, 0), (1, 1, 2)))
    for weight in model.weights:  # initial ones give almost equal attention
        weight.assign(np.random.default_rng(len(weight.path)).normal(0, 0.3, weight.shape))
    return model


def test_every_block_and_fusion_has_weights_that_sum_to_one(model):
    maps = arrays(kc.attention_maps(model)(images(model)))
    blocks = {(branch, stage, i) for stage in (0, 1) for branch in ("small", "large") for i in range(1)}
    blocks |= {("large", 0, 1)}
    names = {f"stage_{stage}_{branch}_patch_block_{i}" for branch, stage, i in blocks}
    assert set(maps) == names | {f"stage_{s}_{branch}_patch_fusion" for s in (0, 1) for branch in ("small", "large")}
    assert maps["stage_0_large_patch_block_1"].shape == (2, 3, 5, 5)
    assert maps["stage_0_small_patch_fusion"].shape == (2, 3, 1, 5)
    for weights in maps.values():
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-6)
        assert weights.std() > 1e-3


def test_weights_are_those_of_the_equations(model):
    given = images(model)
    maps = arrays(kc.attention_maps(model)(given))
    features = {}
    for layer in ("stage_0_small_patch_block_0", "stage_0_large_patch_block_1", "large_patch_tokens"):
        features[layer] = keras.Model(model.inputs, model.get_layer(layer).output)(given)
    tokens = arrays(features)

    block = model.get_layer("stage_0_large_patch_block_0")
    qkv = projected(block.attention.qkv, normalized(block.attention_norm, tokens["large_patch_tokens"]))
    query, key, _ = (by_head(each, 3) for each in np.split(qkv, 3, axis=-1))
    expected = softmax(query @ key.transpose(0, 1, 3, 2) * 8**-0.5)
    np.testing.assert_allclose(maps["stage_0_large_patch_block_0"], expected, rtol=0, atol=1e-5)

    fusion = model.get_layer("stage_0_small_patch_fusion")
    class_token = normalized(fusion.own_norm, tokens["stage_0_small_patch_block_0"][:, :1])
    class_token = projected(fusion.to_partner, ops.convert_to_numpy(ops.gelu(class_token, approximate=False)))
    partner = tokens["stage_0_large_patch_block_1"]
    joined = normalized(fusion.attention_norms[0], np.concatenate([class_token, partner[:, 1:]], axis=1))
    [attention] = fusion.attentions
    query, key = by_head(projected(attention.query, joined[:, :1]), 3), by_head(projected(attention.key, joined), 3)
    expected = softmax(query @ key.transpose(0, 1, 3, 2) * 8**-0.5)
    np.testing.assert_allclose(maps["stage_0_small_patch_fusion"], expected, rtol=0, atol=1e-5)


def test_weights_are_shared_and_the_model_is_unchanged():
    model = tiny()
    given = images(model)
    outputs = ops.convert_to_numpy(model(given))
    maps = kc.attention_maps(model)
    before = arrays(maps(given))["stage_0_small_patch_block_0"]
    np.testing.assert_array_equal(ops.convert_to_numpy(model(given)), outputs)
    kernel = model.get_layer("stage_0_small_patch_block_0").attention.qkv.kernel
    kernel.assign(50 * ops.convert_to_numpy(kernel))
    assert np.abs(arrays(maps(given))["stage_0_small_patch_block_0"] - before).max() > 0.01


def test_a_model_of_one_image_gives_the_same(model):
    single = kc.single_image(model)
    image = images(model)[0]
    large = ops.convert_to_numpy(single.get_layer("large_patch_image")(image))
    expected = arrays(kc.attention_maps(model)([image, large]))
    for name, weights in arrays(kc.attention_maps(single)(image)).items():
        np.testing.assert_allclose(weights, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", ["lora", "int8", "loaded"])
def test_changed_models_have_maps_too(change, tmp_path):
    model = tiny()
    if change == "lora":
        model.get_layer("stage_0_small_patch_block_0").attention.qkv.enable_lora(2)
    elif change == "int8":
        model.quantize("int8")
    else:
        model.save(tmp_path / "model.keras")
        model = kc.load_model(tmp_path / "model.keras")
    for weights in arrays(kc.attention_maps(model)(images(model))).values():
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_layers_return_scores_as_those_of_keras_do(training):
    inputs = keras.Input((5, 16))
    block = kc.layers.TransformerBlock(16, 2, drop_path_rate=0.5)
    tokens, scores = block(inputs, training=training, return_attention_scores=True)
    assert (tokens.shape, scores.shape) == ((None, 5, 16), (None, 2, 5, 5))
    given = np.random.default_rng(0).normal(size=(3, 5, 16)).astype("float32")
    found = keras.Model(inputs, [tokens, scores])(given)
    assert [tuple(each.shape) for each in found] == [(3, 5, 16), (3, 2, 5, 5)]
    if not training:
        plain = ops.convert_to_numpy(block(given))
        np.testing.assert_allclose(ops.convert_to_numpy(found[0]), plain, rtol=0, atol=1e-6)


def test_another_model_is_refused():
    for other, kind in ((keras.Sequential([keras.layers.Dense(2)]), "Sequential"), ("model.keras", "str")):
        with pytest.raises(TypeError, match=f"Expected a CrossViT, got {kind}"):
            kc.attention_maps(other)
