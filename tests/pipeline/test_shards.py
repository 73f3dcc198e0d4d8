import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.pipeline import Augmentation, evaluation_batches, open_dataset, prepare, training_batches
from tests.helpers import image_folders
from tests.helpers.processes import run_python

CONFIG = kc.variant_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return image_folders.write_plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("shards") / "out"
    prepare(folder, output, validation_split=0.25, shard_bytes=20_000)
    return output


@pytest.fixture(autouse=True)
def _own_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def samples(split, **arguments):
    return [int(each["sample"]) for each in split.records(**{"repeats": 1, "seed": 0, "epoch": 0, **arguments})]


def test_shards_hold_what_the_folder_holds(folder, shards):
    from_files = open_dataset(folder, validation_split=0.25)
    dataset = open_dataset(shards)
    assert dataset.class_names == from_files.class_names
    assert len(dataset.training.files) > 1
    contents = {each["contents"].numpy() for each in dataset.validation.records_in_order()}
    assert contents == {Path(path).read_bytes() for path in from_files.validation.files}
    labels = [int(each["label"]) for each in dataset.training.records_in_order()]
    np.testing.assert_array_equal(labels, dataset.training.labels)
    stored = json.loads((shards / "manifest.json").read_text())
    assert stored["pictures_per_class"]["training"] == {"bleu": 6, "grün": 6, "rouge": 6}


def test_a_sample_is_augmented_alike_from_a_file_and_from_a_shard(folder, shards):
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
def test_shards_come_in_another_order_each_epoch_and_can_be_resumed(shards, repeats):
    split = open_dataset(shards).training
    keras.utils.set_random_seed(1)
    first = samples(split, repeats=repeats)
    keras.utils.set_random_seed(2)
    assert samples(split, repeats=repeats) == first
    assert samples(split, repeats=repeats, skip=7) == first[7:]
    assert samples(split, repeats=repeats, epoch=1) != first
    assert len(set(first)) == len(first) == len(split)


@pytest.mark.parametrize("skipped", [0, 2, 4])
def test_batches_from_shards_are_counted_before_they_are_made(shards, skipped):
    dataset = open_dataset(shards)
    images = training_batches(dataset, CONFIG, Augmentation.none(), 4, seed=0, epoch=0, skip_batches=skipped)
    assert int(images.cardinality()) == len(list(images)) == 4 - skipped
    validation = evaluation_batches(dataset, CONFIG, 4)
    assert int(validation.cardinality()) == len(list(validation)) == 2


def test_prepare_goes_on_where_it_was_interrupted(folder, shards, tmp_path, monkeypatch):
    module = sys.modules["keras_crossvit.pipeline.prepare"]
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
    with pytest.raises(ValueError, match="of other pictures, or of other settings"):
        prepare(folder, tmp_path / "out", **{**arguments, "seed": 1})
    monkeypatch.setattr(module, "_write_shard", lambda *all_: written.append(all_[2].name) or write(*all_))
    manifest = prepare(folder, tmp_path / "out", **arguments)
    assert len(written) == len(set(written))  # none was written twice
    assert manifest.splits == json.loads((shards / "manifest.json").read_text())["splits"]


def test_prepare_on_a_full_disk_is_one_line_and_leaves_no_half_shard(folder, tmp_path):
    program = """
import resource, signal, sys
from keras_crossvit.cli import main as cli
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
print(cli.main(["prepare", *sys.argv[1:]]))
"""
    done = run_python("-c", program, folder, tmp_path / "shards", XDG_CACHE_HOME=tmp_path / "cache")
    assert done.stdout.splitlines()[-1] == str(cli.EXIT_MISTAKE)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("keras-crossvit prepare: ")]
    assert "shards' cannot be written" in line
    assert not [path for path in (tmp_path / "shards").iterdir() if "tfrecord" in path.name or ".unf" in path.name]


def test_changed_and_missing_shards_are_found(folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert cli.main(["prepare", str(folder), str(output)]) == 0
    assert cli.main(["prepare", str(output), "--check"]) == 0
    shard = next(output.glob("*.tfrecord"))
    contents = bytearray(shard.read_bytes())
    contents[len(contents) // 2] ^= 1
    shard.write_bytes(contents)
    capsys.readouterr()
    assert cli.main(["prepare", str(output), "--check"]) == cli.EXIT_MISTAKE
    assert "has changed since it was written" in capsys.readouterr().err
    shard.write_bytes(contents[:100])
    with pytest.raises(ValueError, match="has 100 bytes"):
        open_dataset(output)
    assert cli.main(["prepare", str(folder), str(output)]) == 0  # which is what the message says
    assert cli.main(["prepare", str(output), "--check"]) == 0
    shard.unlink()
    with pytest.raises(ValueError, match="is missing; 'keras-crossvit prepare', run as it was before, writes anew"):
        open_dataset(output)
    assert cli.main(["prepare", str(folder), str(output)]) == 0
    assert cli.main(["prepare", str(output), "--check"]) == 0


@pytest.fixture
def copied(shards, tmp_path):
    return Path(shutil.copytree(shards, tmp_path / "copied"))


def rewritten(folder, change):
    """Changes the manifest of shards."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def prepared_again(folder, output):
    lines = []
    prepare(folder, output, validation_split=0.25, shard_bytes=20_000, report=lines.append)
    return lines


NAMES = [
    "../precious.txt",
    "/etc/hostname",
    "sub/precious.txt",
    "C:precious.txt",
    "..\\precious.txt",
    "out.tfrecord",
    "a\0b",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_names_no_file_elsewhere(folder, copied, name):
    precious = copied.parent / "precious.txt"
    precious.write_text("precious")
    (copied / "sub").mkdir()
    (copied / "sub" / "precious.txt").write_text("precious")
    (copied / "out.tfrecord").symlink_to(precious)
    entry = {"file": name, "images": 1, "bytes": 1, "sha256": ""}
    rewritten(copied, lambda manifest: manifest["splits"]["training"].append(entry))
    for use in (lambda: open_dataset(copied), lambda: prepared_again(folder, copied)):
        with pytest.raises(ValueError, match=re.escape(f"manifest.json' names {name!r}")):
            use()
    assert precious.read_text() == (copied / "sub" / "precious.txt").read_text() == "precious"


def test_prepare_removes_no_file_but_its_own(folder, copied):
    notes = copied / "notes.txt"
    notes.write_text("my own")
    entry = {"file": "notes.txt", "images": 1, "bytes": 1, "sha256": ""}
    rewritten(copied, lambda manifest: manifest["splits"]["training"].append(entry))
    with pytest.raises(ValueError, match=r"notes.txt' has 6 bytes"):
        open_dataset(copied)
    prepared_again(folder, copied)
    assert notes.read_text() == "my own"
    assert cli.main(["prepare", str(copied), "--check"]) == 0


def test_prepare_writes_through_no_link(folder, copied):
    elsewhere = copied.parent / "elsewhere"
    elsewhere.write_text("precious")
    (copied / "manifest.json").unlink()
    for name in (next(copied.glob("training*.tfrecord")).name, "training-labels.npy"):
        (copied / name).unlink()
        (copied / name).symlink_to(elsewhere)
    prepared_again(folder, copied)
    assert elsewhere.read_text() == "precious"
    assert not [path for path in copied.iterdir() if path.is_symlink()]
    assert cli.main(["prepare", str(copied), "--check"]) == 0


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


def _claim_a_vast_array(folder):
    with (folder / "training-labels.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i4", "fortran_order": False, "shape": (10**12,)})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "training-labels.npy").unlink(), "training-labels.npy' is missing"),
        (
            lambda folder: (folder / "validation-labels.npy").write_bytes(b""),
            "validation-labels.npy' is no file of labels",
        ),
        (_claim_a_vast_array, "is no file of labels"),
        (_saved(lambda labels: labels[:-1]), "has 17 labels for the 18 images"),
        (_saved(lambda labels: labels[:, None]), "int32 of shape (18, 1)"),
        (_saved(lambda labels: labels + 0.5), "float64"),
        (_saved(lambda labels: labels.astype(object)), "is no file of labels"),
        (_saved(lambda labels: np.where(labels == 2, 99, labels).astype("int32")), "has label 99"),
        (_saved(lambda labels: labels - np.int32(1)), "has label -1"),
        (_saved(_exchanged), "training-labels.npy' has changed"),
        (_set("class_names", ["bleu", "grün"]), "has label 2, which is none of the manifest's 2 classes"),
        (_set("class_names", ["bleu", "rouge", "grün", "violet"]), "images per class"),
        (_set("class_names", ["bleu", "bleu", "rouge"]), "class_names"),
        (_set("class_names", "abc"), "class_names"),
        (_set("class_names", [1, 2, 3]), "class_names"),
        (_set("splits", {}), "'training'"),
        (_set("splits", {"training": []}), "'training'"),
        (_set("splits", {"validation": [{"file": "a", "images": 1, "bytes": 1, "sha256": ""}]}), "'training'"),
        (_set("splits", []), "splits"),
        (_set("splits", {"training": ["a"]}), "'training'"),
        (_set("pictures_per_class", {"training": {"bleu": 1}}), "images per class"),
        (_set("pictures_per_class", 3), "pictures_per_class"),
        (_set("labels", {"training": ""}), "labels"),
        (_set("labels", {"training": "", "validation": ""}), "has changed"),
        (_set("left_out", 3), "left_out"),
        (_set("format", "1"), "format '1', not 1"),
        (_in_first_shard("images", 10**9), "images of the manifest"),
        (_in_first_shard("images", True), "images"),
        (_in_first_shard("images", -1), "images"),
        (_in_first_shard("bytes", None), "bytes"),
        (_in_first_shard("file", ["a"]), "file"),
        (
            lambda folder: rewritten(folder, lambda m: m["splits"]["validation"].extend(m["splits"]["training"])),
            "twice",
        ),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "manifest.json' is no manifest"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json' is no manifest"),
    ],
)
def test_shards_that_disagree_are_refused_and_prepare_makes_them_good(folder, copied, harm, message):
    harm(copied)
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        open_dataset(copied)
    assert "\n" not in str(refused.value)
    assert cli.main(["prepare", str(copied), "--check"]) == cli.EXIT_MISTAKE
    if "remove it" in str(refused.value) or "format" in message:
        (copied / "manifest.json").unlink()
    lines = prepared_again(folder, copied)
    assert not [line for line in lines if "complete already" in line]
    assert cli.main(["prepare", str(copied), "--check"]) == 0
    assert "complete already" in prepared_again(folder, copied)[-1]


def test_shards_without_hashes_of_their_labels_are_opened_and_get_them_from_prepare(folder, copied):
    rewritten(copied, lambda manifest: manifest.pop("labels"))
    assert len(open_dataset(copied).training) == 18
    assert any("labels and manifest are written anew" in line for line in prepared_again(folder, copied))
    assert json.loads((copied / "manifest.json").read_text())["labels"].keys() == {"training", "validation"}


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
        move_one: "images, not the",
        move_it_back_and_exchange_labels: "has other labels than the file of labels",
    }
    for change, message in changes.items():
        rewritten(copied, change)
        open_dataset(copied)  # which reads no records
        assert cli.main(["prepare", str(copied), "--check"]) == cli.EXIT_MISTAKE
        assert message in capsys.readouterr().err


def test_a_record_of_no_class_ends_the_reading(copied):
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
    assert "has no files of pictures to write into shards" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_what_a_killed_prepare_began_is_removed(folder, tmp_path):
    def leave_unfinished(name):
        (tmp_path / "out" / ".unfinished-abc").mkdir(parents=True)
        (tmp_path / "out" / ".unfinished-abc" / name).touch()

    for name in ("plan.sha256", "training-00000-of-00001.tfrecord"):
        leave_unfinished(name)
        prepare(folder, tmp_path / "out")
        assert not list((tmp_path / "out").glob(".unfinished*"))


def test_a_foreign_folder_is_not_written_into(folder, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        prepare(folder, tmp_path)
