import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_crossvit import CrossViTError, variant_config
from keras_crossvit.cli import main as cli
from keras_crossvit.training.recipes import (
    IMAGENET,
    IMAGENET_408,
    QUICKSTART,
    RECIPES,
    TRANSFER,
    get_recipe,
    recipe_toml,
)


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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("augmentation", "none"),
        ("augmentation", None),
        ("learning_rate", 1e308),
        ("weight_decay", 1e9),
        ("epochs", 10**30),
        ("batch_size", 10**9),
        ("rand_augment_ops", 100_000),
        ("repeats", 1_000_000),
        ("crop_ratio", (1e-300, 1.0)),
        ("crop_ratio", (1.0, 1e300)),
        ("mixup", 1e9),
        ("rand_augment_magnitude_std", 1e9),
    ],
)
def test_values_far_outside_of_all_use_are_refused_with_a_line(field, value):
    with pytest.raises(CrossViTError, match=f"^{field} ") as raised:
        get_recipe("finetune", **{field: value})
    assert "use " in str(raised.value)


@pytest.mark.parametrize("field", ["loss", "batch_size", "gradient_accumulation_steps", "final_learning_rate"])
def test_only_fields_that_may_be_none_are(field, tmp_path):
    (tmp_path / "recipe.toml").write_text(f'base = "finetune"\nlayer_decay = "none"\n{field} = "none"\n')
    with pytest.raises(CrossViTError, match=f"^{field} cannot be none"):
        get_recipe(tmp_path / "recipe.toml")


def test_integers_without_end_in_a_file_are_refused(tmp_path):
    for field in ("epochs", "repeats", "learning_rate"):
        (tmp_path / "recipe.toml").write_text(f'base = "finetune"\n{field} = 0x{"f" * 5000}\n')
        with pytest.raises(CrossViTError, match=f"^{field} of 20000 bits"):
            get_recipe(tmp_path / "recipe.toml")


@pytest.mark.parametrize("img_size", [(240_000, 224_000), (10**9, 224), ((240, 8_304), 224)])
def test_image_sizes_far_outside_of_all_use_are_refused(img_size):
    with pytest.raises(ValueError, match=r"^img_size .* is above 8192"):
        variant_config("crossvit_9_dagger", img_size=img_size)


@pytest.mark.parametrize("name", RECIPES)
def test_a_printed_recipe_is_the_same_recipe_as_a_file(name, tmp_path, capsys):
    assert cli.main(["train", "--recipe", name, "--print-recipe"]) == 0
    (tmp_path / "own.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert get_recipe(tmp_path / "own.toml") == RECIPES[name]
    assert get_recipe(tmp_path / "own.toml", batch_size=96).batch_size == 96


def test_values_that_toml_writes_in_another_way_are_read_as_they_were(tmp_path):
    recipe = get_recipe("finetune", source='tab \t "quoted" \x7f ü 𝄞 \\', img_size=((48, 36), 32), crop_scale=None)
    (tmp_path / "own.toml").write_text(recipe_toml(recipe), encoding="utf-8")
    assert get_recipe(tmp_path / "own.toml") == recipe


def test_a_file_may_change_another_recipe_and_a_run_is_one(tmp_path):
    (tmp_path / "own.toml").write_text(
        'base = "finetune"\nepochs = 3\nlayer_decay = "none"\n[augmentation]\nmixup = 0.2\n'
    )
    recipe = get_recipe(tmp_path / "own.toml")
    assert recipe == get_recipe("finetune", epochs=3, layer_decay=None, mixup=0.2)
    (tmp_path / "config.json").write_text(json.dumps({"recipe": dataclasses.asdict(recipe)}))
    assert get_recipe(tmp_path) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs 3", "is not a recipe in TOML"),
        (b"\xff", "is not a recipe in TOML"),
        ("a = " + "[" * 100_000, "recursion depth"),
        ("#" * 2**21, "more than 1,048,576 bytes"),
        ("epochs = 3", "has no source, expected, batch_size"),
        ('base = "finetun"', "'finetune'"),
        ('base = "finetune"\nepoch = 3', "'epochs'"),
        ('base = "finetune"\nepochs = 0', "epochs 0"),
        ('base = "finetune"\nsource = 3', "source 3"),
        ("augmentation = 3", "has no recipe"),
        (None, "--print-recipe"),
    ],
)
def test_a_file_that_is_not_a_recipe_is_one_line(text, message, tmp_path, capsys):
    if text is not None:
        (tmp_path / "own.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    assert cli.main(["train", "--recipe", str(tmp_path / "own.toml"), "--print-recipe"]) == cli.EXIT_MISTAKE
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


@pytest.mark.parametrize("field", ["optimizer", "probe", "crop_ratio"])
@pytest.mark.parametrize("value", ["0x{}", "[0x{}]"])
def test_an_integer_of_thousands_of_digits_for_another_value_is_one_line(field, value, tmp_path):
    (tmp_path / "recipe.toml").write_text(f'base = "finetune"\n{field} = {value.format(5000 * "f")}\n')
    with pytest.raises(CrossViTError, match=f"^{field} with an integer of thousands of digits is "):
        get_recipe(tmp_path / "recipe.toml")
