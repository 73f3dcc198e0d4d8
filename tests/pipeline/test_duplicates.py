import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from keras_crossvit.pipeline import open_dataset
from keras_crossvit.pipeline.duplicates import _groups, _Prints, find_duplicates
from tests.helpers.image_folders import textured


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of two classes and splits with copies: the same file, and one that was resized, brightened and encoded."""
    folder = tmp_path_factory.mktemp("copies")
    for split, count in (("train", 6), ("val", 3)):
        for label, colour in (("cat", (200, 60, 40)), ("dog", (60, 90, 200))):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                values = textured(colour, seed=100 * i + len(split) + 10 * len(label) + ord(label[0]))
                Image.fromarray(values).resize((160, 120)).save(folder / split / label / f"{i}.png")
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "cat" / "copy.png")
    with Image.open(folder / "train" / "dog" / "1.png") as image:
        changed = ImageEnhance.Brightness(image.resize((120, 90))).enhance(1.02)
        changed.save(folder / "val" / "dog" / "again.jpg", quality=80)
    return folder


def found(folder, **options):
    dataset = open_dataset(folder)
    rows = find_duplicates(
        {"training": dataset.training, "validation": dataset.validation}, dataset.class_names, **options
    )
    return [(row["group"], row["split"], row["class"], row["file"].rpartition("/")[2], row["copy"]) for row in rows]


def test_copies_are_found_and_those_across_splits_come_first(folder):
    assert found(folder) == [
        (1, "training", "dog", "1.png", "near"),
        (1, "validation", "dog", "again.jpg", "near"),
        (2, "training", "cat", "0.png", "exact"),
        (2, "training", "cat", "copy.png", "exact"),
    ]


def test_of_many_images_a_sample_is_compared(folder):
    assert found(folder, max_images=2) == []


def test_plain_images_that_differ_and_files_that_are_gone_are_no_copies(tmp_path):
    for i, gray in enumerate((0, 60, 120, 180, 240)):
        (tmp_path / "plain").mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), gray, "uint8")).save(tmp_path / "plain" / f"{i}.png")
    dataset = open_dataset(tmp_path, validation_split=0)
    (tmp_path / "plain" / "4.png").unlink()
    assert find_duplicates({"training": dataset.training}, dataset.class_names) == []


def test_many_images_that_are_almost_blank_are_one_group_in_short_time():
    random = np.random.default_rng(0)
    blank = [_Prints(str(i), 2**63, random.normal(128, 1, (16, 16)).astype("float32")) for i in range(3000)]
    other = _Prints("other", 2**63, np.zeros((16, 16), "float32"))
    (group,) = _groups([*blank[:1500], other, *blank[1500:]])
    assert len(group) == 3000
    assert 1500 not in group
