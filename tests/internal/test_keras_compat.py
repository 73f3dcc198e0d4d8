"""What the package relies on in Keras' internals. A failure here means that Keras has changed them."""

import contextlib

import keras
import numpy as np
import pytest

from keras_crossvit._internal.keras_compat import (
    FusedAdamW,
    all_layers,
    decays,
    ema_variables,
    quantized_layers,
    replace_dtype_policy,
    sample_target,
    unmerged_kernel,
)
from keras_crossvit.training import finetuning
from tests.helpers.models import images, tiny

LABELS = np.arange(4) % 3
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def small_model():
    return tiny(num_classes=3)


def test_all_layers_include_those_inside_layers():
    model = small_model()
    paths = {layer.path for layer in all_layers(model)}
    assert {"stage_0_small_patch_block_0/attention/qkv", "stage_0_large_patch_fusion/attention_0/key"} <= paths
    head = model.get_layer("small_patch_head")
    assert quantized_layers(model) == []
    head.quantize("int8")
    assert quantized_layers(model) == [head]


def test_unmerged_kernel_is_the_kernel_without_lora():
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    layer.enable_lora(1)
    layer.lora_kernel_b.assign(np.ones((1, 3)))
    assert any(unmerged_kernel(layer) is variable for variable in layer.variables)
    np.testing.assert_array_equal(unmerged_kernel(layer), kernel)
    assert np.abs(layer.kernel - kernel).max() > 0


def test_a_replaced_dtype_policy_is_not_written_into_the_shared_map():
    policies = keras.dtype_policies.DTypePolicyMap(default_policy="float32")
    layer = keras.layers.Dense(3, dtype=policies)
    replace_dtype_policy(layer, keras.dtype_policies.DTypePolicy("bfloat16"))
    assert layer.compute_dtype == "bfloat16"
    assert len(policies) == 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda optimizer: optimizer,
        keras.optimizers.LossScaleOptimizer,
        lambda optimizer: keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(optimizer)),
    ],
)
def test_weight_decay_of_a_variable_is_known(wrap):
    excluded, decayed = keras.Variable([1.0], name="excluded"), keras.Variable([1.0], name="decayed")
    optimizer = keras.optimizers.AdamW()
    optimizer.exclude_from_weight_decay([excluded])
    assert [decays(wrap(optimizer), variable) for variable in (excluded, decayed)] == [False, True]


@pytest.mark.backends
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-5)])
def test_fused_adamw_equals_numpy(dtype, tolerance):
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=3), random.normal(size=(4, 2, 3))
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.05])
    variables = [keras.Variable(start, dtype=dtype) for _ in range(2)]
    optimizer = FusedAdamW(rate, weight_decay=0.5, use_ema=True, ema_momentum=0.8)
    optimizer.exclude_from_weight_decay(variables[:1])
    optimizer.build(variables)
    for both in gradients:
        optimizer.apply([keras.ops.cast(each, dtype) for each in both], variables)

    expected = np.array([start, start])
    mean, square, average = np.zeros((3, 2, 3))
    for step, both in enumerate(gradients, 1):
        learning_rate = 0.1 if step <= 2 else 0.05
        mean, square = 0.9 * mean + 0.1 * both, 0.999 * square + 0.001 * both**2
        expected[1] *= 1 - 0.5 * learning_rate
        corrected = learning_rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        expected -= corrected * mean / (np.sqrt(square) + optimizer.epsilon)
        momentum = 0.8 * (step > 1)
        average = momentum * average + (1 - momentum) * expected
    found = [[keras.ops.convert_to_numpy(each) for each in pair] for pair in ema_variables(optimizer)]
    if keras.backend.backend() != "tensorflow":
        tolerance = 1e-5  # Keras rounds the power of beta_2
    np.testing.assert_allclose(found, np.stack([expected, average], axis=1), rtol=0, atol=tolerance)


@pytest.fixture
def counted_steps(monkeypatch):
    """Returns a model and a list that grows with every trace of its training step."""
    model = small_model()
    traces, train_step = [], model.train_step
    monkeypatch.setattr(model, "train_step", lambda data: traces.append(0) or train_step(data))
    return model, traces


def fit(model, targets=LABELS):
    history = model.fit(images(model, batch=4), targets, batch_size=2, epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    return history


def _first_column(target, logits):
    """A metric that needs targets with a second axis."""
    return target[:, 0]


@pytest.mark.parametrize(
    ("loss", "targets", "metrics"),
    [
        (SPARSE, LABELS, ["accuracy"]),
        ("sparse_categorical_crossentropy", LABELS[:, None], ["accuracy", _first_column]),
        (
            keras.losses.CategoricalCrossentropy(name="named"),
            np.eye(3, dtype="float32")[LABELS],
            ["accuracy", _first_column],
        ),
    ],
)
def test_the_first_step_of_fit_is_traced_once(counted_steps, loss, targets, metrics):
    model, traces = counted_steps
    model.compile("sgd", loss, metrics=metrics, jit_compile=False)
    assert len(fit(model, targets)) == 1 + len(metrics)
    assert len(traces) == 1


def test_freezing_works_before_and_after_compile(counted_steps):
    model, traces = counted_steps
    for change, trained in ((finetuning.freeze_all_but_head, 4), (finetuning.unfreeze, len(model.weights))):
        change(model)
        model.compile(FusedAdamW(weight_decay=0.0), SPARSE, metrics=["accuracy"], jit_compile=False)
        before = model.get_weights()
        fit(model)
        assert sum(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)) == trained
        assert len(traces) == 1
        traces.clear()
    finetuning.freeze_all_but_head(model)
    model.compile(FusedAdamW(weight_decay=0.0), SPARSE, jit_compile=False)
    finetuning.unfreeze(model)  # counts, because nothing was built in compile
    fit(model)
    assert len(model.optimizer.variables) > 2 * len(model.weights)


def test_a_loaded_model_goes_on_training(tmp_path):
    model = small_model()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, SPARSE, metrics=["accuracy"], jit_compile=False)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.iterations == model.optimizer.iterations == 4
    assert fit(loaded)["loss"] == pytest.approx(fit(model)["loss"], rel=1e-5)  # compiled apart


def test_sample_target_has_the_shape_that_the_loss_needs():
    output = keras.Input((3,))
    assert sample_target(keras.losses.sparse_categorical_crossentropy, output).shape == (1,)
    assert sample_target("binary_crossentropy", output).shape == (1, 3)
    assert sample_target(keras.losses.CategoricalFocalCrossentropy(), output).shape == (1, 3)
    for other in (keras.losses.Huber(), lambda target, logits: 0.0, ["mse"], None):
        assert sample_target(other, output) is None


@pytest.mark.parametrize("loss", [SPARSE, keras.losses.MeanSquaredError()])
@pytest.mark.parametrize("fit_inside", [False, True])
def test_a_model_built_outside_the_scope_of_its_strategy_fails_as_in_keras(fit_inside, loss):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = small_model()
    reasons = []
    for each, inputs in ((plain, np.zeros((4, 4), "float32")), (model, images(model, batch=4))):
        with strategy.scope():
            each.compile("adam", loss, metrics=["accuracy"], jit_compile=False)
        scope = strategy.scope() if fit_inside else contextlib.nullcontext()
        with pytest.raises((RuntimeError, ValueError)) as error, scope:
            each.fit(inputs, LABELS, verbose=0)
        reasons.append((error.type, str(error.value).split("strategy")[0].split("not: ")[0]))
    assert reasons[0] == reasons[1]
    assert "scope()" in str(error.value)


def test_metrics_only_see_real_targets():
    def strict(target, logits):
        assert target.shape[0] == 4, "a batch that was made up"
        raise ZeroDivisionError("of the metric")

    model = small_model()
    model.compile("adam", SPARSE, metrics=[strict], run_eagerly=True)
    with pytest.raises(ZeroDivisionError, match="of the metric"):
        model.fit(images(model, batch=4), LABELS, verbose=0)
