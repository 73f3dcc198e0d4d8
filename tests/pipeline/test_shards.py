import hashlib
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from keras_crossvit._internal.errors import OperationError
from keras_crossvit._internal.locks import FolderLock
from keras_crossvit.cli import main as cli
from keras_crossvit.pipeline import (
    Augmentation,
    evaluation_batches,
    open_dataset,
    prepare,
    shard_writing,
    training_batches,
)
from tests.helpers.full_disk import limited_files

CONFIG = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32))


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("shards") / "out"
    prepare(folder, output, validation_split=0.25, shard_bytes=20_000)
    return output


def verify(folder):
    return cli.main(["prepare", str(folder), "--verify"])


def samples(split, **arguments):
    return [int(each["sample"]) for each in split.records(**{"repeats": 1, "seed": 0, "epoch": 0, **arguments})]


def test_shards_have_the_files_and_labels_of_the_folder(folder, shards):
    from_files = open_dataset(folder, validation_split=0.25)
    dataset = open_dataset(shards)
    assert dataset.class_names == from_files.class_names
    assert len(dataset.training.files) > 1
    contents = {each["contents"].numpy() for each in dataset.validation.records_in_order()}
    assert contents == {Path(path).read_bytes() for path in from_files.validation.files}
    labels = [int(each["label"]) for each in dataset.training.records_in_order()]
    np.testing.assert_array_equal(labels, dataset.training.labels)
    stored = json.loads((shards / "manifest.json").read_text())
    assert stored["images_per_class"]["training"] == {"bleu": 6, "grün": 6, "rouge": 6}


def test_samples_are_the_same_from_files_and_from_shards(folder, shards):
    def by_sample(dataset):
        split = dataset.training
        images = training_batches(dataset, CONFIG, plain, 1, seed=3, epoch=2)
        return dict(zip(samples(split, seed=3, epoch=2), (np.asarray(i[0]) for (i, _), _ in images), strict=True))

    plain = Augmentation(repeats=1, mixup=0.0, cutmix=0.0, rand_augment_ops=0)
    of_files = by_sample(open_dataset(folder, validation_split=0.25))
    of_shards = by_sample(open_dataset(shards))
    assert of_files.keys() == of_shards.keys()
    for sample, image in of_files.items():
        np.testing.assert_array_equal(of_shards[sample], image)


@pytest.mark.parametrize("repeats", [1, 3])
def test_order_of_shards_depends_on_the_epoch_and_can_be_resumed(shards, repeats):
    split = open_dataset(shards).training
    keras.utils.set_random_seed(1)
    first = samples(split, repeats=repeats)
    keras.utils.set_random_seed(2)
    assert samples(split, repeats=repeats) == first
    assert samples(split, repeats=repeats, skip=7) == first[7:]
    assert samples(split, repeats=repeats, epoch=1) != first
    assert len(set(first)) == len(first) == len(split)


@pytest.mark.parametrize("skipped", [0, 2, 4])
def test_number_of_batches_is_known_before_reading(shards, skipped):
    dataset = open_dataset(shards)
    images = training_batches(dataset, CONFIG, Augmentation.none(), 4, seed=0, epoch=0, skip_batches=skipped)
    assert int(images.cardinality()) == len(list(images)) == 4 - skipped
    validation = evaluation_batches(dataset, CONFIG, 4)
    assert int(validation.cardinality()) == len(list(validation)) == 2


def test_prepare_resumes_after_an_interruption(folder, shards, tmp_path, monkeypatch):
    module = shard_writing
    write, written = module._write_shard, []

    def interrupted(output, split, shard):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.name)
        write(output, split, shard)

    arguments = {"validation_split": 0.25, "shard_bytes": 20_000}
    monkeypatch.setattr(module, "_write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, tmp_path / "out", **arguments)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert not list((tmp_path / "out").glob(".unfinished*"))
    with pytest.raises(ValueError, match="shards of other images or settings"):
        prepare(folder, tmp_path / "out", **{**arguments, "seed": 1})
    monkeypatch.setattr(module, "_write_shard", lambda *all_: written.append(all_[2].name) or write(*all_))
    manifest = prepare(folder, tmp_path / "out", **arguments)
    assert len(written) == len(set(written))  # none was written twice
    assert manifest.splits == json.loads((shards / "manifest.json").read_text())["splits"]


def test_a_second_prepare_into_the_same_folder_is_refused(folder, tmp_path):
    prepare(folder, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    with FolderLock(tmp_path / "out"), pytest.raises(OperationError, match="out"):
        prepare(folder, tmp_path / "out")
    prepare(folder, tmp_path / "out")


def test_complete_shards_need_neither_the_lock_nor_a_folder_that_can_be_written(folder, tmp_path, monkeypatch):
    manifest = prepare(folder, tmp_path / "out")
    (tmp_path / "out" / ".lock").unlink()
    monkeypatch.setattr(FolderLock, "__enter__", lambda self: pytest.fail("the lock was taken"))
    before = {path: path.stat().st_mtime_ns for path in [tmp_path / "out", *(tmp_path / "out").iterdir()]}
    assert prepare(folder, tmp_path / "out") == manifest
    assert {path: path.stat().st_mtime_ns for path in [tmp_path / "out", *(tmp_path / "out").iterdir()]} == before


def test_prepare_ends_when_its_folder_is_replaced(folder, tmp_path, monkeypatch):
    write = shard_writing._write_shard

    def replaced(output, split, shard):
        write(output, split, shard)
        shutil.rmtree(output)
        output.mkdir()

    monkeypatch.setattr(shard_writing, "_write_shard", replaced)
    with pytest.raises(OperationError, match="was removed or replaced"):
        prepare(folder, tmp_path / "out", validation_split=0)  # a single shard
    assert not list((tmp_path / "out").iterdir())


def test_full_disk_gives_one_line_and_leaves_no_partial_shard(folder, tmp_path, capfd):
    with limited_files(10_000):
        assert cli.main(["prepare", str(folder), str(tmp_path / "shards")]) == cli.EXIT_MISTAKE
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("keras-crossvit prepare: ")]
    assert "shards' cannot be written" in line
    assert not [path for path in (tmp_path / "shards").iterdir() if "tfrecord" in path.name or ".unf" in path.name]


def test_changed_and_missing_shards_are_found_and_rewritten(folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert cli.main(["prepare", str(folder), str(output)]) == 0
    assert verify(output) == 0
    shard = next(output.glob("*.tfrecord"))
    contents = bytearray(shard.read_bytes())
    contents[len(contents) // 2] ^= 1
    shard.write_bytes(contents)
    capsys.readouterr()
    assert verify(output) == cli.EXIT_MISTAKE
    assert "has changed since it was written" in capsys.readouterr().err
    shard.write_bytes(contents[:100])
    with pytest.raises(ValueError, match="has 100 bytes"):
        open_dataset(output)
    assert cli.main(["prepare", str(folder), str(output)]) == 0  # which is what the message says
    assert verify(output) == 0
    shard.unlink()
    with pytest.raises(ValueError, match="is missing; run the same 'keras-crossvit prepare' again"):
        open_dataset(output)
    assert cli.main(["prepare", str(folder), str(output)]) == 0
    assert verify(output) == 0


@pytest.fixture
def copied(shards, tmp_path):
    return Path(shutil.copytree(shards, tmp_path / "copied"))


def rewritten(folder, change):
    """Changes the manifest of shards."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def prepare_again(folder, output):
    return prepare(folder, output, validation_split=0.25, shard_bytes=20_000)


@pytest.mark.parametrize(
    "name",
    [
        *("../precious.txt", "/etc/hostname", "sub/precious.txt", "C:precious.txt"),
        *("..\\precious.txt", "out.tfrecord", "a\0b", ""),
    ],
)
def test_manifest_cannot_name_files_elsewhere(folder, copied, name):
    precious = copied.parent / "precious.txt"
    precious.write_text("precious")
    (copied / "sub").mkdir()
    (copied / "sub" / "precious.txt").write_text("precious")
    (copied / "out.tfrecord").symlink_to(precious)
    entry = {"file": name, "images": 1, "bytes": 1, "sha256": ""}
    rewritten(copied, lambda manifest: manifest["splits"]["training"].append(entry))
    for use in (lambda: open_dataset(copied), lambda: prepare_again(folder, copied)):
        with pytest.raises(ValueError, match=re.escape(f"manifest.json' names {name!r}")):
            use()
    assert precious.read_text() == (copied / "sub" / "precious.txt").read_text() == "precious"


def test_prepare_removes_only_its_own_files(folder, copied):
    notes = copied / "notes.txt"
    notes.write_text("my own")
    entry = {"file": "notes.txt", "images": 1, "bytes": 1, "sha256": ""}
    rewritten(copied, lambda manifest: manifest["splits"]["training"].append(entry))
    with pytest.raises(ValueError, match=r"notes.txt' has 6 bytes"):
        open_dataset(copied)
    prepare_again(folder, copied)
    assert notes.read_text() == "my own"
    assert verify(copied) == 0


def test_prepare_does_not_write_through_links(folder, copied):
    elsewhere = copied.parent / "elsewhere"
    elsewhere.write_text("precious")
    (copied / "manifest.json").unlink()
    for name in (next(copied.glob("training*.tfrecord")).name, "training-labels.npy"):
        (copied / name).unlink()
        (copied / name).symlink_to(elsewhere)
    prepare_again(folder, copied)
    assert elsewhere.read_text() == "precious"
    assert not [path for path in copied.iterdir() if path.is_symlink()]
    assert verify(copied) == 0


def _saved(change):
    def save(folder):
        labels = np.load(folder / "training-labels.npy")
        np.save(folder / "training-labels.npy", change(labels))

    return save


def _exchanged(labels):
    first, other = 0, int(np.flatnonzero(labels != labels[0])[0])
    labels[[first, other]] = labels[[other, first]]
    return labels


def _set(key, value):
    return lambda folder: rewritten(folder, lambda manifest: manifest.update({key: value}))


def _in_first_shard(key, value):
    return lambda folder: rewritten(folder, lambda manifest: manifest["splits"]["training"][0].update({key: value}))


def _with_header(file, header):
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def _claim_a_vast_array(folder):
    with (folder / "training-labels.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i4", "fortran_order": False, "shape": (10**12,)})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "training-labels.npy").unlink(), "training-labels.npy' is missing"),
        (
            lambda folder: (folder / "validation-labels.npy").write_bytes(b""),
            "validation-labels.npy' is not a file of labels",
        ),
        (
            lambda folder: _with_header(folder / "validation-labels.npy", b"{'descr': (((("),
            "validation-labels.npy' is not a file of labels",
        ),
        (_claim_a_vast_array, "is not a file of labels"),
        (_saved(lambda labels: labels[:-1]), "has 17 labels for 18 images"),
        (_saved(lambda labels: labels[:, None]), "int32 and shape (18, 1)"),
        (_saved(lambda labels: labels + 0.5), "float64"),
        (_saved(lambda labels: labels.astype(object)), "is not a file of labels"),
        (_saved(lambda labels: np.where(labels == 2, 99, labels).astype("int32")), "has label 99"),
        (_saved(lambda labels: labels - np.int32(1)), "has label -1"),
        (_saved(_exchanged), "training-labels.npy' has changed"),
        (_set("class_names", ["bleu", "grün"]), "has label 2, which is not one of 2 classes"),
        (_set("class_names", ["bleu", "rouge", "grün", "violet"]), "images per class"),
        (_set("class_names", ["bleu", "bleu", "rouge"]), "class_names"),
        (_set("class_names", "abc"), "class_names"),
        (_set("class_names", [1, 2, 3]), "class_names"),
        (_set("splits", {}), "'training'"),
        (_set("splits", {"training": []}), "each split must have labels and shards"),
        (_set("splits", {"validation": [{"file": "a", "images": 1, "bytes": 1, "sha256": ""}]}), "'training'"),
        (_set("splits", []), "splits"),
        (_set("splits", {"training": ["a"]}), "splits.training[0] cannot be"),
        (_set("images_per_class", {"training": {"bleu": 1}}), "images per class"),
        (_set("images_per_class", 3), "images_per_class"),
        (_set("labels", {"training": ""}), "labels"),
        (_set("labels", {"training": "", "validation": ""}), "has changed"),
        (_set("unreadable", 3), "unreadable"),
        (_set("format", 1), "format 1, not 2"),
        (_in_first_shard("images", 10**9), "labels for 10000000"),
        (_in_first_shard("images", True), "splits"),
        (_in_first_shard("images", -1), "images"),
        (_in_first_shard("bytes", None), "splits"),
        (_in_first_shard("file", ["a"]), "splits"),
        (
            lambda folder: rewritten(folder, lambda m: m["splits"]["validation"].extend(m["splits"]["training"])),
            "twice",
        ),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "manifest.json' is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json' is damaged"),
    ],
)
def test_inconsistent_shards_are_refused_and_repaired_by_prepare(folder, copied, caplog, harm, message):
    harm(copied)
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        open_dataset(copied)
    assert "\n" not in str(refused.value)
    assert verify(copied) == cli.EXIT_MISTAKE
    if "remove it" in str(refused.value) or "format" in message:
        (copied / "manifest.json").unlink()
    caplog.set_level("INFO", logger="keras_crossvit")
    manifest = prepare_again(folder, copied)
    assert "already complete" not in caplog.text
    assert verify(copied) == 0
    assert prepare_again(folder, copied) == manifest
    assert "already complete" in caplog.text


def test_records_of_the_same_images_are_the_same_bytes_in_every_process(shards):
    for raw in tf.data.TFRecordDataset(list(map(str, shards.glob("*.tfrecord")))).as_numpy_iterator():
        assert tf.train.Example.FromString(raw).SerializeToString(deterministic=True) == raw


def test_records_are_counted_and_their_labels_compared(copied, capsys):
    def move_one(manifest):
        manifest["splits"]["training"][0]["images"] -= 1
        manifest["splits"]["training"][1]["images"] += 1

    def move_it_back_and_exchange_labels(manifest):
        _saved(_exchanged)(copied)
        manifest["splits"]["training"][0]["images"] += 1
        manifest["splits"]["training"][1]["images"] -= 1
        manifest["labels"]["training"] = hashlib.sha256((copied / "training-labels.npy").read_bytes()).hexdigest()

    changes = {
        move_one: "images, not ",
        move_it_back_and_exchange_labels: "has other labels than the file of labels",
    }
    for change, message in changes.items():
        rewritten(copied, change)
        open_dataset(copied)  # which reads no records
        assert verify(copied) == cli.EXIT_MISTAKE
        assert message in capsys.readouterr().err


def test_record_without_a_valid_class_stops_reading(copied):
    (shard,) = copied.glob("training-00000-*.tfrecord")
    records = [tf.train.Example.FromString(raw.numpy()) for raw in tf.data.TFRecordDataset(str(shard))]
    records[0].features.feature["label"].int64_list.value[0] = 99
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for each in records:
            writer.write(each.SerializeToString())
    split = open_dataset(copied).training
    for read in (lambda: list(split.records_in_order()), lambda: samples(split)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="no such class"):
            read()


def test_shards_of_shards_are_refused(shards, tmp_path, capsys):
    assert cli.main(["prepare", str(shards), str(tmp_path / "again")]) == cli.EXIT_MISTAKE
    assert "has no image files" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_leftovers_of_a_killed_prepare_are_removed(folder, tmp_path):
    def leave_unfinished(name):
        (tmp_path / "out" / ".unfinished-abc").mkdir(parents=True)
        (tmp_path / "out" / ".unfinished-abc" / name).touch()

    for name in ("plan.sha256", "training-00000-of-00001.tfrecord"):
        leave_unfinished(name)
        prepare(folder, tmp_path / "out")
        assert not list((tmp_path / "out").glob(".unfinished*"))


def test_prepare_does_not_write_into_a_folder_with_other_files(folder, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        prepare(folder, tmp_path)


def test_a_shard_without_records_is_one_line(copied, capsys):
    content = b"\n\n"  # shorter than the header of a record

    def shorten(manifest):
        shard = manifest["splits"]["training"][0]
        (copied / shard["file"]).write_bytes(content)
        shard |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    rewritten(copied, shorten)
    assert verify(copied) == cli.EXIT_MISTAKE
    assert "has 0 images, not " in capsys.readouterr().err
