import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_crossvit.pipeline import open_dataset
from keras_crossvit.pipeline.folders import stratified_split
from tests.helpers import image_folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return image_folders.write_plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(autouse=True)
def _own_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


def test_a_share_of_each_class_is_held_out(folder):
    dataset = open_dataset(folder, validation_split=0.25)
    assert dataset.class_names == ("bleu", "grün", "rouge")
    np.testing.assert_array_equal(np.bincount(dataset.training.labels), [6, 6, 6])
    np.testing.assert_array_equal(np.bincount(dataset.validation.labels), [2, 2, 2])
    assert not set(dataset.training.files) & set(dataset.validation.files)
    again, other = (open_dataset(folder, validation_split=0.25, seed=seed) for seed in (0, 1))
    assert again.validation.files == dataset.validation.files != other.validation.files


@pytest.mark.parametrize(("images", "share"), [(2, 0.26), (3, 0.17), (8, 0.07), (10, 0.06), (100, 0.006)])
def test_a_share_that_holds_nothing_out_names_one_that_does(images, share):
    labels = np.repeat([0, 1], [images, 2])
    too_small = round(share - 0.1 ** len(str(share)[2:]), 6)
    with pytest.raises(ValueError, match=rf"validation_split {too_small} holds no picture out, .* use {share} or more"):
        stratified_split(labels, too_small, 0)
    assert len(stratified_split(labels, share, 0)[1])


def test_classes_of_one_image_cannot_be_held_out(tmp_path):
    image_folders.write_plain(tmp_path / "plain", 1)
    with pytest.raises(ValueError, match="each class has but one; add some, or give a folder 'val'"):
        open_dataset(tmp_path / "plain", validation_split=0.9)


def test_folders_of_their_own_are_taken_as_they_are(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        image_folders.write_plain(tmp_path / split, count)
    dataset = open_dataset(tmp_path)
    assert (len(dataset.training), len(dataset.validation)) == (9, 6)
    with pytest.raises(ValueError, match=r"validation_split 0\.1 has no use here"):
        open_dataset(tmp_path, validation_split=0.1)
    (tmp_path / "val" / "violet").mkdir()
    with pytest.raises(ValueError, match="violet' is of a class without training pictures"):
        open_dataset(tmp_path)


def test_held_out_images_may_be_of_classes_named_as_splits_are(tmp_path):
    for split in ("train", "val"):
        for name in ("bus", "train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "0.png")
    dataset = open_dataset(tmp_path, validation_only=True)
    assert dataset.class_names == ("bus", "train", "val")
    assert [Path(path).parent.parent.name for path in dataset.training.files] == ["val"] * 3
    assert dataset.validation is None
    shutil.rmtree(tmp_path / "val")
    assert open_dataset(tmp_path, validation_only=True).class_names == ("bus", "train", "val")


@pytest.mark.parametrize("validation_only", [False, True])
@pytest.mark.parametrize("name", ["train", "valid"])
def test_a_folder_of_files_alone_is_a_class_whatever_its_name(tmp_path, name, validation_only):
    for folder in ("bus", name):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "0.png")
    assert open_dataset(tmp_path, validation_only=validation_only).class_names == ("bus", name)
    (tmp_path / name / "deeper").mkdir()
    with pytest.raises(ValueError, match=r"may be the pictures of a split|but no 'train'"):
        open_dataset(tmp_path, validation_only=validation_only)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "holds no folders"),
        (lambda folder: (folder / "empty").mkdir(), "holds no readable picture"),
        (
            lambda folder: [image_folders.write_plain(folder, 1), (folder / "empty").mkdir()],
            "class 'empty' has no readable picture",
        ),
        (lambda folder: (folder / "val" / "a").mkdir(parents=True), "holds 'val' but no 'train'"),
        (lambda folder: [(folder / name / "a").mkdir(parents=True) for name in ("train", "training")], "holds both"),
    ],
)
def test_odd_folders_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_dataset(tmp_path)


def write_images(root, *folders):
    """Writes an image into each folder."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / folder / "0.png")
    return root


def both(split):
    return f"{split}/glioma", f"{split}/none"


def splits_of(dataset):
    """Number of images, and the names of the folders two above them, of both splits."""
    return [
        sorted({Path(path).parent.parent.name for path in split.files}) if split else None
        for split in (dataset.training, dataset.validation)
    ]


@pytest.mark.parametrize(
    ("training", "validation", "test"),
    [
        ("Training", "Validation", "Testing"),
        ("TRAIN", "VALID", "TEST"),
        ("train_set", "val_set", "test_set"),
        ("images_train", "images_dev", "images_test"),
        ("train2017", "val2017", "test2017"),
        ("training-data", "eval", None),
        ("training", "validation", "evaluation"),
        ("pets_train", "pets_val", "pets_test"),
    ],
)
def test_splits_of_any_spelling_are_used_and_test_is_left(tmp_path, training, validation, test):
    write_images(tmp_path, *(folder for split in (training, validation, test) if split for folder in both(split)))
    lines = []
    dataset = open_dataset(tmp_path, report=lines.append)
    assert dataset.class_names == ("glioma", "none")
    assert splits_of(dataset) == [[training], [validation]]
    assert [line for line in lines if f"'{tmp_path / str(test)}' is left for evaluate" in line] or test is None
    assert splits_of(open_dataset(tmp_path, validation_only=True)) == [[validation], None]


@pytest.mark.parametrize("names", [("Training", "Testing"), ("Train", "Test"), ("seg_train", "seg_test")])
def test_test_images_are_neither_a_class_nor_a_validation_split(tmp_path, names):
    write_images(tmp_path, *both(names[0]), *both(names[1]))
    lines = []
    dataset = open_dataset(tmp_path, report=lines.append)
    assert dataset.class_names == ("glioma", "none")
    assert splits_of(dataset) == [[names[0]], None]
    assert f"'{tmp_path / names[1]}' is left for evaluate" in "\n".join(lines)
    with pytest.raises(ValueError, match="each class has but one"):  # as of any folder without validation images
        open_dataset(tmp_path, validation_split=0.5)


def test_a_split_may_lie_in_a_folder_of_its_own_name(tmp_path):
    write_images(tmp_path, *both("seg_train/seg_train"), *both("seg_test/seg_test"))
    assert open_dataset(tmp_path).class_names == ("glioma", "none")


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        ((*both("entrenamiento"), *both("prueba")), ["entrenamiento", "prueba", "glioma", "'train'"]),
        ((*both("entrenamiento"), *both("prueba"), "entrenamiento"), ["entrenamiento", "prueba"]),
        (("学習/猫", "学習/犬", "試験/猫"), ["学習", "試験", "猫"]),
        ((*both("entrenamiento"), *both("test")), ["'test'", "no 'train'"]),
        (both("Test"), ["'Test'", "give"]),
        (("glioma/train", "glioma/test", "none/train", "none/test"), ["glioma", "train", "train/glioma"]),
        ((*both("brain/Training"), *both("brain/Testing")), ["brain' holds 'Training'", "brain' itself"]),
        ((*both("fold1/train"), *both("fold2/train")), ["fold1' holds 'train'"]),
        (("train", "test"), ["'train'", "'test'", "names of splits"]),
        (("Training", "Validation", "Testing"), ["'Training'", "names of splits"]),
        ((*both("train"), *both("training")), ["holds both 'train' and 'training'"]),
        ((*both("Train"), *both("train")), ["holds both 'Train' and 'train'"]),
        ((*both("train"), *both("val"), *both("dev")), ["holds both 'dev' and 'val'"]),
        ((*both("train"), "bus", "car"), ["'bus' lies beside it"]),
        ((*both("train"), "bus/2019", "car/2020"), ["'bus' lies beside it"]),
    ],
)
@pytest.mark.parametrize("validation_only", [False, True])
def test_what_looks_like_splits_is_never_read_as_classes(tmp_path, folders, named, validation_only):
    write_images(tmp_path, *folders)
    with pytest.raises(ValueError, match=re.escape(named[0])) as refused:
        open_dataset(tmp_path, validation_only=validation_only)
    assert all(name in str(refused.value) for name in named), refused.value


def test_classes_of_the_same_folders_are_taken_where_their_split_is_named(tmp_path):
    write_images(tmp_path, "cat/2019", "cat/2020", "dog/2019")
    with pytest.raises(ValueError, match="put all of them into a folder 'train'"):
        open_dataset(tmp_path)
    write_images(tmp_path / "collection", "train/cat/2019", "train/cat/2020", "train/dog/2019")
    assert open_dataset(tmp_path / "collection").class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["train", "test", "Testing", "dev"])
def test_a_folder_of_images_beside_others_is_a_class(tmp_path, name):
    write_images(tmp_path, "bus", "car", name)
    assert sorted(open_dataset(tmp_path).class_names) == sorted(["bus", "car", name])


def test_folders_of_other_files_beside_a_split_are_no_classes(tmp_path):
    write_images(tmp_path, *both("train"))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").touch()
    assert open_dataset(tmp_path).class_names == ("glioma", "none")


def test_names_of_folders_that_are_not_utf_8_are_names_of_classes(tmp_path):
    write_images(tmp_path, os.fsdecode(b"caf\xe9"), "tea")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("caf\\udce9", "tea")
    assert len(dataset.training) == 2
