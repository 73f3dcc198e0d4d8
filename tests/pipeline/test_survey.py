import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.pipeline import Augmentation, evaluation_batches, open_dataset, survey, training_batches
from keras_crossvit.pipeline.decoding import Decoder, decode_window
from keras_crossvit.preprocessing.images import read_image
from tests.helpers import image_folders

BY_TENSORFLOW = {
    **dict.fromkeys(
        ("rgb.jpg", "gray.jpg", "progressive.jpg", "no_suffix", "wide.jpg", "damaged_exif.jpg"), Decoder.JPEG
    ),
    **dict.fromkeys(("ünïcödé 写真.jpg", "deep/er/nested.jpg"), Decoder.JPEG),
    **dict.fromkeys(("rgb.png", "really_png.jpg", "pixel.png"), Decoder.PNG),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wild")
    for name, colour in image_folders.COLOURS.items():
        image_folders.write_class(folder / name, colour)
    image_folders.write_damaged(folder / "rouge")
    (folder / "rouge" / "deep" / "back").symlink_to(folder / "rouge")  # a circle
    (folder / "rouge" / "Thumbs.db").write_bytes(b"left by a file manager")
    for left_behind in (folder / "__MACOSX" / "bleu", folder / "rouge" / "@eaDir"):
        left_behind.mkdir(parents=True)
        shutil.copy(folder / "bleu" / "rgb.jpg", left_behind)
    return folder


@pytest.mark.parametrize("name", image_folders.READABLE)
def test_chosen_decoder_gives_the_same_pixels_as_pillow(folder, name):
    path = str(folder / "grün" / name)
    check = survey.check_file(path)
    assert (Decoder(check.decoder), check.problem) == (BY_TENSORFLOW.get(name, Decoder.PILLOW), "")
    pixels = read_image(path)
    assert pixels.shape == (check.height, check.width, 3)
    height, width = (max(1, side // 2) for side in pixels.shape[:2])
    top, left = pixels.shape[0] - height, (pixels.shape[1] - width) // 2
    window = tf.constant([top, left, height, width])
    decoded = tf.function(decode_window)(tf.io.read_file(path), tf.constant(check.decoder), window)
    np.testing.assert_array_equal(decoded, pixels[top : top + height, left : left + width])


@pytest.mark.parametrize(
    "name", [name for name in image_folders.READABLE if name not in ("gray.jpg", "sixteen_bit.png")]
)
def test_images_keep_their_color(folder, name):
    pixels = read_image(folder / "bleu" / name)
    seen = pixels[8:] if name == "alpha.png" else pixels
    # CMYK and palettes keep a colour roughly, and the texture averages out.
    np.testing.assert_allclose(seen.mean(axis=(0, 1)), image_folders.COLOURS["bleu"], atol=9)


def test_transparent_pixels_are_white_and_16_bits_are_scaled(folder):
    np.testing.assert_array_equal(read_image(folder / "bleu" / "alpha.png")[:8], 255)
    gray = read_image(folder / "bleu" / "sixteen_bit.png")
    assert 40 < gray.mean() < 90


def test_unreadable_files_are_listed_and_refused(folder, caplog):
    caplog.set_level("INFO", logger="keras_crossvit")
    with pytest.raises(ValueError, match=r"6 of 63 files .* more than max_unreadable 0"):
        open_dataset(folder)
    for name, problem in image_folders.UNREADABLE.items():
        assert f"{name}: {problem}" in caplog.text


def test_up_to_max_unreadable_files_are_left_out_and_labels_stay_right(folder):
    dataset = open_dataset(folder, validation_split=0, max_unreadable=len(image_folders.UNREADABLE))
    assert len(dataset.training) == len(image_folders.READABLE) * len(image_folders.COLOURS)
    assert not {Path(path).name for path in dataset.training.files} & set(image_folders.UNREADABLE)
    config = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32))
    augmentation = Augmentation(rand_augment_ops=0, erasing=0.0, mixup=0.0, cutmix=0.0, repeats=1, crop_scale=(0.5, 1))
    colours = np.array(list(image_folders.COLOURS.values()))
    seen = 0
    for batches in (
        training_batches(dataset, config, augmentation, 3, seed=0, epoch=0),
        evaluation_batches(dataset, config, 4, split="training"),
    ):
        for (images, _), targets in batches:
            means = (np.mean(images, axis=(1, 2)) * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
            is_gray = np.ptp(means, axis=1) < 2
            nearest = np.linalg.norm(means[:, None] - colours, axis=2).argmin(axis=1)
            np.testing.assert_array_equal(nearest[~is_gray], np.argmax(targets, axis=1)[~is_gray])
            seen += len(means)
    assert seen == 2 * len(dataset.training)


def test_second_survey_checks_only_changed_files(folder, monkeypatch):
    looked_at = []
    check_file = survey.check_file
    monkeypatch.setattr(survey, "check_file", lambda path: looked_at.append(path) or check_file(path))
    limit = len(image_folders.UNREADABLE)
    first = open_dataset(folder, max_unreadable=limit)
    assert len(looked_at) == len(first.survey.files)
    looked_at.clear()
    changed = folder / "bleu" / "rgb.png"
    os.utime(changed, ns=(0, 1))
    second = open_dataset(folder, max_unreadable=limit)
    broken_link = str(folder / "rouge" / "broken_link.jpg")  # it has no size and time to compare
    assert sorted(looked_at) == sorted([str(changed), broken_link])
    assert second.survey == first.survey


def test_command_prints_what_it_found(folder, capsys):
    assert cli.main(["prepare", str(folder), "--check"]) == cli.EXIT_MISTAKE
    shown = capsys.readouterr()
    assert "1 broken link" in shown.out
    assert "bomb.png" in shown.err
    assert cli.main(["prepare", str(folder), "--check", "--max-unreadable", "6"]) == 0
    assert cli.main(["prepare", str(folder / "nowhere"), "--check"]) == cli.EXIT_MISTAKE
    assert cli.main(["prepare", str(folder)]) == cli.EXIT_MISTAKE
    assert "OUT is missing" in capsys.readouterr().err


def test_command_finds_splits_in_any_spelling(tmp_path, capsys):
    for split in ("Training", "Testing"):
        image_folders.write_plain(tmp_path / "both" / split, 1)
        image_folders.write_plain(tmp_path / "unknown" / f"{split}sdaten", 1)
    assert cli.main(["prepare", str(tmp_path / "both"), "--check"]) == 0
    assert "6 files, 6 readable" in capsys.readouterr().out
    assert cli.main(["prepare", str(tmp_path / "unknown"), "--check"]) == cli.EXIT_MISTAKE
    assert "'Testingsdaten', 'Trainingsdaten'" in capsys.readouterr().err


def test_16_bit_rgb_is_decoded_as_by_pillow(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), dtype="uint16")
    (tmp_path / "deep.png").write_bytes(tf.io.encode_png(values).numpy())
    assert survey.check_file(str(tmp_path / "deep.png")).decoder == Decoder.PNG
    decoded = tf.io.decode_png((tmp_path / "deep.png").read_bytes(), channels=3)
    np.testing.assert_array_equal(decoded, read_image(tmp_path / "deep.png"))
    np.testing.assert_array_equal(decoded, values >> 8)


def test_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert survey.check_file(str(tmp_path / "pipe.jpg")).problem == "not a regular file"


def test_interrupted_survey_resumes_from_its_cache(tmp_path, monkeypatch):
    folder = image_folders.write_plain(tmp_path / "plain", 2)
    looked_at, check_file = [], survey.check_file

    def interrupted(path):
        if path.endswith("rouge/1.jpg"):
            raise KeyboardInterrupt
        return looked_at.append(path) or check_file(path)

    monkeypatch.setattr(survey, "check_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_dataset(folder)
    monkeypatch.setattr(survey, "check_file", lambda path: looked_at.append(path) or check_file(path))
    open_dataset(folder)
    assert len(looked_at) == len(set(looked_at)) == 6
