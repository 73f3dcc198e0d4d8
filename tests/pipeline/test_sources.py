import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_crossvit.pipeline import open_source
from keras_crossvit.pipeline.folders import stratified_split
from tests.helpers import collections


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return collections.write_plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(autouse=True)
def _own_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


def test_a_share_of_each_class_is_held_out(folder):
    source = open_source(folder, validation_split=0.25, report=None)
    assert source.class_names == ("bleu", "grün", "rouge")
    np.testing.assert_array_equal(np.bincount(source.training.labels), [6, 6, 6])
    np.testing.assert_array_equal(np.bincount(source.validation.labels), [2, 2, 2])
    assert not set(source.training.paths) & set(source.validation.paths)
    again, other = (open_source(folder, validation_split=0.25, seed=seed, report=None) for seed in (0, 1))
    assert again.validation.paths == source.validation.paths != other.validation.paths


@pytest.mark.parametrize(("pictures", "share"), [(2, 0.26), (3, 0.17), (8, 0.07), (10, 0.06), (100, 0.006)])
def test_a_share_that_holds_nothing_out_names_one_that_does(pictures, share):
    labels = np.repeat([0, 1], [pictures, 2])
    too_small = round(share - 0.1 ** len(str(share)[2:]), 6)
    with pytest.raises(ValueError, match=rf"validation_split {too_small} holds no picture out, .* use {share} or more"):
        stratified_split(labels, too_small, 0)
    assert len(stratified_split(labels, share, 0)[1])


def test_classes_of_one_picture_cannot_be_held_out(tmp_path):
    collections.write_plain(tmp_path / "plain", 1)
    with pytest.raises(ValueError, match="each class has but one; add some, or give a folder 'val'"):
        open_source(tmp_path / "plain", validation_split=0.9, report=None)


def test_folders_of_their_own_are_taken_as_they_are(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        collections.write_plain(tmp_path / split, count)
    source = open_source(tmp_path, report=None)
    assert (len(source.training), len(source.validation)) == (9, 6)
    with pytest.raises(ValueError, match=r"validation_split 0\.1 has no use here"):
        open_source(tmp_path, validation_split=0.1, report=None)
    (tmp_path / "val" / "violet").mkdir()
    with pytest.raises(ValueError, match="violet' is of a class without training pictures"):
        open_source(tmp_path, report=None)


def test_held_out_pictures_may_be_of_classes_named_as_splits_are(tmp_path):
    for split in ("train", "val"):
        for name in ("bus", "train", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "0.png")
    source = open_source(tmp_path, held_out_alone=True, report=None)
    assert source.class_names == ("bus", "train", "val")
    assert [Path(path).parent.parent.name for path in source.training.paths] == ["val"] * 3
    assert source.validation is None
    shutil.rmtree(tmp_path / "val")
    assert open_source(tmp_path, held_out_alone=True, report=None).class_names == ("bus", "train", "val")


@pytest.mark.parametrize("held_out_alone", [False, True])
@pytest.mark.parametrize("name", ["train", "valid"])
def test_a_folder_of_files_alone_is_a_class_whatever_its_name(tmp_path, name, held_out_alone):
    for folder in ("bus", name):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "0.png")
    assert open_source(tmp_path, held_out_alone=held_out_alone, report=None).class_names == ("bus", name)
    (tmp_path / name / "deeper").mkdir()
    with pytest.raises(ValueError, match=r"may be the pictures of a split|but no 'train'"):
        open_source(tmp_path, held_out_alone=held_out_alone, report=None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "holds no folders"),
        (lambda folder: (folder / "empty").mkdir(), "holds no readable picture"),
        (
            lambda folder: [collections.write_plain(folder, 1), (folder / "empty").mkdir()],
            "class 'empty' has no readable picture",
        ),
        (lambda folder: (folder / "val" / "a").mkdir(parents=True), "holds 'val' but no 'train'"),
        (lambda folder: [(folder / name / "a").mkdir(parents=True) for name in ("train", "training")], "holds both"),
    ],
)
def test_odd_folders_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path, report=None)
