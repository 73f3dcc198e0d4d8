import dataclasses

import keras
import numpy as np
import pytest

from keras_crossvit.training.optimization import make_loss, make_metrics, make_optimizer
from keras_crossvit.training.recipes import FINETUNE, IMAGENET, IMAGENET_408, QUICKSTART, RECIPES, TRANSFER, get_recipe
from tests.helpers.models import tiny


def rates(recipe, steps_per_epoch):
    schedule = recipe.schedule(steps_per_epoch)
    return np.array([float(schedule(step)) for step in range(recipe.epochs * steps_per_epoch + 1)])


def test_imagenet_recipe_has_the_numbers_of_the_paper():
    assert IMAGENET.peak_learning_rate == pytest.approx(0.004)
    assert IMAGENET.warmup_fraction * IMAGENET.epochs == pytest.approx(30)
    assert (IMAGENET.epochs, IMAGENET.batch_size, IMAGENET.weight_decay) == (300, 4096, 0.05)
    assert (IMAGENET.drop_path_rate, IMAGENET.clip_norm, IMAGENET.optimizer) == (0.1, None, "adamw")
    augmentation = IMAGENET.augmentation
    assert (augmentation.mixup, augmentation.cutmix, augmentation.mix_switch) == (0.8, 1.0, 0.5)
    assert (augmentation.erasing, augmentation.label_smoothing, augmentation.repeats) == (0.25, 0.1, 3)


def test_transfer_recipe_has_the_numbers_of_the_paper():
    assert (TRANSFER.optimizer, TRANSFER.learning_rate, TRANSFER.batch_size) == ("sgd", 0.01, 768)
    assert TRANSFER.warmup_fraction * TRANSFER.epochs == pytest.approx(5)
    assert (TRANSFER.weight_decay, TRANSFER.augmentation.erasing, TRANSFER.drop_path_rate) == (1e-4, 0, 0)


def test_fine_tuning_at_384_pixels_has_the_numbers_of_deit():
    assert (IMAGENET_408.epochs, IMAGENET_408.batch_size, IMAGENET_408.weight_decay) == (30, 512, 1e-8)
    values = rates(IMAGENET_408, steps_per_epoch=2)
    assert values[0] == pytest.approx(1e-6)
    assert values[10:] == pytest.approx(5e-6)


def test_sgd_decays_weights_as_much_as_that_of_pytorch():
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
    ours, wanted = (np.log(np.linalg.norm(each) / np.linalg.norm(start)) for each in (kernel, theirs.detach()))
    assert wanted < -0.18  # of decay that is applied once it would be -0.02
    assert ours == pytest.approx(wanted, rel=0.05)  # theirs takes some steps to get under way


def test_learning_rate_rises_linearly_and_follows_a_cosine_down():
    values = rates(IMAGENET, steps_per_epoch=2)
    assert values[0] == pytest.approx(1e-6)
    assert values[30] == pytest.approx((1e-6 + 0.004) / 2)
    assert values[60] == values.max() == pytest.approx(0.004)
    assert values[330] == pytest.approx((0.004 + 1e-5) / 2, rel=1e-3)
    assert values[-1] == pytest.approx(1e-5, rel=1e-3)


def test_quickstart_rises_from_zero_and_falls_to_zero():
    values = rates(QUICKSTART, steps_per_epoch=12)
    assert values[0] == 0
    assert values.max() == pytest.approx(QUICKSTART.learning_rate, rel=1e-3)
    assert values[-1] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", RECIPES)
def test_schedules_survive_keras_serialization(name):
    schedule = RECIPES[name].schedule(3)
    copy = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(copy(step)) for step in (0, 5, 40)] == [float(schedule(step)) for step in (0, 5, 40)]


def test_a_batch_in_parts_keeps_the_learning_rate_and_the_memory_of_the_mean():
    model = tiny()
    recipe = get_recipe("imagenet", accumulation_steps=16, ema_momentum=0.99, precision="float32")
    assert recipe.step_size == 256
    assert recipe.peak_learning_rate == IMAGENET.peak_learning_rate
    optimizer = make_optimizer(model, recipe, 160)
    assert optimizer.gradient_accumulation_steps == 16
    assert optimizer.ema_momentum**16 == pytest.approx(0.99)


@pytest.mark.parametrize("updates", [1, 6, 40, 300, 5000])
def test_the_mean_of_a_short_run_keeps_little_of_the_first_weights(updates):
    recipe = get_recipe("finetune", epochs=1, batch_size=8, accumulation_steps=2, layer_decay=None)
    momentum = recipe.ema_momentum_over(2 * updates)
    assert momentum**updates < 0.1
    assert (momentum == recipe.ema_momentum) == (updates >= 990)
    assert make_optimizer(tiny(), recipe, 2 * updates).ema_momentum == momentum**0.5


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_batch_in_parts_ends_where_the_whole_one_does(optimizer):
    steady = {"learning_rate": 0.01, "final_learning_rate": 0.01, "warmup_fraction": 0.0}
    start, gradients = np.arange(6, dtype="float32").reshape(2, 3), np.random.default_rng(0).normal(size=(6, 2, 3))

    def trained(parts):
        recipe = get_recipe("transfer", **steady, optimizer=optimizer, weight_decay=0.1, accumulation_steps=parts)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, use_bias=False)])
        model.set_weights([start])
        made = make_optimizer(model, recipe, steps_per_epoch=3 * parts)
        for part in gradients.reshape(-1, 2 // parts, 2, 3).mean(axis=1):
            made.apply([keras.ops.convert_to_tensor(part, "float32")], model.trainable_variables)
        return model.get_weights()[0]

    whole, in_parts = trained(1), trained(2)
    assert np.abs(whole - start).max() > 1e-3
    np.testing.assert_allclose(in_parts, whole, rtol=1e-6)


def test_biases_norms_and_tokens_do_not_decay():
    model = tiny()
    optimizer = make_optimizer(model, get_recipe("imagenet"), 10)
    optimizer.build(model.trainable_variables)
    decayed = {each.path for each in model.trainable_variables if optimizer._use_weight_decay(each)}
    assert decayed
    assert all(path.endswith("kernel") for path in decayed)


def test_fine_tuning_is_slowest_at_the_stem():
    optimizer = make_optimizer(tiny(), dataclasses.replace(FINETUNE, ema_momentum=None), 10)
    peaks = sorted(float(each.learning_rate) for each in optimizer.optimizers)
    assert peaks[0] < peaks[-1]


def test_fields_of_recipe_and_augmentation_are_overridden():
    recipe = get_recipe("imagenet", epochs=3, mixup=0.0, crop_scale=(0.5, 1.0))
    assert (recipe.epochs, recipe.augmentation.mixup, recipe.augmentation.crop_scale) == (3, 0.0, (0.5, 1.0))
    assert recipe.augmentation.cutmix == IMAGENET.augmentation.cutmix


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epochs": 0}, "epochs 0 is too small"),
        ({"learning_rate": -1}, "learning_rate -1 is not positive"),
        ({"accumulation_steps": 3}, "cannot be cut into"),
        ({"optimizer": "adam"}, "optimizer 'adam' is unknown"),
        ({"layer_decay": 0.7, "clip_norm": 1.0}, "leave one of the two out"),
        ({"warmup_fraction": 1.0}, "warmup_fraction 1"),
    ],
)
def test_values_out_of_range_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("imagenet", **overrides)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'imagenet'"):
        get_recipe("imagnet")
    with pytest.raises(TypeError, match="did you mean 'epochs'"):
        get_recipe("imagenet", epoch=3)


def test_binary_targets_take_each_class_by_itself():
    recipe = get_recipe("finetune", loss="binary")
    logits = keras.ops.convert_to_tensor([[4.0, 4.0, -4.0]])
    right, wrong = (float(make_loss(recipe)(keras.ops.convert_to_tensor([target]), logits)) for target in
                    ([1.0, 1.0, 0.0], [0.0, 1.0, 0.0]))  # fmt: skip
    assert right == pytest.approx(np.log1p(np.exp(-4)), rel=1e-4)
    assert wrong > 1
    accuracy = make_metrics(recipe, 3)[0]
    accuracy.update_state([[1.0, 0.0, 0.0]], logits)
    assert float(accuracy.result()) == pytest.approx(2 / 3)


def test_metrics_of_several_classes_take_smoothed_targets_for_what_they_are_most():
    recipe = get_recipe("finetune", loss="binary")
    logits = np.array([[2.0, -1.0], [1.0, -3.0], [-2.0, 4.0]], "float32")
    target = np.array([[1, 0], [0, 0], [0, 1]], "float32")
    for metric in make_metrics(recipe, 2):
        metric.update_state(target, logits)
        wanted = float(metric.result())
        metric.reset_state()
        metric.update_state(target * 0.9 + 0.05, logits)
        assert float(metric.result()) == wanted
    assert wanted > 0.9  # the area; one of six decisions is wrong
