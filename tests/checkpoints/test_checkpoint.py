"""What tensors a source has: their names, dtypes and conversion."""

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import torch
from safetensors.torch import save_file

from keras_crossvit import load_checkpoint, load_model, state_dict
from keras_crossvit.checkpoints.names import timm_spelling
from tests.helpers import tiny
from tests.helpers.weights import assert_has_reference_weights, assert_refused, blank_model, torch_weights, written

WEIGHT = "blocks.0.blocks.1.0.mlp.fc1.weight"
FORMATS = (None, ".safetensors", ".pth")
# And what safetensors call them.
ODD = {
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


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", ODD)
def test_weights_that_are_no_floats_are_refused_by_name_and_dtype(suffix, dtype, tmp_path):
    weights = torch_weights()
    weights[WEIGHT] = weights[WEIGHT].to(getattr(torch, dtype))
    message = assert_refused(written(weights, suffix, tmp_path))
    assert f"{WEIGHT} is {ODD[dtype] if suffix == '.safetensors' else dtype}" in message


@pytest.mark.parametrize(
    "odd",
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
def test_values_that_are_no_arrays_of_floats_are_refused_by_name(odd):
    assert "norm.0.bias" in assert_refused({**tiny.reference_weights(), "norm.0.bias": odd})


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_floats_of_other_precisions_are_taken_and_reported(suffix, dtype, tmp_path):
    weights = {name: tensor.to(getattr(torch, dtype)) for name, tensor in torch_weights().items()}
    model = blank_model()
    report = load_checkpoint(model, written(weights, suffix, tmp_path))
    held = state_dict(model)
    for name, tensor in weights.items():
        np.testing.assert_array_equal(held[name], tensor.float().numpy(), err_msg=name)
    assert report.conversions == (f"{len(weights)} tensors converted from {dtype} to float32.",)
    assert report.conversions[0] in str(report)


@pytest.mark.parametrize("suffix", FORMATS)
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


@pytest.mark.parametrize("suffix", FORMATS)
def test_two_sets_of_weights_are_refused_and_both_named(suffix, tmp_path):
    weights = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in torch_weights().items()}
    message = assert_refused(written(weights, suffix, tmp_path))
    assert "student." in message
    assert "teacher." in message


@pytest.mark.parametrize("suffix", FORMATS)
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
def test_prefix_of_a_training_framework_is_left_out_and_reported(suffix, prefix, tmp_path):
    weights = {f"{prefix}{name}": tensor for name, tensor in torch_weights("official").items()}
    model = blank_model()
    report = load_checkpoint(model, written(weights, suffix, tmp_path))
    assert_has_reference_weights(model)
    assert report.prefix
    assert report.prefix in prefix
    assert f"'{report.prefix}'" in str(report)
    sources = set(report.source_names.values())
    assert sources == weights.keys()
    assert report.source_names["norm.0.bias"] == f"{prefix}norm.0.bias"


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_of_pytorch_around_parts_are_left_out(wrapper):
    weights = {name.replace("blocks.0.", f"blocks.0.{wrapper}.", 1): array for name, array in torch_weights().items()}
    model = blank_model()
    assert load_checkpoint(model, weights).prefix == ""
    assert_has_reference_weights(model)


def test_plain_names_are_reported_without_a_prefix_or_conversion():
    report = load_checkpoint(blank_model(), tiny.reference_weights())
    assert report.prefix == ""
    assert report.conversions == ()
    assert report.source_names == {name: name for name in tiny.reference_weights()}
    assert len(str(report).splitlines()) == 1


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("stranger", ["criterion.weight", "model.criterion.weight", "loss.pos_weight", "n_averaged"])
def test_what_is_not_the_model_s_is_named_by_its_name_in_the_source(suffix, stranger, tmp_path):
    weights = {f"model.{name}": tensor for name, tensor in torch_weights().items()}
    message = assert_refused(written({**weights, stranger: torch.ones(3)}, suffix, tmp_path))
    assert f"1 left over: {stranger}" in message


def test_a_prefix_is_left_out_only_where_no_name_fits():
    weights = {f"model.{name}": array for name, array in tiny.reference_weights().items()}
    weights["norm.0.bias"] = weights.pop("model.norm.0.bias")
    assert "does not fit" in assert_refused(weights)


def test_prefix_and_adaptation_go_together(tmp_path):
    weights = {f"backbone.{name}": tensor.bfloat16() for name, tensor in torch_weights().items()}
    model = tiny.fresh_model(num_classes=3, img_size=((48, 72), (64, 32)))
    report = load_checkpoint(model, written(weights, ".safetensors", tmp_path), adapt_head=True, adapt_positions=True)
    assert report.prefix == "backbone."
    assert len(report.adaptations) == 2
    np.testing.assert_array_equal(state_dict(model)["norm.0.bias"], weights["backbone.norm.0.bias"].float().numpy())


def test_a_variant_s_file_may_have_a_prefix(tmp_path):
    from keras_crossvit import create_model

    model = create_model("crossvit_9", 5, img_size=(96, 80))
    weights = {f"model.{name}": torch.tensor(array).contiguous() for name, array in state_dict(model).items()}
    save_file(weights, tmp_path / "model.safetensors")
    restored = load_model(tmp_path / "model.safetensors", variant="timm/crossvit_9_240.in1k")
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
def test_mappings_of_any_library_s_arrays_are_taken(convert):
    model = blank_model()
    load_checkpoint(model, {name: convert(array) for name, array in tiny.reference_weights().items()})
    held = state_dict(model)
    for name, array in tiny.reference_weights().items():
        # bfloat16 has eight bits of mantissa; float16 is in steps of 6e-8 near zero.
        np.testing.assert_allclose(held[name], array, rtol=2**-8, atol=6e-8, err_msg=name)


def test_names_that_are_no_strings_are_refused():
    assert "5" in assert_refused({**tiny.reference_weights(), 5: np.ones(2, "float32")})


def test_what_torch_load_returns_is_taken_as_the_file_is(tmp_path):
    model = blank_model()
    load_checkpoint(model, {"epoch": 3, "state_dict": {f"model.{n}": t for n, t in torch_weights().items()}})
    assert_has_reference_weights(model)
