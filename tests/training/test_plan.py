import logging

import pytest

import keras_crossvit as kc
from keras_crossvit import save_checkpoint
from keras_crossvit.training import get_recipe, plan_training
from keras_crossvit.training.dry_run import describe_plan
from keras_crossvit.training.plan import list_classes
from tests.helpers import image_folders

RECIPE = get_recipe("finetune", batch_size=4)


def plan(data, **arguments):
    return plan_training(data, **{"model": "crossvit_9", "recipe": RECIPE, "validation_split": 0.25, **arguments})


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
