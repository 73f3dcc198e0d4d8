import keras
import numpy as np
import pytest

from keras_crossvit.training.recipes import IMAGENET, IMAGENET_408, QUICKSTART, RECIPES, TRANSFER, get_recipe


def learning_rates(recipe, steps_per_epoch):
    schedule = recipe.schedule(steps_per_epoch)
    return np.array([float(schedule(step)) for step in range(recipe.epochs * steps_per_epoch + 1)])


def test_imagenet_recipe_has_the_numbers_of_the_paper():
    assert IMAGENET.peak_learning_rate == pytest.approx(0.004)
    assert IMAGENET.warmup_fraction * IMAGENET.epochs == pytest.approx(30)
    assert (IMAGENET.epochs, IMAGENET.batch_size, IMAGENET.weight_decay) == (300, 4096, 0.05)
    assert (IMAGENET.drop_path_rate, IMAGENET.global_clipnorm, IMAGENET.optimizer) == (0.1, None, "adamw")
    augmentation = IMAGENET.augmentation
    assert (augmentation.mixup, augmentation.cutmix, augmentation.mix_switch) == (0.8, 1.0, 0.5)
    assert (augmentation.erasing, augmentation.label_smoothing, augmentation.repeats) == (0.25, 0.1, 3)


def test_transfer_recipe_has_the_numbers_of_the_paper():
    assert (TRANSFER.optimizer, TRANSFER.learning_rate, TRANSFER.batch_size) == ("sgd", 0.01, 768)
    assert TRANSFER.warmup_fraction * TRANSFER.epochs == pytest.approx(5)
    assert (TRANSFER.weight_decay, TRANSFER.augmentation.erasing, TRANSFER.drop_path_rate) == (1e-4, 0, 0)


def test_imagenet_408_recipe_has_the_numbers_of_deit():
    assert (IMAGENET_408.epochs, IMAGENET_408.batch_size, IMAGENET_408.weight_decay) == (30, 512, 1e-8)
    values = learning_rates(IMAGENET_408, steps_per_epoch=2)
    assert values[0] == pytest.approx(1e-6)
    assert values[10:] == pytest.approx(5e-6)


def test_learning_rate_rises_linearly_and_decays_by_a_cosine():
    values = learning_rates(IMAGENET, steps_per_epoch=2)
    assert values[0] == pytest.approx(1e-6)
    assert values[30] == pytest.approx((1e-6 + 0.004) / 2)
    assert values[60] == values.max() == pytest.approx(0.004)
    assert values[330] == pytest.approx((0.004 + 1e-5) / 2, rel=1e-3)
    assert values[-1] == pytest.approx(1e-5, rel=1e-3)
    values = learning_rates(QUICKSTART, steps_per_epoch=12)
    assert values[0] == 0
    assert values[-1] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", RECIPES)
def test_schedule_survives_keras_serialization(name):
    schedule = RECIPES[name].schedule(3)
    copy = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert [float(copy(step)) for step in (0, 5, 40)] == [float(schedule(step)) for step in (0, 5, 40)]


@pytest.mark.parametrize("updates", [1, 6, 40, 300, 5000])
def test_ema_of_a_short_run_forgets_the_initial_weights(updates):
    recipe = get_recipe("finetune", epochs=1, batch_size=8, gradient_accumulation_steps=2)
    momentum = recipe.effective_ema_momentum(2 * updates)
    assert momentum**updates < 0.1
    assert (momentum == recipe.ema_momentum) == (updates >= 990)


def test_overrides_apply_to_recipe_and_augmentation():
    recipe = get_recipe("imagenet", epochs=3, mixup=0.0, crop_scale=(0.5, 1.0))
    assert (recipe.epochs, recipe.augmentation.mixup, recipe.augmentation.crop_scale) == (3, 0.0, (0.5, 1.0))
    assert recipe.augmentation.cutmix == IMAGENET.augmentation.cutmix


@pytest.mark.parametrize(
    ("overrides", "value"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"learning_rate": -1}, "learning_rate -1"),
        ({"weight_decay": -0.5}, "weight_decay -0.5"),
        ({"gradient_accumulation_steps": 3}, "gradient_accumulation_steps 3"),
        ({"optimizer": "adam"}, "'adam'"),
        ({"layer_decay": 0.7, "global_clipnorm": 1.0}, "layer_decay 0.7"),
        ({"warmup_fraction": 1.0}, "warmup_fraction 1"),
    ],
)
def test_invalid_values_are_named(overrides, value):
    with pytest.raises(ValueError, match=value):
        get_recipe("imagenet", **overrides)


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="'imagenet'"):
        get_recipe("imagnet")
    with pytest.raises(TypeError, match="'epochs'"):
        get_recipe("imagenet", epoch=3)
