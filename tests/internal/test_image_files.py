"""Image files of strangers: pipes, devices, vast files, links to elsewhere, formats that start programs."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from keras_crossvit._internal import image_files
from keras_crossvit._internal.image_files import files_below, leads_out, read_image_file
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting.sample_images import comparison_inputs
from keras_crossvit.models.variants import variant_config
from keras_crossvit.pipeline import open_dataset, prepare
from keras_crossvit.pipeline.dataset import survey_folder
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.serving import classify_files_on_server
from tests.helpers import image_folders

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 4 4
%%EndComments
(%pipe%touch RAN) (w) file
showpage
%%EOF
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


@pytest.fixture
def outside(tmp_path):
    """A folder with private images."""
    return image_folders.write_plain(tmp_path / "outside", 2)


@pytest.fixture
def images(tmp_path):
    return image_folders.write_plain(tmp_path / "images", 2)


def write_irregular(folder):
    """Writes files that are not regular or too large, and returns them with their problems."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "folder.webp").mkdir()
    with (folder / "vast.jpg").open("wb") as file:
        file.write(b"\xff\xd8\xff\xe0")
        file.truncate(2**40)
    return {
        "pipe.jpg": "not a regular file",
        "device.png": "not a regular file",
        "folder.webp": "not a regular file",
        "vast.jpg": "bytes, more than",
    }


@pytest.mark.parametrize("read", [read_image_file, read_image], ids=["contents", "pixels"])
def test_only_regular_files_of_limited_size_are_read(read, tmp_path):
    for name, problem in write_irregular(tmp_path).items():
        with pytest.raises(ValueError, match=f"{name}' .*{problem}"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere.jpg")


def test_a_file_that_grows_or_is_replaced_after_the_first_look_is_refused(tmp_path, monkeypatch):
    (tmp_path / "image.jpg").write_bytes(bytes(100))
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.setattr(image_files, "MAX_BYTES", 100)
    assert len(read_image_file(tmp_path / "image.jpg")) == 100
    status = (tmp_path / "image.jpg").stat()
    monkeypatch.setattr(image_files.Path, "stat", lambda *_, **__: status)
    with pytest.raises(ValueError, match="not a regular file"):
        read_image_file(tmp_path / "pipe.jpg")
    with (tmp_path / "image.jpg").open("ab") as file:
        file.write(b"1")
    monkeypatch.setattr(image_files.os, "fstat", lambda descriptor: status)
    with pytest.raises(ValueError, match="101 bytes, more than the 100"):
        read_image_file(tmp_path / "image.jpg")


@pytest.mark.parametrize("contents", [EPS, b"\xc5\xd0\xd3\xc6" + bytes(26) + EPS], ids=["plain", "with preview"])
@pytest.mark.parametrize("suffix", [".eps", ".jpg"])
def test_formats_that_start_programs_are_not_opened(contents, suffix, tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("started Ghostscript"))
    (tmp_path / "all" / "a").mkdir(parents=True)
    path = tmp_path / "all" / "a" / f"drawing{suffix}"
    path.write_bytes(contents)
    for file in (path, io.BytesIO(contents)):
        with pytest.raises(ValueError, match="not of the formats AVIF, BMP"):
            read_image(file)
    (problem,) = survey_folder(tmp_path / "all").unreadable
    assert problem == (str(path), "not an image")


@pytest.mark.parametrize("file_format", ["PCX", "SGI", "TGA", "ICO", "PALM", "XBM"])
def test_other_formats_are_not_opened(file_format, tmp_path):
    mode = "1" if file_format == "XBM" else "P" if file_format == "PALM" else "RGB"
    Image.new(mode, (16, 16)).save(tmp_path / "image", file_format)
    with pytest.raises(ValueError, match="not of the formats"):
        read_image(tmp_path / "image")


@pytest.mark.parametrize("file_format", image_files.FORMATS)
def test_documented_formats_are_read(file_format, tmp_path):
    pixels = image_folders.textured((30, 90, 200))
    Image.fromarray(pixels).save(tmp_path / "image", file_format)
    assert np.abs(read_image(tmp_path / "image").astype(int) - pixels).mean() < 8


def test_irregular_files_of_a_dataset_are_unreadable(images):
    write_irregular(images / "bleu")
    unreadable = {path.rpartition("/")[2]: why for path, why in survey_folder(images).unreadable}
    assert unreadable == {
        "pipe.jpg": "not a regular file",
        "device.png": "link out of the folder",
        "vast.jpg": "too large",
    }


LINKS = {
    "a file": ("rouge/private.jpg", "bleu/0.jpg"),
    "a folder": ("rouge/more", "bleu"),
    "the folder of a class": ("stranger", "bleu"),
    "a folder above": ("rouge/up", os.pardir),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_out_of_the_folder_are_not_followed_unless_allowed(kind, images, outside, tmp_path, capsys):
    name, target = LINKS[kind]
    (images / name).symlink_to(outside / target)
    with pytest.raises(ValueError, match=r"1 link out of the folder.*follow_links=True \(--follow-links\)") as refused:
        open_dataset(images)
    assert str(images / name) in str(refused.value)
    with pytest.raises(ValueError, match="--follow-links"):
        prepare(images, tmp_path / "shards")
    assert cli.main(["prepare", str(images), "--check"]) == cli.EXIT_MISTAKE
    assert "link out of the folder" in capsys.readouterr().out
    if kind != "a folder above":  # which has a folder per class and would add a class
        opened = open_dataset(images, follow_links=True)
        assert any("private" in each or "more" in each or "stranger" in each for each in opened.training.files)
        assert cli.main(["prepare", str(images), "--check", "--follow-links"]) == 0
        with pytest.raises(ValueError, match="link out of the folder"):  # although the cache has the files
            open_dataset(images)


def test_a_split_that_is_a_link_out_is_refused(outside, tmp_path):
    (tmp_path / "both").mkdir()
    for split in ("train", "val"):
        (tmp_path / "both" / split).symlink_to(outside)
    with pytest.raises(ValueError, match="6 of 6 files are unreadable"):
        open_dataset(tmp_path / "both")
    assert len(open_dataset(tmp_path / "both", follow_links=True).training) == 6


def test_links_inside_the_folder_and_to_the_folder_are_followed(tmp_path):
    image_folders.write_plain(tmp_path / "data" / "train", 2)
    (tmp_path / "data" / ".pool").mkdir()
    (tmp_path / "data" / "train" / "bleu" / "0.jpg").rename(tmp_path / "data" / ".pool" / "0.jpg")
    (tmp_path / "data" / "train" / "bleu" / "0.jpg").symlink_to("../../.pool/0.jpg")
    (tmp_path / "link").symlink_to("data")
    assert len(open_dataset(tmp_path / "link").training) == 6


def test_a_link_to_a_folder_above_gives_a_class_no_images_of_others(images):
    before = open_dataset(images).training
    (images / "bleu" / "up").symlink_to(os.pardir)
    (images / "bleu" / "self").symlink_to(os.curdir)
    for follow_links in (False, True):
        after = open_dataset(images, follow_links=follow_links).training
        assert after.files == before.files
        np.testing.assert_array_equal(after.labels, before.labels)


@pytest.mark.parametrize(("name", "target"), [("rouge/more", "../bleu"), ("rouge/more.jpg", "../bleu/0.jpg")])
def test_images_of_a_class_are_not_taken_for_another_one_through_links(name, target, images):
    (images / name).symlink_to(target)
    with pytest.raises(ValueError, match=r"rouge/more.*' leads to class 'bleu' .* \(--follow-links\)"):
        open_dataset(images)
    assert any("more" in path for path in open_dataset(images, follow_links=True).training.files)


def test_tables_and_their_files_may_be_links_out_only_if_allowed(images, outside):
    (images / "rouge" / "0.jpg").unlink()
    (images / "rouge" / "0.jpg").symlink_to(outside / "bleu" / "0.jpg")
    table = "file,a,b\nrouge/0.jpg,1,0\nbleu/0.jpg,0,1\n"
    (images / "labels.csv").write_text(table)
    with pytest.raises(ValueError, match=r"line 2 names 'rouge/0.jpg'.*--follow-links"):
        open_dataset(images)
    assert len(open_dataset(images, follow_links=True).training) == 2
    (outside / "labels.csv").write_text("private,\n")
    (images / "labels.csv").unlink()
    (images / "labels.csv").symlink_to(outside / "labels.csv")
    with pytest.raises(ValueError, match="leads out") as refused:
        open_dataset(images)
    assert "private" not in str(refused.value)


def test_shards_hold_no_file_that_was_replaced_after_the_survey(images, tmp_path, monkeypatch):
    from keras_crossvit.pipeline import shard_writing

    def replace(output, found=shard_writing.remove_unfinished):
        (images / "bleu" / "0.jpg").unlink()
        os.mkfifo(images / "bleu" / "0.jpg")

    monkeypatch.setattr(shard_writing, "remove_unfinished", replace)
    with pytest.raises(ValueError, match="not a regular file"):
        prepare(images, tmp_path / "shards")


def test_images_to_compare_an_export_on_come_from_the_folder(images, outside):
    config = variant_config("crossvit_9_dagger", img_size=(48, 32))
    before, _ = comparison_inputs(images, config)
    (images / "more").symlink_to(outside)
    (images / "one.jpg").symlink_to(outside / "bleu" / "0.jpg")
    os.mkfifo(images / "pipe.jpg")
    after, _ = comparison_inputs(images, config)
    assert len(after[0]) == len(before[0]) == 6


def test_the_client_of_a_server_sends_only_regular_files(tmp_path):
    names = write_irregular(tmp_path)
    answers = classify_files_on_server("http://127.0.0.1:1/v1/models/none", [tmp_path / name for name in names])
    for (_, error), problem in zip(answers, names.values(), strict=True):
        assert problem in str(error)


def test_files_below_a_folder_are_each_found_once(images):
    (images / "bleu" / "again").symlink_to(images / "rouge")
    (images / ".hidden").mkdir()
    (images / ".hidden" / "0.jpg").touch()
    (images / "rouge" / "Thumbs.db").touch()
    real = [os.path.realpath(path) for path in files_below(images, images)]
    assert len(real) == len(set(real)) == 6


@pytest.mark.parametrize(("path", "out"), [("a", False), ("", False), ("b", True), ("c", False), ("a/../../ab", True)])
def test_a_folder_whose_name_only_starts_alike_is_elsewhere(path, out, tmp_path):
    (tmp_path / "a" / "a").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    (tmp_path / "a" / "b").symlink_to(tmp_path / "ab")
    (tmp_path / "a" / "c").symlink_to("a")
    assert leads_out(tmp_path / "a" / path, tmp_path / "a") == out
    assert not leads_out("/etc", "/")
