import dataclasses
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from keras_crossvit.pipeline import Augmentation, evaluation_batches, open_dataset, training_batches
from tests.helpers import image_folders

CONFIG = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32))
ONCE = Augmentation(repeats=1, rand_augment_ops=0)
BATCH = 4


def test_dataset_of_images_and_labels_is_trained_and_evaluated_on():
    dataset = open_dataset((image_folders.dataset(), image_folders.dataset(6)), class_names=list(image_folders.COLOURS))
    plain = Augmentation(repeats=1, mixup=0.0, cutmix=0.0, rand_augment_ops=0, erasing=0.0, label_smoothing=0.0)
    colours = np.array(list(image_folders.COLOURS.values()))
    shown = 0
    for (images, _), targets in training_batches(dataset, CONFIG, plain, BATCH, seed=0, epoch=0):
        means = (np.mean(images, axis=(1, 2)) * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
        nearest = np.linalg.norm(means[:, None] - colours, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, np.argmax(targets, axis=1))
        shown += len(means)
    assert shown == 12
    assert sum(len(target) for _, target in evaluation_batches(dataset, CONFIG, BATCH)) == 6
    first, resumed = (
        [np.asarray(image) for (image, _), _ in training_batches(dataset, CONFIG, ONCE, BATCH, seed=0, epoch=0, **skip)]
        for skip in ({}, {"skip_batches": 2})
    )
    np.testing.assert_array_equal(first[2:], resumed)


@pytest.mark.parametrize("skipped", [0, 2])
def test_number_of_batches_is_known_before_reading(skipped):
    dataset = open_dataset(image_folders.dataset(), class_names=list(image_folders.COLOURS))
    assert int(training_batches(dataset, CONFIG, ONCE, BATCH, seed=0, epoch=0, skip_batches=skipped).cardinality()) == (
        3 - skipped
    )


def test_multi_label_targets_are_smoothed_towards_one_half():
    labels = np.array([[1, 0, 1], [0, 0, 0]] * 6, "int32")
    dataset = open_dataset(image_folders.dataset(labels=labels), class_names="abc")
    augmentation = dataclasses.replace(Augmentation.none(), label_smoothing=0.1)
    targets = next(iter(training_batches(dataset, CONFIG, augmentation, 12, seed=0, epoch=0)))[1]
    assert sorted(np.asarray(targets).tolist())[-1] == pytest.approx([0.95, 0.05, 0.95])


def test_label_outside_the_classes_stops_reading():
    dataset = open_dataset(image_folders.dataset(labels=np.array([0, 1, 3] * 4)), class_names="abc")
    with pytest.raises(tf.errors.InvalidArgumentError, match="no such class"):
        list(evaluation_batches(dataset, CONFIG, BATCH, split="training"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (image_folders.dataset().map(lambda image, label: (tf.cast(image, tf.int32), label)), "int32 are not"),
        (image_folders.dataset().map(lambda image, label: (image / 255, label)), "values up to .* 0 to 255"),
        (
            image_folders.dataset().map(lambda image, label: (image[..., :2], label)),
            r"2\) .*are not .height, width, 1 or",
        ),
        (image_folders.dataset().map(lambda image, label: image), "not pairs"),
        (image_folders.dataset().repeat(), "never ends"),
        (image_folders.dataset().repeat().batch(2), "never ends"),
        (image_folders.dataset().filter(lambda image, label: False), "no images"),
        (image_folders.dataset(labels=np.eye(12)), "12 entries do not match 3"),
        (image_folders.dataset(labels=np.zeros(12)), "neither class numbers nor vectors"),
    ],
)
def test_invalid_datasets_are_refused(data, message):
    for both in (data, (image_folders.dataset(), data)):
        with pytest.raises(ValueError, match=message):
            open_dataset(both, class_names="abc")


def test_class_names_are_needed():
    with pytest.raises(ValueError, match="has no class names"):
        open_dataset(image_folders.dataset())


@pytest.mark.parametrize("label_mode", ["int", "categorical"])
@pytest.mark.parametrize("batch_size", [5, None])
def test_image_dataset_from_directory_is_taken_as_it_is(label_mode, batch_size, tmp_path):
    folder = image_folders.write_plain(tmp_path / "images", 4)
    pair = keras.utils.image_dataset_from_directory(
        folder, image_size=(20, 20), label_mode=label_mode, batch_size=batch_size, verbose=False,
        validation_split=0.25, subset="both", seed=0,
    )  # fmt: skip
    dataset = open_dataset(pair)
    assert dataset.class_names == tuple(sorted(image_folders.COLOURS))
    assert (len(dataset.training), len(dataset.validation)) == (9, 3)
    assert not dataset.is_multi_label
    colours = np.array([image_folders.COLOURS[name] for name in dataset.class_names])
    for (images, _), targets in evaluation_batches(dataset, CONFIG, BATCH, split="training"):
        means = (np.mean(images, axis=(1, 2)) * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
        nearest = np.linalg.norm(means[:, None] - colours, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, np.argmax(targets, axis=1))


def test_binary_labels_of_image_dataset_from_directory_are_classes(tmp_path):
    folder = image_folders.write_plain(tmp_path / "images", 4)
    two = sorted(image_folders.COLOURS)[1:]
    dataset = open_dataset(
        keras.utils.image_dataset_from_directory(
            folder, class_names=two, label_mode="binary", color_mode="grayscale", shuffle=False, verbose=False
        )
    )
    assert dataset.class_names == tuple(two)
    labels = [int(record["label"]) for record in dataset.training.records_in_order()]
    assert labels == sorted(labels)
    assert set(labels) == {0, 1}


def test_images_of_batches_and_of_unknown_number_are_counted(caplog):
    caplog.set_level("INFO", logger="keras_crossvit")
    floats = image_folders.dataset().map(lambda image, label: (tf.cast(image, tf.float32) + 0.3, label))
    exact = open_dataset(image_folders.dataset(), class_names="abc")
    for data in (floats.batch(5), image_folders.dataset().filter(lambda image, label: True)):
        dataset = open_dataset(data, class_names="abc")
        assert len(dataset.training) == 12
        assert "Counting" in caplog.messages[-1]
        for one, other in zip(dataset.training.records_in_order(), exact.training.records_in_order(), strict=True):
            assert one["contents"] == other["contents"]


def test_pair_of_directories_of_other_classes_is_refused(tmp_path):
    folder = image_folders.write_plain(tmp_path / "images", 4)
    names = sorted(image_folders.COLOURS)
    first, second = (
        keras.utils.image_dataset_from_directory(folder, class_names=each, verbose=False)
        for each in (names, names[::-1])
    )
    with pytest.raises(ValueError, match="differ from those of the validation dataset"):
        open_dataset((first, second))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (("train", "val"), "the path 'train'.*one folder"),
        (["cat.jpg"], "got list"),
        ((np.zeros((2, 8, 8, 3)), np.zeros(2)), "got ndarray.*from_tensor_slices"),
        ((image_folders.dataset(), np.zeros(2)), "got ndarray"),
        (None, "got NoneType"),
    ],
)
def test_other_types_are_refused_first(data, message):
    with pytest.raises(TypeError, match=message):
        open_dataset(data)


@pytest.mark.parametrize(
    ("splits", "wanted"),
    [
        (("test", "training", "validation"), ["training", "validation"]),
        (("Train", "eval", "test"), ["Train", "eval"]),
        (("unlabelled", "train_2020", "dev_2020"), ["train_2020", "dev_2020"]),
        (("train",), ["train[:90%]", "train[90%:]"]),
        (("train", "test"), ["train[:90%]", "train[90%:]"]),
    ],
)
def test_splits_of_tensorflow_datasets_are_recognized_in_any_spelling(monkeypatch, splits, wanted):
    asked = image_folders.stand_in_for_tensorflow_datasets(monkeypatch, *splits)
    open_dataset("tfds:flowers")
    assert asked == wanted


def test_splits_are_not_classes_of_a_dataset(monkeypatch):
    with pytest.raises(ValueError, match="'Testing' and 'Training', which are names of splits"):
        open_dataset(image_folders.dataset(labels=np.arange(12) % 2), class_names=["Testing", "Training"])
    image_folders.stand_in_for_tensorflow_datasets(monkeypatch, "prueba")
    with pytest.raises(ValueError, match="'flowers' has no training split, only prueba"):
        open_dataset("tfds:flowers")


def test_tensorflow_datasets_are_opened_by_name(monkeypatch, caplog):
    asked = image_folders.stand_in_for_tensorflow_datasets(monkeypatch)
    assert open_dataset("tfds:flowers").class_names == tuple(image_folders.COLOURS)
    caplog.set_level("INFO", logger="keras_crossvit")
    open_dataset("tfds:flowers", validation_split=0.2)
    assert "last 20 % of the split 'train'" in caplog.text
    assert asked == ["train[:90%]", "train[90%:]", "train[:80%]", "train[80%:]"]
    asked.clear()
    assert len(open_dataset("tfds:flowers", split="test").training) == 12
    assert asked == ["test"]
    for fraction in (0.004, 0.996):
        with pytest.raises(ValueError, match=f"validation_split {fraction}"):
            open_dataset("tfds:flowers", validation_split=fraction)
    with pytest.raises(ValueError, match=r"class_names .* 'tfds:flowers'"):
        open_dataset("tfds:flowers", class_names=["a", "b", "c"])
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ModuleNotFoundError, match="tensorflow_datasets is not installed"):
        open_dataset("tfds:flowers")
