import re

import keras
import numpy as np
import pytest

from keras_crossvit import load_checkpoint, load_model, save_checkpoint, state_dict
from keras_crossvit.checkpoints.tensors import variables_by_timm_name
from keras_crossvit.training import finetuning
from tests.helpers import reference, tiny

HEADS = {"head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"}


def trained(model, optimizer=None, *, steps=1):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, run_eagerly=True)  # tracing costs more than it saves
    images = reference.draw_images("tiny_square")
    return model.fit(images, np.array([1, 2]), epochs=steps, verbose=0).history["loss"]


def changed_tensors(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def test_frozen_model_only_changes_its_heads():
    model = tiny.reference_model()
    finetuning.freeze_all_but_head(model)
    before = state_dict(model)
    trained(model)
    assert changed_tensors(before, state_dict(model)) == HEADS
    finetuning.unfreeze(model)
    assert len(model.trainable_variables) == len(model.weights)


def test_model_without_a_head_cannot_be_frozen():
    with pytest.raises(ValueError, match="num_classes 0"):
        finetuning.freeze_all_but_head(tiny.fresh_model(num_classes=0))


def test_only_kernels_decay():
    model = tiny.reference_model()
    before = state_dict(model)
    optimizer = keras.optimizers.SGD(1e-9, weight_decay=1e8)  # only decay: weights shrink by a tenth
    optimizer.exclude_from_weight_decay(finetuning.no_weight_decay_variables(model))
    trained(model, optimizer)
    after = state_dict(model)
    for name, array in before.items():
        is_kernel = name.endswith("weight") and array.ndim > 1
        np.testing.assert_allclose(after[name], array * (0.9 if is_kernel else 1), rtol=0, atol=1e-5, err_msg=name)


def test_learning_rates_decrease_from_heads_to_stems():
    model = tiny.fresh_model()
    assert len(model.config.depth) == 2
    scales = finetuning.learning_rate_scales(model, decay=0.5)
    assert scales.keys() == {variable.path for variable in model.trainable_variables}
    expected = {
        "small_patch_embedding/convolution_0/kernel": 0.125,
        "large_patch_tokens/class_token": 0.125,
        "large_patch_tokens/position_embedding": 0.125,
        "stage_0_small_patch_block_0/attention/qkv/kernel": 0.25,
        "stage_1_large_patch_fusion/to_own/bias": 0.5,
        "small_patch_pooling/norm/gamma": 0.5,
        "large_patch_head/kernel": 1.0,
    }
    assert {path: scales[path] for path in expected} == expected


@pytest.mark.parametrize("rate", [0.1, keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)])
def test_layer_wise_optimizer_uses_the_scaled_rates(rate):
    plain, layer_wise = tiny.reference_model(), tiny.reference_model()
    before = {variable.path: variable.numpy() for variable in plain.weights}
    trained(plain, keras.optimizers.SGD(rate))
    trained(layer_wise, finetuning.layer_wise_optimizer(layer_wise, keras.optimizers.SGD(rate), decay=0.5))
    scales = finetuning.learning_rate_scales(layer_wise, decay=0.5)
    for by_plain, by_layer in zip(plain.weights, layer_wise.weights, strict=True):
        start = before[by_plain.path]
        step = (by_plain.numpy() - start) * scales[by_layer.path]
        np.testing.assert_allclose(by_layer.numpy() - start, step, rtol=0, atol=1e-6, err_msg=by_layer.path)


@pytest.mark.parametrize(
    ("schedule", "keeps_scales"), [(lambda epoch, rate: rate / 10, True), (lambda epoch: 0.01, False)]
)
def test_a_schedule_of_the_epoch_and_rate_keeps_the_scales(schedule, keeps_scales):
    """The docstring says so; change it there if Keras' callback scales in both cases."""
    model = tiny.reference_model()
    model.compile(finetuning.layer_wise_optimizer(model, keras.optimizers.SGD(0.1), decay=0.5))
    before = [float(each.learning_rate) for each in model.optimizer.optimizers]
    callback = keras.callbacks.LearningRateScheduler(schedule)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    after = [float(each.learning_rate) for each in model.optimizer.optimizers]
    assert len(set(before)) > 2
    np.testing.assert_allclose(after, np.divide(before, 10) if keeps_scales else 0.01, rtol=1e-6)


def test_layer_wise_optimizer_excludes_variables_from_weight_decay():
    model = tiny.reference_model()
    before = state_dict(model)
    excluded = finetuning.no_weight_decay_variables(model)
    adamw = keras.optimizers.AdamW(1e-9, weight_decay=1e8)
    trained(model, finetuning.layer_wise_optimizer(model, adamw, decay=1.0, exclude_from_weight_decay=excluded))
    after = state_dict(model)
    np.testing.assert_allclose(after["norm.0.weight"], before["norm.0.weight"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(after["head.0.weight"], 0.9 * before["head.0.weight"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("frozen", "rates"),
    [
        ("(?!.*head).*", [0.1]),
        (".*head", [0.0125, 0.025, 0.05]),
        ("stage_0.*|.*head", [0.0125, 0.05]),
    ],
)
def test_layer_wise_optimizer_keeps_an_ema_of_what_is_not_frozen(frozen, rates):
    model = tiny.reference_model()
    for layer in model.layers:
        layer.trainable = re.fullmatch(frozen, layer.name) is None
    sgd = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    optimizer = finetuning.layer_wise_optimizer(model, sgd, decay=0.5)
    optimizer.build(model.trainable_variables)
    assert [float(each.learning_rate) for each in optimizer.optimizers] == pytest.approx(rates)
    assert float(optimizer.learning_rate) == pytest.approx(max(rates))  # which callbacks record
    with pytest.raises(AttributeError, match="set that of each"):
        optimizer.learning_rate = 0.1
    averaged = [len(each._model_variables_moving_average) for each in optimizer.optimizers]
    assert sum(averaged) == len(model.trainable_variables)
    assert all(averaged)


def test_layer_wise_optimizer_survives_the_keras_file(tmp_path):
    model = tiny.reference_model()
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 10)
    trained(model, finetuning.layer_wise_optimizer(model, keras.optimizers.AdamW(schedule), decay=0.5))
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    rates = [float(each.learning_rate) for each in model.optimizer.optimizers]
    assert [float(each.learning_rate) for each in restored.optimizer.optimizers] == rates
    assert len(set(rates)) == 4


def test_lora_only_changes_attentions_and_heads():
    model = tiny.reference_model()
    finetuning.enable_lora(model, 2)
    before = state_dict(model)
    losses = trained(model, steps=3)
    changed = changed_tensors(before, state_dict(model))
    fused = {"wq", "wk", "wv", "proj", "qkv"}
    kernels = {name for name in before if name.endswith("weight") and fused & set(name.split(".")) and "attn" in name}
    assert changed == kernels | HEADS
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("suffix", [".safetensors", ".keras"])
def test_lora_is_merged_into_saved_files(suffix, tmp_path):
    model = tiny.reference_model()
    finetuning.enable_lora(model, 2, lora_alpha=4)
    trained(model, steps=2)
    save_checkpoint(model, tmp_path / f"model{suffix}")
    restored = load_model(tmp_path / f"model{suffix}")
    assert len(restored.weights) == len(tiny.reference_weights())
    images = reference.draw_images("tiny_square")
    # Float32: low-rank products are added to the output in one model and to the kernel in the other.
    np.testing.assert_allclose(tiny.output(restored, images), tiny.output(model, images), rtol=0, atol=1e-5)


def test_copy_to_train_has_the_same_weights_and_trainable_variables():
    model, images = tiny.reference_model(), reference.draw_images("tiny_square")
    finetuning.enable_lora(model, 2, lora_alpha=4)
    trained(model, steps=1)
    copy = finetuning.copy_to_train(model)
    np.testing.assert_array_equal(tiny.output(copy, images), tiny.output(model, images))
    assert [each.path for each in copy.trainable_variables] == [each.path for each in model.trainable_variables]
    assert not {id(each) for each in copy.variables} & {id(each) for each in model.variables}


def test_lora_is_merged_in_the_precision_of_the_weights():
    model = tiny.fresh_model(dtype="mixed_bfloat16")
    finetuning.enable_lora(model, 2, lora_alpha=4)
    layer = next(each for each in model._flatten_layers() if getattr(each, "lora_enabled", False))
    layer.lora_kernel_b.assign(np.random.default_rng(0).normal(size=layer.lora_kernel_b.shape))
    kernel, a, b = map(keras.ops.convert_to_numpy, (layer._kernel, layer.lora_kernel_a, layer.lora_kernel_b))
    name = next(name for name, each in variables_by_timm_name(model).items() if each is layer._kernel)
    merged = state_dict(model)[name]
    assert merged.dtype == "float32"
    np.testing.assert_allclose(merged, (kernel + 2 * (a @ b)).T, rtol=1e-6, atol=1e-6)  # bfloat16 keeps 3 digits


def test_checkpoint_cannot_be_loaded_after_lora():
    model = tiny.fresh_model()
    finetuning.enable_lora(model, 2)
    with pytest.raises(ValueError, match=r"load it before enable_lora\(\)"):
        load_checkpoint(model, tiny.reference_weights())
