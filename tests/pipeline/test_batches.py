import dataclasses
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.layers import BicubicResize
from keras_crossvit.pipeline import (
    Augmentation,
    draw_contact_sheet,
    evaluation_batches,
    open_dataset,
    prepare,
    steps_per_epoch,
    training_batches,
)
from keras_crossvit.pipeline.batches import images_of_batch
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.preprocessing.transforms import channel_statistics
from tests.helpers.processes import run_python

CONFIG = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32))
BATCH = 4
PAPER = Augmentation()


@pytest.fixture(scope="module")
def dataset(folder):
    return open_dataset(folder, validation_split=0.25)


def arrays(batches):
    """Every batch as one row of numbers."""
    return [np.concatenate([np.ravel(each) for each in keras.tree.flatten(batch)]) for batch in batches]


def batches(dataset, augmentation=PAPER, **arguments):
    return training_batches(dataset, CONFIG, augmentation, BATCH, **{"seed": 1, "epoch": 0, **arguments})


def assert_equal(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def epoch(dataset):
    return arrays(batches(dataset))


def test_epoch_has_the_expected_steps_and_shapes(dataset):
    assert steps_per_epoch(dataset, BATCH) == 4
    (small_patch, large_patch), target = next(iter(batches(dataset)))
    assert (small_patch.shape, large_patch.shape, target.shape) == ((4, 48, 48, 3), (4, 32, 32, 3), (4, 3))
    np.testing.assert_allclose(np.sum(target, axis=1), 1, atol=1e-5)
    assert len(arrays(batches(dataset))) == 4


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_global_seeds_do_not_change_batches(dataset, epoch, threads):
    keras.utils.set_random_seed(threads)
    assert_equal(arrays(batches(dataset, threads=threads)), epoch)


def test_evaluation_reads_ahead_of_the_model_but_only_by_a_few_batches(dataset, monkeypatch):
    read = []

    def noted(path):
        read.append(path)
        return read_image(path)

    monkeypatch.setattr("keras_crossvit.pipeline.batches.read_image", noted)
    iterator = iter(evaluation_batches(dataset, CONFIG, 1, split="training", threads=1))
    next(iterator)
    end = time.monotonic() + 30
    while len(read) < 3 and time.monotonic() < end:  # nobody asks for the next batch, as while the model computes
        time.sleep(0.01)
    assert 3 <= len(read) < 10 < len(dataset.training)


def test_the_images_of_a_batch_are_those_that_it_is_made_of(tmp_path):
    for i in range(12):
        (tmp_path / "images" / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 48), (20 * i, 20 * i, 20 * i)).save(tmp_path / "images" / "abc"[i % 3] / f"{i}.png")
    opened = open_dataset(tmp_path / "images", validation_split=0)
    augmentation = dataclasses.replace(Augmentation.none(), repeats=2)
    mean, std = channel_statistics(3)
    for epoch, batch in ((0, 0), (0, 2), (1, 2)):
        (images, _), _ = next(iter(batches(opened, augmentation, epoch=epoch, skip_batches=batch)))
        shades = np.round(255 * (images[:, 0, 0, 0] * std[0] + mean[0]))
        names = images_of_batch(opened.training, BATCH, repeats=2, seed=1, epoch=epoch, batch=batch)
        assert [20 * int(Path(name).stem) for name in names] == shades.tolist()
    prepare(tmp_path / "images", tmp_path / "shards", validation_split=0)
    shards = open_dataset(tmp_path / "shards").training
    names = [name for i in range(3) for name in images_of_batch(shards, BATCH, repeats=1, seed=1, epoch=0, batch=i)]
    assert sorted(names) == sorted(f"image {i}" for i in range(12))


def test_batches_are_the_same_in_another_process(folder, epoch, tmp_path):
    program = f"""
import numpy as np, sys
from tests.pipeline.test_batches import arrays, batches, open_dataset
np.save(sys.argv[1], arrays(batches(open_dataset({str(folder)!r}, validation_split=0.25))))
"""
    run_python("-c", program, tmp_path / "epoch.npy", TF_CPP_MIN_LOG_LEVEL="3")
    assert_equal(list(np.load(tmp_path / "epoch.npy")), epoch)


def test_seeds_and_epochs_give_different_batches(dataset, epoch):
    for other in ({"epoch": 1}, {"seed": 2}):
        assert all(
            (one != another).any() for one, another in zip(arrays(batches(dataset, **other)), epoch, strict=True)
        )


@pytest.mark.parametrize("skipped", [1, 4])
def test_skipped_batches_leave_the_rest_of_the_epoch_unchanged(dataset, epoch, skipped):
    assert_equal(arrays(batches(dataset, skip_batches=skipped)), epoch[skipped:])


def test_skipped_images_are_not_read(dataset, tmp_path):
    shown = {int(each["sample"]) // 3 for each in dataset.training.records(repeats=3, seed=1, epoch=0, skip=12)}
    files = tuple(path if i in shown else str(tmp_path / "gone.jpg") for i, path in enumerate(dataset.training.files))
    damaged = dataclasses.replace(dataset, training=dataclasses.replace(dataset.training, files=files))
    assert len(arrays(batches(damaged, skip_batches=3))) == 1


def test_processes_share_each_batch(dataset):
    light = Augmentation(rand_augment_ops=0)
    whole = next(iter(batches(dataset, light)))
    parts = [next(iter(batches(dataset, light, process_index=i, process_count=2))) for i in range(2)]
    for of_all, *of_parts in zip(*map(keras.tree.flatten, (whole, *parts)), strict=True):
        np.testing.assert_array_equal(of_all, np.concatenate(of_parts))


def test_large_patch_image_is_the_small_patch_image_resized_by_the_layer(dataset):
    resize = BicubicResize(32, 32)
    for (small_patch, large_patch), _ in batches(dataset).take(2):
        # Float32 in another order of summation, over values up to 4.
        np.testing.assert_allclose(large_patch, resize(small_patch), rtol=0, atol=5e-6)


def test_evaluation_batches_equal_preprocess(dataset):
    seen = list(evaluation_batches(dataset, CONFIG, 4))
    small_patch, large_patch = (np.concatenate([np.asarray(images[i]) for images, _ in seen]) for i in (0, 1))
    expected = kc.preprocess([read_image(path) for path in dataset.validation.files], CONFIG)
    np.testing.assert_array_equal(small_patch, expected[0])
    np.testing.assert_allclose(large_patch, expected[1], rtol=0, atol=5e-6)
    labels = np.concatenate([np.argmax(target, axis=1) for _, target in seen])
    np.testing.assert_array_equal(labels, dataset.validation.labels)


def test_images_without_augmentation_are_close_to_evaluation(dataset):
    plain = {int(np.argmax(t)): np.asarray(i) for (i, _), t in batches(dataset, Augmentation.none()).unbatch()}
    evaluated = [np.asarray(i) for (i, _), _ in evaluation_batches(dataset, CONFIG, 4, split="training").unbatch()]
    for image in plain.values():
        # The crop is cut before it is resized here and after it in evaluation, which shifts it by less than a pixel.
        assert min(np.abs(image - other).mean() for other in evaluated) < 0.1


def test_copies_of_an_image_follow_each_other(dataset):
    samples = [int(each["sample"]) for each in dataset.training.records(repeats=3, seed=0, epoch=0)]
    assert len(samples) == len(dataset.training) == len(set(samples))
    assert samples[:6] == [s - s % 3 + i % 3 for i, s in enumerate(samples[:6])]
    once = [int(each["sample"]) for each in dataset.training.records(repeats=1, seed=0, epoch=0)]
    assert sorted(once) == list(range(len(dataset.training)))


def test_models_with_one_channel_get_grayscale_images(dataset):
    config = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32), in_channels=1)
    for made in (
        training_batches(dataset, config, Augmentation(rand_augment_ops=0), BATCH, seed=0, epoch=0),
        evaluation_batches(dataset, config, BATCH),
    ):
        assert [each.shape[-1] for each in next(iter(made))[0]] == [1, 1]


def test_contact_sheet_shows_both_inputs(dataset, tmp_path):
    draw_contact_sheet(tmp_path / "sheet.png", batches(dataset), CONFIG, class_names=dataset.class_names, max_images=5)
    sheet = read_image(tmp_path / "sheet.png")
    assert sheet.shape[1] == 4 * (48 + 32 + 16) + 8
    assert sheet.std() > 20
    plain = evaluation_batches(dataset, CONFIG, 1)
    draw_contact_sheet(tmp_path / "plain.png", plain, CONFIG, max_images=1)
    (image, _), _ = next(iter(plain))
    drawn = read_image(tmp_path / "plain.png")[8:56, 8:56]
    values = (np.asarray(image[0]) * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
    np.testing.assert_allclose(drawn, values, atol=0.51)


@pytest.mark.parametrize("name", ["two\nlines", "caf\udce9", "$\\foo$", "a" * 250, "\u202eright to left", "\0"])
def test_contact_sheet_draws_any_class_name(dataset, tmp_path, name):
    names = [name, "$5 to $10", "\x1b[2J"]
    draw_contact_sheet(tmp_path / "sheet.png", batches(dataset), CONFIG, class_names=names, max_images=3)
    assert read_image(tmp_path / "sheet.png").shape[1] == 3 * (48 + 32 + 16) + 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 5}, "batch_size 5 is not a multiple of 2"),
        ({"batch_size": 6, "process_count": 2}, "batch_size 6 is not a multiple of 4"),
        ({"batch_size": 100}, "batch_size 100.* 18 "),
        ({"process_index": 1}, "process_index 1"),
        ({"epoch": -1}, "epoch -1"),
        ({"config": kc.variant_config("crossvit_9_dagger")}, "num_classes 1000.* 3 classes"),
        ({"config": dataclasses.replace(CONFIG, in_channels=4)}, "in_channels 4"),
    ],
)
def test_invalid_arguments_are_refused(dataset, arguments, message):
    with pytest.raises(ValueError, match=message):
        training_batches(
            dataset,
            **{**{"config": CONFIG, "augmentation": PAPER, "batch_size": 4, "seed": 0, "epoch": 0}, **arguments},
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_scale": (0.5, 2)}, "crop_scale 2"),
        ({"crop_ratio": (2, 1)}, "crop_ratio 2 to 1"),
        ({"crop_ratio": 1}, "crop_ratio 1"),
        ({"erasing": 1.5}, "erasing 1.5"),
        ({"mixup": -1}, "mixup -1"),
        ({"rand_augment_magnitude": 11}, "rand_augment_magnitude 11"),
        ({"repeats": 0}, "repeats 0"),
    ],
)
def test_invalid_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**fields)


def test_operations_run_in_one_thread_and_without_autotuning(dataset):
    for options in (batches(dataset).options(), evaluation_batches(dataset, CONFIG, 4).options()):
        assert options.threading.max_intra_op_parallelism == 1
        assert options.deterministic
        assert options.autotune.enabled is False  # else an iterator waits for the thread that tunes when it is let go
