"""Which tensors a checkpoint may have, and that either all weights are set or none."""

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from keras_crossvit import create_model, load_checkpoint, load_model, save_checkpoint, state_dict
from keras_crossvit.checkpoints.names import timm_spelling
from keras_crossvit.checkpoints.tensors import from_timm_layout, variables_by_timm_name
from tests.helpers import tiny
from tests.helpers.weights import assert_has_reference_weights, assert_refused, blank_model, torch_weights, written

torch = pytest.importorskip("torch")

WEIGHT = "blocks.0.blocks.1.0.mlp.fc1.weight"
LAST = list(tiny.reference_weights())[-1]
SOURCES = (None, ".safetensors", ".pth")
FILES = (".safetensors", ".pth", ".weights.h5", ".keras")
# PyTorch's names of dtypes, and those of safetensors.
NOT_FLOATS = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}


@pytest.mark.parametrize("suffix", SOURCES)
@pytest.mark.parametrize("dtype", NOT_FLOATS)
def test_weights_that_are_not_floats_are_refused_with_name_and_dtype(suffix, dtype, tmp_path):
    weights = torch_weights()
    weights[WEIGHT] = weights[WEIGHT].to(getattr(torch, dtype))
    message = assert_refused(written(weights, suffix, tmp_path))
    assert f"{WEIGHT} is {NOT_FLOATS[dtype] if suffix == '.safetensors' else dtype}" in message


@pytest.mark.parametrize(
    "value",
    [
        np.array([True, False]),
        np.array(["a", "b"]),
        np.array([None, 1.0]),
        np.ones(2, "longdouble"),
        np.ones(2, ml_dtypes.int4),
        torch.ones(2, device="meta"),
        torch.ones(2).to_sparse(),
        keras.KerasTensor((2,)),
        [[1.0], [1.0, 2.0]],
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_not_float_arrays_are_refused_with_their_name(value):
    assert "norm.0.bias" in assert_refused({**tiny.reference_weights(), "norm.0.bias": value})
    assert "5" in assert_refused({**tiny.reference_weights(), 5: value})


@pytest.mark.parametrize("suffix", SOURCES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_float_dtypes_are_converted(suffix, dtype, tmp_path):
    weights = {name: tensor.to(getattr(torch, dtype)) for name, tensor in torch_weights().items()}
    model = blank_model()
    result = load_checkpoint(model, written(weights, suffix, tmp_path))
    loaded = state_dict(model)
    for name, tensor in weights.items():
        np.testing.assert_array_equal(loaded[name], tensor.float().numpy(), err_msg=name)
    assert len(result.conversions) == 1
    assert f"from {dtype} to float32" in result.conversions[0]
    assert result.conversions[0] in str(result)


@pytest.mark.parametrize("suffix", SOURCES)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("head.1.bias", "module.head.1.bias"),
        ("cls_token_0", "cls_token.0"),
        ("module.pos_embed.1", "pos_embed_1"),
        ("_orig_mod.norm.0.bias", "module.norm.0.bias"),
    ],
)
def test_two_tensors_for_one_weight_are_refused_and_both_named(suffix, first, second, tmp_path):
    weights = torch_weights()
    value = weights.pop(timm_spelling(first))
    weights |= {first: value + 1, second: value + 2}
    message = assert_refused(written(weights, suffix, tmp_path))
    assert f"'{first}'" in message
    assert f"'{second}'" in message


@pytest.mark.parametrize("suffix", SOURCES)
def test_two_sets_of_weights_are_refused_and_both_named(suffix, tmp_path):
    weights = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in torch_weights().items()}
    message = assert_refused(written(weights, suffix, tmp_path))
    assert "student." in message
    assert "teacher." in message


@pytest.mark.parametrize("suffix", SOURCES)
@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "timm_model.",
        "backbone.",
        "net.",
        "student.",
        "model.model.",
        "module.model.",
        "model.module.",
        "model._orig_mod.",
        "encoder.0.",
        "my own.wrapper.",
    ],
)
def test_prefix_of_a_training_framework_is_removed(suffix, prefix, tmp_path):
    weights = {f"{prefix}{name}": tensor for name, tensor in torch_weights("official").items()}
    model = blank_model()
    result = load_checkpoint(model, written(weights, suffix, tmp_path))
    assert_has_reference_weights(model)
    assert result.prefix
    assert result.prefix in prefix
    assert f"'{result.prefix}'" in str(result)
    sources = set(result.source_names.values())
    assert sources == weights.keys()
    assert result.source_names["norm.0.bias"] == f"{prefix}norm.0.bias"


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_names_of_pytorch_wrappers_are_removed(wrapper):
    weights = {name.replace("blocks.0.", f"blocks.0.{wrapper}.", 1): array for name, array in torch_weights().items()}
    model = blank_model()
    assert load_checkpoint(model, weights).prefix == ""
    assert_has_reference_weights(model)


def test_plain_names_need_no_prefix_or_conversion():
    result = load_checkpoint(blank_model(), tiny.reference_weights())
    assert result.prefix == ""
    assert result.conversions == ()
    assert result.source_names == {name: name for name in tiny.reference_weights()}
    assert len(str(result).splitlines()) == 1


@pytest.mark.parametrize("suffix", SOURCES)
@pytest.mark.parametrize("unknown", ["criterion.weight", "model.criterion.weight", "loss.pos_weight", "n_updates"])
def test_unknown_tensors_are_listed_with_their_original_names(suffix, unknown, tmp_path):
    weights = {f"model.{name}": tensor for name, tensor in torch_weights().items()}
    message = assert_refused(written({**weights, unknown: torch.ones(3)}, suffix, tmp_path))
    assert f"1 left over: {unknown}" in message


def test_a_prefix_is_only_removed_if_no_name_fits():
    weights = {f"model.{name}": array for name, array in tiny.reference_weights().items()}
    weights["norm.0.bias"] = weights.pop("model.norm.0.bias")
    assert "norm.0.bias" not in assert_refused(weights).split("left over")[0]


def test_prefix_and_adaptation_combine(tmp_path):
    weights = {f"backbone.{name}": tensor.bfloat16() for name, tensor in torch_weights().items()}
    model = tiny.fresh_model(num_classes=3, img_size=((48, 72), (64, 32)))
    result = load_checkpoint(model, written(weights, ".safetensors", tmp_path), adapt=True)
    assert result.prefix == "backbone."
    assert len(result.adaptations) == 2
    np.testing.assert_array_equal(state_dict(model)["norm.0.bias"], weights["backbone.norm.0.bias"].float().numpy())


def test_load_model_removes_a_prefix(tmp_path):
    model = create_model("crossvit_9", 5, img_size=(96, 80))
    weights = {f"model.{name}": torch.tensor(array) for name, array in state_dict(model).items()}
    restored = load_model(written(weights, ".pth", tmp_path), variant="timm/crossvit_9_240.in1k")
    assert (restored.name, restored.config) == ("crossvit_9", model.config)
    np.testing.assert_equal(state_dict(restored), state_dict(model))


@pytest.mark.parametrize(
    "convert",
    [
        lambda array: torch.nn.Parameter(torch.tensor(array)),
        lambda array: torch.tensor(array).requires_grad_() * 1,
        lambda array: torch.tensor(array).bfloat16(),
        lambda array: torch.nn.Parameter(torch.tensor(array).half()),
        lambda array: torch.tensor(array).double(),
        lambda array: torch._neg_view(torch.tensor(-array)),
        tf.constant,
        tf.Variable,
        lambda array: tf.Variable(array, dtype="bfloat16"),
        keras.Variable,
        lambda array: keras.Variable(array, dtype="bfloat16"),
        keras.ops.convert_to_tensor,
        lambda array: array.astype(ml_dtypes.bfloat16),
        lambda array: array.astype(">f4"),
        lambda array: array.tolist(),
        lambda array: pytest.importorskip("jax.numpy").asarray(array),
        lambda array: pytest.importorskip("jax.numpy").asarray(array, "bfloat16"),
    ],
)
def test_arrays_of_any_library_are_accepted(convert):
    model = blank_model()
    load_checkpoint(model, {name: convert(array) for name, array in tiny.reference_weights().items()})
    loaded = state_dict(model)
    for name, array in tiny.reference_weights().items():
        # bfloat16 has eight bits of mantissa; float16 is in steps of 6e-8 near zero.
        np.testing.assert_allclose(loaded[name], array, rtol=2**-8, atol=6e-8, err_msg=name)


def weights_with(values):
    """Returns the reference weights with other last elements, by name."""
    weights = {each: array.copy() for each, array in tiny.reference_weights().items()}
    for name, value in values.items():
        weights[name].flat[-1] = value
    return weights


def source_of(weights, suffix, folder):
    """Returns the weights as a mapping (None) or as a file."""
    if suffix is None:
        return weights
    model = blank_model()
    for name, variable in variables_by_timm_name(model).items():
        variable.assign(from_timm_layout(weights[name], variable.name))
    save_checkpoint(model, folder / f"model{suffix}")
    return folder / f"model{suffix}"


@pytest.mark.parametrize("suffix", [None, *FILES])
def test_weights_that_are_not_finite_are_refused_by_every_reader_unless_allowed(suffix, tmp_path):
    weights = weights_with({"norm.0.bias": np.nan, "norm.1.bias": np.inf, "head.0.bias": -np.inf})
    source = source_of(weights, suffix, tmp_path)
    message = assert_refused(source)
    assert "3 tensors" in message
    assert all(name in message for name in ("norm.0.bias", "norm.1.bias", "head.0.bias"))
    assert "allow_nonfinite=True" in message
    with pytest.raises(ValueError, match=r"norm\.0\.bias"):
        tiny.fresh_model(weights=source)
    model = blank_model()
    load_checkpoint(model, source, allow_nonfinite=True)
    np.testing.assert_equal(state_dict(model), weights)
    if suffix in (".safetensors", ".keras"):  # which describe their model
        with pytest.raises(ValueError, match="allow_nonfinite=True"):
            load_model(source)
        np.testing.assert_equal(state_dict(load_model(source, allow_nonfinite=True)), weights)


@pytest.mark.parametrize("suffix", SOURCES)
@pytest.mark.parametrize(("stored", "loaded", "value"), [("float64", "float32", 1e39), ("float32", "float16", 1e5)])
def test_values_beyond_the_range_of_the_model_dtype_are_refused(suffix, stored, loaded, value, tmp_path):
    weights = {name: tensor.to(getattr(torch, stored)) for name, tensor in torch_weights().items()}
    weights["norm.0.bias"][0] = value
    message = assert_refused(written(weights, suffix, tmp_path), blank_model(loaded))
    assert "norm.0.bias" in message
    assert loaded in message


def test_a_head_that_is_not_loaded_may_be_nan():
    model = tiny.fresh_model(num_classes=3)
    result = load_checkpoint(model, weights_with({"head.0.bias": np.nan}), adapt=True)
    assert "head.0.bias" in result.skipped
    assert all(np.isfinite(array).all() for array in state_dict(model).values())


def test_resized_position_embeddings_are_checked_too():
    model = tiny.fresh_model(img_size=((48, 72), (64, 32)))
    assert "pos_embed_0" in assert_refused(weights_with({"pos_embed_0": np.nan}), model, adapt=True)


def test_an_array_that_cannot_be_read_changes_nothing():
    class Failing:
        shape, dtype = tiny.reference_weights()[LAST].shape, np.dtype("float32")

        def __array__(self, *arguments, **keywords):
            raise RuntimeError("the network is gone")

    assert LAST in assert_refused({**tiny.reference_weights(), LAST: Failing()})
