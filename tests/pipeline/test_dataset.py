import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_crossvit.pipeline import open_dataset
from keras_crossvit.pipeline.dataset import stratified_split
from tests.helpers import image_folders


def test_validation_split_takes_a_fraction_of_each_class(folder):
    dataset = open_dataset(folder, validation_split=0.25)
    assert dataset.class_names == ("bleu", "grün", "rouge")
    np.testing.assert_array_equal(np.bincount(dataset.training.labels), [6, 6, 6])
    np.testing.assert_array_equal(np.bincount(dataset.validation.labels), [2, 2, 2])
    assert not set(dataset.training.files) & set(dataset.validation.files)
    again, other = (open_dataset(folder, validation_split=0.25, seed=seed) for seed in (0, 1))
    assert again.validation.files == dataset.validation.files != other.validation.files


@pytest.mark.parametrize(("images", "fraction"), [(2, 0.26), (3, 0.17), (8, 0.07), (10, 0.06), (100, 0.006)])
def test_too_small_a_validation_split_names_one_that_is_large_enough(images, fraction):
    labels = np.repeat([0, 1], [images, 2])
    too_small = round(fraction - 0.1 ** len(str(fraction)[2:]), 6)
    with pytest.raises(ValueError, match=rf"validation_split {too_small} .* {fraction} or more"):
        stratified_split(labels, too_small, 0)
    assert len(stratified_split(labels, fraction, 0)[1])


def test_classes_of_one_image_cannot_be_split(tmp_path):
    image_folders.write_plain(tmp_path / "plain", 1)
    with pytest.raises(ValueError, match=r"validation_split 0\.9 .* only one image"):
        open_dataset(tmp_path / "plain", validation_split=0.9)


def test_split_folders_are_used_as_they_are(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        image_folders.write_plain(tmp_path / split, count)
    dataset = open_dataset(tmp_path)
    assert (len(dataset.training), len(dataset.validation)) == (9, 6)
    with pytest.raises(ValueError, match=r"validation_split 0\.1"):
        open_dataset(tmp_path, validation_split=0.1)
    (tmp_path / "val" / "violet").mkdir()
    with pytest.raises(ValueError, match="violet' is a class without training images"):
        open_dataset(tmp_path)


def test_validation_classes_may_be_named_like_splits(tmp_path):
    for split in ("train", "val"):
        for name in ("bus", "train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "0.png")
    dataset = open_dataset(tmp_path, split="validation")
    assert dataset.class_names == ("bus", "train", "val")
    assert [Path(path).parent.parent.name for path in dataset.training.files] == ["val"] * 3
    assert dataset.validation is None
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(ValueError, match="no validation split"):
        open_dataset(tmp_path, split="validation")


@pytest.mark.parametrize("name", ["train", "valid"])
def test_folder_with_only_files_is_a_class_whatever_its_name(tmp_path, name):
    for folder in ("bus", name):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "0.png")
    assert open_dataset(tmp_path).class_names == ("bus", name)
    (tmp_path / name / "deeper").mkdir()
    with pytest.raises(ValueError, match=r"may be a split or a class|but no 'train'"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "has no folders"),
        (lambda folder: (folder / "_classes.csv").write_text("filename,a"), "has no folders.*'labels.csv'"),
        (lambda folder: (folder / "empty").mkdir(), "no readable image"),
        (
            lambda folder: [image_folders.write_plain(folder, 1), (folder / "empty").mkdir()],
            "Class 'empty'",
        ),
        (lambda folder: (folder / "val" / "a").mkdir(parents=True), "'val' but no 'train'"),
        (lambda folder: [(folder / name / "a").mkdir(parents=True) for name in ("train", "training")], "has both"),
    ],
)
def test_invalid_folders_are_refused(tmp_path, make, message):
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
def test_splits_of_any_spelling_are_used_except_test(tmp_path, caplog, training, validation, test):
    write_images(tmp_path, *(folder for split in (training, validation, test) if split for folder in both(split)))
    caplog.set_level("INFO", logger="keras_crossvit")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("glioma", "none")
    assert splits_of(dataset) == [[training], [validation]]
    assert f"validation: 2 images in '{tmp_path / validation}'" in caplog.text
    assert splits_of(open_dataset(tmp_path, split="validation")) == [[validation], None]
    if test is not None:
        assert f"test: 2 files in '{tmp_path / test}', used only by evaluate" in caplog.text
        assert splits_of(open_dataset(tmp_path, split="test")) == [[test], None]


@pytest.mark.parametrize("names", [("Training", "Testing"), ("Train", "Test"), ("seg_train", "seg_test")])
def test_test_images_are_neither_a_class_nor_a_validation_split(tmp_path, caplog, names):
    write_images(tmp_path, *both(names[0]), *both(names[1]))
    caplog.set_level("INFO", logger="keras_crossvit")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("glioma", "none")
    assert splits_of(dataset) == [[names[0]], None]
    assert f"test: 2 files in '{tmp_path / names[1]}', used only by evaluate" in caplog.text
    with pytest.raises(ValueError, match="only one image"):  # as of any folder without validation images
        open_dataset(tmp_path, validation_split=0.5)


def test_split_may_be_inside_a_folder_of_the_same_name(tmp_path):
    write_images(tmp_path, *both("seg_train/seg_train"), *both("seg_test/seg_test"))
    assert open_dataset(tmp_path).class_names == ("glioma", "none")


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        ((*both("entrenamiento"), *both("prueba")), ["entrenamiento", "prueba", "glioma", "'train'"]),
        ((*both("entrenamiento"), *both("prueba"), "entrenamiento"), ["entrenamiento", "prueba"]),
        (("学習/猫", "学習/犬", "試験/猫"), ["学習", "試験", "猫"]),
        ((*both("entrenamiento"), *both("test")), ["'test'", "no 'train'"]),
        (both("Test"), ["'Test'", "pass"]),
        (("glioma/train", "glioma/test", "none/train", "none/test"), ["glioma", "train", "train/glioma"]),
        ((*both("brain/Training"), *both("brain/Testing")), ["brain' has a folder 'Training'", "brain' itself"]),
        ((*both("fold1/train"), *both("fold2/train")), ["fold1' has a folder 'train'"]),
        (("train", "test"), ["'train'", "'test'", "names of splits"]),
        (("Training", "Validation", "Testing"), ["'Training'", "names of splits"]),
        ((*both("train"), *both("training")), ["has both 'train' and 'training'"]),
        ((*both("Train"), *both("train")), ["has both 'Train' and 'train'"]),
        ((*both("train"), *both("val"), *both("dev")), ["has both 'dev' and 'val'"]),
        ((*both("train"), "bus", "car"), ["'bus' is next to it"]),
        ((*both("train"), "bus/2019", "car/2020"), ["'bus' is next to it"]),
    ],
)
def test_folders_that_look_like_splits_are_never_classes(tmp_path, folders, named):
    write_images(tmp_path, *folders)
    with pytest.raises(ValueError, match=re.escape(named[0])) as refused:
        open_dataset(tmp_path)
    assert all(name in str(refused.value) for name in named), refused.value


def test_classes_with_the_same_subfolders_need_a_train_folder(tmp_path):
    write_images(tmp_path, "cat/2019", "cat/2020", "dog/2019")
    with pytest.raises(ValueError, match="put all of them into a folder 'train'"):
        open_dataset(tmp_path)
    write_images(tmp_path / "collection", "train/cat/2019", "train/cat/2020", "train/dog/2019")
    assert open_dataset(tmp_path / "collection").class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["train", "test", "Testing", "dev"])
def test_split_name_beside_classes_is_a_class(tmp_path, name):
    write_images(tmp_path, "bus", "car", name)
    assert sorted(open_dataset(tmp_path).class_names) == sorted(["bus", "car", name])


def test_folders_of_other_files_beside_a_split_are_not_classes(tmp_path):
    write_images(tmp_path, *both("train"))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "all.json").touch()
    assert open_dataset(tmp_path).class_names == ("glioma", "none")


def test_class_names_of_folders_that_are_not_utf_8_are_printable(tmp_path):
    write_images(tmp_path, os.fsdecode(b"caf\xe9"), "tea")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("caf\\udce9", "tea")
    assert len(dataset.training) == 2


def test_a_tenth_of_each_class_is_used_for_validation_unless_there_is_a_split_or_none_is_wanted(
    folder, tmp_path, caplog
):
    caplog.set_level("INFO", logger="keras_crossvit")
    dataset = open_dataset(folder)
    np.testing.assert_array_equal(np.bincount(dataset.validation.labels), [1, 1, 1])
    assert dataset.validation_split == 0.1
    assert dataset.validation.files == open_dataset(folder, validation_split=0.1).validation.files
    assert f"validation: 3 images, 10 % of each class in '{folder}'" in caplog.text
    assert open_dataset(folder, validation_split=0).validation is None
    few = open_dataset(image_folders.write_plain(tmp_path / "few", 4))  # a tenth is less than half an image
    assert (few.validation, few.validation_split) == (None, 0.0)


def test_what_is_ignored_is_named(tmp_path, caplog):
    write_images(tmp_path, *both("train"), *both("test"), "train")
    Image.new("RGB", (8, 8)).save(tmp_path / "poster.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "README.md").touch()
    (tmp_path / "metadata.csv").write_text("file_name,text\ntrain/glioma/0.png,a scan\n")  # captions, not classes
    caplog.set_level("INFO", logger="keras_crossvit")
    assert open_dataset(tmp_path).class_names == ("glioma", "none")
    assert "ignored: 'annotations', 'metadata.csv', 'poster.png', 'train/0.png'" in caplog.text


def test_split_without_classes_is_ignored_and_named(tmp_path, caplog):
    write_images(tmp_path, *both("train"), "test")
    caplog.set_level("INFO", logger="keras_crossvit")
    assert open_dataset(tmp_path).validation is None
    assert "ignored: 'test'" in caplog.text
    with pytest.raises(ValueError, match="no test split"):
        open_dataset(tmp_path, split="test")


def test_imagenet_as_kaggle_has_it(tmp_path):
    images = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    write_images(images, "train/n01440764", "train/n02102040", "test")
    (images / "val").mkdir()
    for i in (1, 2):
        Image.new("RGB", (8, 8)).save(images / "val" / f"ILSVRC2012_val_{i}.JPEG")
    rows = [
        "ImageId,PredictionString",
        "ILSVRC2012_val_2,n01440764 1 2 3 4",
        "ILSVRC2012_val_1,n02102040 5 6 7 8 n02102040 5 6 7 8",
    ]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join([*rows, ""]))
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("n01440764", "n02102040")
    assert [Path(path).name for path in dataset.validation.files] == ["ILSVRC2012_val_2.JPEG", "ILSVRC2012_val_1.JPEG"]
    assert dataset.validation.labels.tolist() == [0, 1]
    assert open_dataset(tmp_path, split="validation").training.labels.tolist() == [0, 1]
