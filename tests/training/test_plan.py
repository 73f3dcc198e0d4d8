import pytest

import keras_crossvit as kc
from keras_crossvit import save_checkpoint
from keras_crossvit.training import get_recipe, plan_training
from keras_crossvit.training.dry_run import describe_plan
from keras_crossvit.training.plan import Plan, listed_classes
from tests.helpers import collections

RECIPE = get_recipe("finetune", batch_size=4)


def plan(data, **arguments) -> Plan:
    settings = {"model": "crossvit_9", "recipe": RECIPE, "validation_split": 0.25, "report": None}
    return plan_training(data, **{**settings, **arguments})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return collections.write_plain(tmp_path / "plain")


def test_settings_tell_other_images_from_as_many(folder, tmp_path):
    settings = plan(folder).settings()
    folder.rename(tmp_path / "elsewhere")
    moved = plan(tmp_path / "elsewhere").settings()
    assert moved["images"] == settings["images"]
    assert moved["data"] != settings["data"]
    assert plan(tmp_path / "elsewhere", seed=1).settings()["images"] != settings["images"]  # others are held out
    (tmp_path / "elsewhere" / "bleu" / "0.jpg").rename(tmp_path / "elsewhere" / "bleu" / "new.jpg")
    assert plan(tmp_path / "elsewhere").settings()["images"] != settings["images"]
    relabelled = (tmp_path / "elsewhere" / "rouge" / "0.jpg", tmp_path / "elsewhere" / "bleu" / "0.jpg")
    relabelled[0].rename(relabelled[1])
    assert plan(tmp_path / "elsewhere").settings()["images"]["sha256"] != settings["images"]["sha256"]


@pytest.mark.parametrize("alias", ["crossvit_9_240", "timm/crossvit_9_240.in1k", "CrossViT_9"])
def test_an_alias_of_the_model_is_the_same_run(folder, alias):
    assert plan(folder, model=alias).settings() == plan(folder).settings()


def test_images_of_one_class_alone_are_refused(folder, tmp_path):
    (tmp_path / "outer").mkdir()
    folder.rename(tmp_path / "outer" / "unpacked")
    with pytest.raises(ValueError, match=r"all pictures are of one class, 'unpacked', .* name the folder that holds"):
        plan(tmp_path / "outer")


def test_settings_name_files_by_their_whole_path(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("start.safetensors", "teacher.keras"):
        (tmp_path / name).touch()
    folder = folder.rename(tmp_path / "imagenet")  # a name of weights, and no less one of a folder
    settings = plan("imagenet", weights="start.safetensors", teacher="teacher.keras").settings()
    assert settings["data"] == str(folder)
    assert settings["weights"] == str(tmp_path / "start.safetensors")
    assert settings["teacher"] == str(tmp_path / "teacher.keras")
    assert plan("imagenet", weights="imagenet").settings()["weights"] == "imagenet"


def test_another_run_s_folder_stands_for_its_best_model(folder, tmp_path):
    run = tmp_path / "runs" / "pets"
    run.mkdir(parents=True)
    (run / "best.keras").touch()
    settings = plan(folder, weights=run, teacher=run).settings()
    assert settings["weights"] == settings["teacher"] == str(run / "best.keras")
    with pytest.raises(FileNotFoundError, match=r"no file '.*/runs'"):
        plan(folder, teacher=run.parent)


def test_how_weights_are_made_to_fit_is_reported_and_not_printed(folder, tmp_path, capsys):
    save_checkpoint(kc.crossvit_9(2, img_size=(48, 32)), tmp_path / "other.safetensors")
    recipe = get_recipe("finetune", batch_size=4, img_size=(48, 32))
    planned = plan(folder, weights=tmp_path / "other.safetensors", recipe=recipe)
    capsys.readouterr()
    planned.build_model()
    assert "\n            Head renewed" in describe_plan(planned)
    assert capsys.readouterr() == ("", "")


def test_settings_name_a_data_set_of_tensorflow_datasets_as_it_was_asked_for(monkeypatch):
    collections.stand_in_for_tensorflow_datasets(monkeypatch)
    assert plan("tfds:flowers", validation_split=None).settings()["data"] == "tfds:flowers"


def test_the_plan_and_the_dry_run_name_the_classes(folder):
    lines = []
    planned = plan(folder, report=lines.append)
    assert "3 classes: bleu, grün, rouge" in lines
    assert "\nClasses     bleu, grün, rouge\n" in describe_plan(planned)
    many = listed_classes([f"class-{i}" for i in range(1000)])
    assert many.startswith("class-0, class-1, ")
    assert many.endswith(" and 988 more")
    assert len(listed_classes(["a" * 250] * 1000)) < 500
