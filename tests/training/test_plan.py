import logging

import keras
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit import save_checkpoint
from keras_crossvit.cli import main as cli
from keras_crossvit.training import get_recipe, plan_training
from keras_crossvit.training import plan as plan_module
from keras_crossvit.training.dry_run import describe_plan
from keras_crossvit.training.plan import list_classes
from tests.helpers import image_folders
from tests.helpers.models import tiny

RECIPE = get_recipe("finetune", batch_size=4)


def plan(data, **arguments):
    settings = {"model": "crossvit_9", "recipe": RECIPE, "weights": "none", "validation_split": 0.25, **arguments}
    return plan_training(data, **settings)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return image_folders.write_plain(tmp_path / "plain")


def test_settings_identify_the_images(folder, tmp_path):
    settings = plan(folder).settings()
    folder = folder.rename(tmp_path / "elsewhere")
    moved = plan(folder).settings()
    assert moved["images"] == settings["images"]
    assert moved["data"] != settings["data"]
    assert plan(folder, seed=1).settings()["images"] != settings["images"]  # another validation set
    (folder / "bleu" / "0.jpg").rename(folder / "bleu" / "new.jpg")
    assert plan(folder).settings()["images"] != settings["images"]
    (folder / "rouge" / "0.jpg").rename(folder / "bleu" / "0.jpg")
    assert plan(folder).settings()["images"]["sha256"] != settings["images"]["sha256"]


@pytest.mark.parametrize("alias", ["crossvit_9_240", "timm/crossvit_9_240.in1k", "CrossViT_9"])
def test_an_alias_of_the_model_is_the_same_run(folder, alias):
    assert plan(folder, model=alias).settings() == plan(folder).settings()


@pytest.mark.parametrize("other", [keras.Sequential([keras.layers.Dense(2)]), 9])
def test_another_model_is_refused_before_images_are_read(other):
    with pytest.raises(TypeError, match=f"Expected a CrossViT, got {type(other).__name__}"):
        plan("nowhere", model=other)


def test_a_dataset_has_the_class_names_of_the_model():
    model = tiny(3, class_names=["x", "y", "z"])
    arguments = {"model": model, "weights": None, "validation_split": None}
    assert plan(image_folders.dataset(), **arguments).dataset.class_names == ("x", "y", "z")
    assert plan(image_folders.dataset(), class_names="abc", **arguments).dataset.class_names == ("a", "b", "c")


def test_a_dataset_in_another_order_each_time_is_said_not_to_resume_exactly(folder, caplog):
    for shuffle in (True, False):
        dataset = keras.utils.image_dataset_from_directory(
            folder, image_size=(20, 20), batch_size=5, shuffle=shuffle, verbose=False
        )
        caplog.clear()
        planned = plan(dataset, validation_split=None)
        assert planned.dataset.class_names == tuple(sorted(image_folders.COLOURS))
        assert planned.steps_per_epoch == 6
        assert any("another order" in message for message in caplog.messages) == shuffle


def test_one_hot_labels_are_to_be_class_numbers():
    one_hot = image_folders.dataset(labels=np.eye(3, dtype="int32")[np.arange(12) % 3])
    with pytest.raises(ValueError, match=r"'softmax'.*tf.argmax.*loss='binary'"):
        plan(one_hot, class_names="abc", validation_split=None)


def test_a_single_class_is_refused(folder, tmp_path):
    (tmp_path / "outer").mkdir()
    folder.rename(tmp_path / "outer" / "unpacked")
    with pytest.raises(ValueError, match="'unpacked'"):
        plan(tmp_path / "outer")


def test_settings_have_absolute_paths(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("start.safetensors", "teacher.keras"):
        (tmp_path / name).touch()
    folder = folder.rename(tmp_path / "imagenet")  # as data a folder, as weights the published ones
    settings = plan("imagenet", weights="start.safetensors", teacher="teacher.keras").settings()
    assert settings["data"] == str(folder)
    assert settings["weights"] == str(tmp_path / "start.safetensors")
    assert settings["teacher"] == str(tmp_path / "teacher.keras")
    monkeypatch.setattr(plan_module, "weights_of", lambda model, weights: tmp_path / "start.safetensors")
    assert plan("imagenet", weights="imagenet").settings()["weights"] == "imagenet"


def test_a_run_folder_stands_for_its_best_model(folder, tmp_path):
    run = tmp_path / "runs" / "pets"
    run.mkdir(parents=True)
    (run / "best.keras").touch()
    settings = plan(folder, weights=run, teacher=run).settings()
    assert settings["weights"] == settings["teacher"] == str(run / "best.keras")
    with pytest.raises(FileNotFoundError, match="/runs'"):
        plan(folder, teacher=run.parent)


def test_adapted_weights_are_logged_and_not_printed(folder, tmp_path, capsys, caplog):
    save_checkpoint(kc.crossvit_9(2, img_size=(48, 32)), tmp_path / "other.safetensors")
    recipe = get_recipe("finetune", batch_size=4, img_size=(48, 32))
    planned = plan(folder, weights=tmp_path / "other.safetensors", recipe=recipe)
    capsys.readouterr()
    with caplog.at_level(logging.INFO, "keras_crossvit"):
        planned.build_model()
    assert "head" in caplog.text.lower()
    assert capsys.readouterr() == ("", "")


def test_settings_name_a_tensorflow_dataset_as_given(monkeypatch):
    image_folders.stand_in_for_tensorflow_datasets(monkeypatch)
    assert plan("tfds:flowers", validation_split=None).settings()["data"] == "tfds:flowers"


def test_classes_are_logged_and_described(folder, caplog):
    with caplog.at_level(logging.INFO, "keras_crossvit"):
        planned = plan(folder)
    assert "3 classes: bleu, grün, rouge" in caplog.messages
    assert "\nClasses     bleu, grün, rouge\n" in describe_plan(planned)
    many = list_classes([f"class-{i}" for i in range(1000)])
    assert many.startswith("class-0, class-1, ")
    assert many.endswith(" and 988 more")
    assert len(list_classes(["a" * 250] * 1000)) < 500


@pytest.mark.parametrize(
    ("recipe", "weights", "starts_from", "warning"),
    [
        ("finetune", None, "imagenet", ""),
        ("transfer", None, "imagenet", ""),
        ("imagenet", None, None, ""),
        ("scratch", None, None, ""),
        ("finetune", "none", None, "meant for pretrained weights"),
        ("transfer", "none", None, "meant for pretrained weights"),
        ("imagenet", "imagenet", "imagenet", "meant for random initialization"),
    ],
)
def test_a_recipe_says_what_it_starts_from(recipe, weights, starts_from, warning, folder, monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(plan_module, "weights_of", lambda *arguments: asked.append(arguments))
    planned = plan(folder, recipe=get_recipe(recipe, batch_size=4, repeats=1), weights=weights)
    assert planned.settings()["weights"] == starts_from
    assert asked == ([] if starts_from is None else [("crossvit_9", "imagenet")])
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)


def test_a_recipe_that_continues_a_training_needs_its_weights():
    with pytest.raises(ValueError, match="--weights FILE"):
        plan("nowhere", recipe="imagenet_408", weights=None)


def test_without_the_hub_one_line_says_what_else_to_start_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert cli.main(["train", str(tmp_path), "--dry-run"]) == cli.EXIT_MISTAKE  # before the images are looked for
    (error,) = capsys.readouterr().err.splitlines()
    for remedy in ('weights="path/to/model.safetensors"', "--recipe scratch", "--weights none"):
        assert remedy in error
