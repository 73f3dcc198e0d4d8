import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_crossvit._internal.keras_compat import ema_variables
from keras_crossvit.pipeline import open_dataset
from keras_crossvit.training.optimization import (
    EvaluateEMA,
    add_sample_weights,
    make_loss,
    make_metrics,
    make_optimizer,
    resolve_class_weights,
)
from keras_crossvit.training.recipes import IMAGENET, get_recipe
from tests.helpers import image_folders
from tests.helpers.models import tiny


def test_sgd_decays_weights_as_much_as_pytorch():
    torch = pytest.importorskip("torch")
    recipe = get_recipe(
        "transfer", epochs=1, batch_size=768, warmup_fraction=0.0, final_learning_rate=0.01, weight_decay=0.01
    )
    model = tiny()
    optimizer = make_optimizer(model, recipe, steps_per_epoch=200)
    kernel = model.get_layer("small_patch_head").kernel
    optimizer.build([kernel])
    start = keras.ops.convert_to_numpy(kernel)
    theirs = torch.tensor(start, requires_grad=True)
    reference = torch.optim.SGD([theirs], lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.01)
    theirs.grad = torch.zeros_like(theirs)
    for _ in range(200):
        optimizer.apply([keras.ops.zeros_like(kernel)])
        reference.step()
    ours, expected = (np.log(np.linalg.norm(each) / np.linalg.norm(start)) for each in (kernel, theirs.detach()))
    assert expected < -0.18  # decay without momentum would give -0.02
    assert ours == pytest.approx(expected, rel=0.05)  # PyTorch's momentum takes some steps to build up


def test_gradient_accumulation_keeps_learning_rate_and_ema():
    recipe = get_recipe("imagenet", gradient_accumulation_steps=16, ema_momentum=0.99, precision="float32")
    assert recipe.micro_batch_size == 256
    assert recipe.peak_learning_rate == IMAGENET.peak_learning_rate
    optimizer = make_optimizer(tiny(), recipe, 160)
    assert optimizer.gradient_accumulation_steps == 16
    assert optimizer.ema_momentum**16 == pytest.approx(0.99)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_accumulated_gradients_equal_those_of_the_whole_batch(optimizer):
    steady = {"learning_rate": 0.01, "final_learning_rate": 0.01, "warmup_fraction": 0.0, "weight_decay": 0.1}
    start, gradients = np.arange(6, dtype="float32").reshape(2, 3), np.random.default_rng(0).normal(size=(6, 2, 3))

    def trained(parts):
        recipe = get_recipe("transfer", **steady, optimizer=optimizer, gradient_accumulation_steps=parts)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, use_bias=False)])
        model.set_weights([start])
        made = make_optimizer(model, recipe, steps_per_epoch=3 * parts)
        for part in gradients.reshape(-1, 2 // parts, 2, 3).mean(axis=1):
            made.apply([keras.ops.convert_to_tensor(part, "float32")], model.trainable_variables)
        return model.get_weights()[0]

    whole, in_parts = trained(1), trained(2)
    assert np.abs(whole - start).max() > 1e-3
    np.testing.assert_allclose(in_parts, whole, rtol=1e-6)


def test_only_kernels_decay():
    model = tiny()
    optimizer = make_optimizer(model, get_recipe("imagenet"), 10)
    optimizer.build(model.trainable_variables)
    decayed = {each.path for each in model.trainable_variables if optimizer._use_weight_decay(each)}
    assert decayed
    assert all(path.endswith("kernel") for path in decayed)


def test_finetune_recipe_trains_the_stem_slowest():
    optimizer = make_optimizer(tiny(), get_recipe("finetune"), 10)
    rates = [float(each.learning_rate) for each in optimizer.optimizers]
    assert min(rates) < max(rates)


def test_binary_loss_treats_classes_independently():
    recipe = get_recipe("finetune", loss="binary")
    logits = keras.ops.convert_to_tensor([[4.0, 4.0, -4.0]])
    correct, wrong = (
        float(make_loss(recipe)(keras.ops.convert_to_tensor([target]), logits))
        for target in ([1.0, 1.0, 0.0], [0.0, 1.0, 0.0])
    )
    assert correct == pytest.approx(np.log1p(np.exp(-4)), rel=1e-4)
    assert wrong > 1
    accuracy = make_metrics(recipe, 3)[0]
    accuracy.update_state([[1.0, 0.0, 0.0]], logits)
    assert float(accuracy.result()) == pytest.approx(2 / 3)


def test_multi_label_metrics_round_smoothed_targets():
    logits = np.array([[2.0, -1.0], [1.0, -3.0], [-2.0, 4.0]], "float32")
    target = np.array([[1, 0], [0, 0], [0, 1]], "float32")
    for metric in make_metrics(get_recipe("finetune", loss="binary"), 2):
        metric.update_state(target, logits)
        expected = float(metric.result())
        metric.reset_state()
        metric.update_state(target * 0.9 + 0.05, logits)
        assert float(metric.result()) == expected
    assert expected > 0.9  # the area under the curve; one of six decisions is wrong


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """One image of the first class, two of the others."""
    folder = image_folders.write_plain(tmp_path_factory.mktemp("plain"), 2)
    (folder / "bleu" / "1.jpg").unlink()
    return open_dataset(folder)


def test_balanced_classes_have_equal_total_weight(dataset):
    weights = resolve_class_weights("balanced", dataset)
    assert weights == pytest.approx((5 / 3, 5 / 6, 5 / 6))
    assert np.bincount(dataset.training.labels) * weights == pytest.approx(5 / 3)


def test_classes_that_are_not_named_have_weight_one(dataset):
    assert resolve_class_weights({"rouge": 2.5}, dataset) == (1.0, 1.0, 2.5)
    assert resolve_class_weights(None, dataset) is None


@pytest.mark.parametrize(
    ("requested", "value"), [({"noir": 2}, "'noir'"), ("even", "'even'"), ({"rouge": 0}, "'rouge'")]
)
def test_invalid_class_weights_are_named(dataset, requested, value):
    with pytest.raises(ValueError, match=value):
        resolve_class_weights(requested, dataset)


def test_a_mixed_image_has_the_mean_weight_of_its_classes():
    target = np.array([[1, 0, 0], [0.25, 0.75, 0]], "float32")
    batches = tf.data.Dataset.from_tensors(((np.zeros(2), np.zeros(2)), target))
    ((_, kept, weight),) = add_sample_weights(batches, (2.0, 4.0, 1.0))
    np.testing.assert_array_equal(kept, target)
    np.testing.assert_allclose(weight, [2.0, 3.5])
    assert add_sample_weights(batches, None) is batches


@pytest.fixture
def model_with_ema():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.3, use_ema=True, ema_momentum=0.5), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    for _ in range(3):
        gradients = [random.normal(size=variable.shape).astype("float32") for variable in model.trainable_variables]
        model.optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients])
    return model


def test_ema_replaces_the_weights_and_they_come_back_exactly(model_with_ema):
    weights = model_with_ema.get_weights()
    averages = [keras.ops.convert_to_numpy(average) for _, average in ema_variables(model_with_ema.optimizer)]
    with EvaluateEMA().in_place(model_with_ema):
        for seen, average, weight in zip(model_with_ema.get_weights(), averages, weights, strict=True):
            np.testing.assert_array_equal(seen, average)
            assert np.abs(seen - weight).max() > 1e-3
    for seen, weight in zip(model_with_ema.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(seen, weight)


def test_evaluation_of_the_ema_does_not_change_the_weights(model_with_ema):
    weights = model_with_ema.get_weights()
    inputs, target = np.ones((4, 3)), np.ones((4, 2))
    plain = model_with_ema.evaluate(inputs, target, verbose=0)
    assert model_with_ema.evaluate(inputs, target, callbacks=[EvaluateEMA()], verbose=0) != plain
    for seen, weight in zip(model_with_ema.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(seen, weight)
