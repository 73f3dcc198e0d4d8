import dataclasses
import json
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_crossvit as kc
from keras_crossvit import cli
from keras_crossvit.pipeline import Augmentation, evaluation_batches, open_source, prepare, training_batches
from keras_crossvit.pipeline import prepare as prepare_function
from tests.helpers import collections
from tests.helpers.processes import run_python

CONFIG = kc.get_config("crossvit_9_dagger", num_classes=3, img_size=(48, 32))
ONCE = Augmentation(repeats=1, rand_augment_ops=0)
BATCH = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return collections.write_plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("shards") / "out"
    prepare_function(folder, output, validation_split=0.25, shard_bytes=20_000, report=None)
    return output


@pytest.fixture(autouse=True)
def _own_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def samples(split, **arguments):
    return [int(each["sample"]) for each in split.records(**{"repeats": 1, "seed": 0, "epoch": 0, **arguments})]


def test_a_share_of_each_class_is_held_out(folder):
    source = open_source(folder, validation_split=0.25, report=None)
    assert source.class_names == ("bleu", "grün", "rouge")
    np.testing.assert_array_equal(np.bincount(source.training.labels), [6, 6, 6])
    np.testing.assert_array_equal(np.bincount(source.validation.labels), [2, 2, 2])
    assert not set(source.training.paths) & set(source.validation.paths)
    again, other = (open_source(folder, validation_split=0.25, seed=seed, report=None) for seed in (0, 1))
    assert again.validation.paths == source.validation.paths != other.validation.paths


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


def test_shards_hold_what_the_folder_holds(folder, shards):
    from_files = open_source(folder, validation_split=0.25, report=None)
    source = open_source(shards, report=None)
    assert source.class_names == from_files.class_names
    assert len(source.training.files) > 1
    contents = {each["contents"].numpy() for each in source.validation.records_in_order()}
    assert contents == {Path(path).read_bytes() for path in from_files.validation.paths}
    labels = [int(each["label"]) for each in source.training.records_in_order()]
    np.testing.assert_array_equal(labels, source.training.labels)
    stored = json.loads((shards / "manifest.json").read_text())
    assert stored["pictures_per_class"]["training"] == {"bleu": 6, "grün": 6, "rouge": 6}


def test_a_sample_is_augmented_alike_from_a_file_and_from_a_shard(folder, shards):
    def by_sample(source):
        split = source.training
        images = training_batches(source, CONFIG, plain, 1, seed=3, epoch=2)
        return dict(zip(samples(split, seed=3, epoch=2), (np.asarray(i[0]) for (i, _), _ in images), strict=True))

    plain = Augmentation(repeats=1, mixup=0.0, cutmix=0.0, rand_augment_ops=0)
    of_files = by_sample(open_source(folder, validation_split=0.25, report=None))
    of_shards = by_sample(open_source(shards, report=None))
    assert of_files.keys() == of_shards.keys()
    for sample, image in of_files.items():
        np.testing.assert_array_equal(of_shards[sample], image)


@pytest.mark.parametrize("repeats", [1, 3])
def test_shards_come_in_another_order_each_epoch_and_can_be_resumed(shards, repeats):
    split = open_source(shards, report=None).training
    keras.utils.set_random_seed(1)
    first = samples(split, repeats=repeats)
    keras.utils.set_random_seed(2)
    assert samples(split, repeats=repeats) == first
    assert samples(split, repeats=repeats, skip=7) == first[7:]
    assert samples(split, repeats=repeats, epoch=1) != first
    assert len(set(first)) == len(first) == len(split)


def test_prepare_goes_on_where_it_was_interrupted(folder, shards, tmp_path, monkeypatch):
    module = sys.modules["keras_crossvit.pipeline.prepare"]
    write, written = module._write_shard, []

    def interrupted(output, split, shard):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.name)
        write(output, split, shard)

    arguments = {"validation_split": 0.25, "shard_bytes": 20_000, "report": None}
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
from keras_crossvit import cli
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
        open_source(output, report=None)
    shard.unlink()
    with pytest.raises(ValueError, match="is missing"):
        open_source(output, report=None)


def test_a_foreign_folder_is_not_written_into(folder, tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        prepare(folder, tmp_path, report=None)


def dataset(count=12, **options):
    labels = np.arange(count) % 3
    colours = np.array(list(collections.COLOURS.values()))
    images = np.stack([collections.picture(colours[label], seed=i) for i, label in enumerate(labels)])
    return tf.data.Dataset.from_tensor_slices((images, options.get("labels", labels)))


def test_any_dataset_of_images_and_labels_is_taken():
    source = open_source((dataset(), dataset(6)), class_names=list(collections.COLOURS))
    plain = Augmentation(repeats=1, mixup=0.0, cutmix=0.0, rand_augment_ops=0, erasing=0.0, label_smoothing=0.0)
    colours = np.array(list(collections.COLOURS.values()))
    shown = 0
    for (images, _), targets in training_batches(source, CONFIG, plain, BATCH, seed=0, epoch=0):
        means = (np.mean(images, axis=(1, 2)) * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)) * 255
        nearest = np.linalg.norm(means[:, None] - colours, axis=2).argmin(axis=1)
        np.testing.assert_array_equal(nearest, np.argmax(targets, axis=1))
        shown += len(means)
    assert shown == 12
    assert sum(len(target) for _, target in evaluation_batches(source, CONFIG, BATCH)) == 6
    first, resumed = (
        [np.asarray(image) for (image, _), _ in training_batches(source, CONFIG, ONCE, BATCH, seed=0, epoch=0, **skip)]
        for skip in ({}, {"skip_batches": 2})
    )
    np.testing.assert_array_equal(first[2:], resumed)


def test_several_classes_at_once_are_smoothed_towards_a_half():
    labels = np.array([[1, 0, 1], [0, 0, 0]] * 6, "int32")
    source = open_source(dataset(labels=labels), class_names="abc")
    augmentation = dataclasses.replace(Augmentation.none(), label_smoothing=0.1)
    targets = next(iter(training_batches(source, CONFIG, augmentation, 12, seed=0, epoch=0)))[1]
    assert sorted(np.asarray(targets).tolist())[-1] == pytest.approx([0.95, 0.05, 0.95])


def test_a_label_that_is_no_class_is_never_trained_on():
    source = open_source(dataset(labels=np.array([0, 1, 3] * 4)), class_names="abc")
    with pytest.raises(tf.errors.InvalidArgumentError, match="no such class"):
        list(evaluation_batches(source, CONFIG, BATCH, split="training"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dataset().batch(2), "are not .height, width, 1 or 3. of uint8"),
        (dataset().map(lambda image, label: (tf.cast(image, tf.float32), label)), "float32"),
        (dataset().map(lambda image, label: image), "not pairs"),
        (dataset().repeat(), "cardinality -1"),
        (dataset().filter(lambda image, label: True), "cardinality -2"),
        (dataset(labels=np.eye(12)), "12 entries do not fit 3"),
        (dataset(labels=np.zeros(12)), "neither class numbers nor vectors"),
        (np.zeros((2, 8, 8, 3)), "ndarray is neither"),
    ],
)
def test_datasets_of_another_form_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        open_source(data, class_names="abc")
    with pytest.raises(ValueError, match="has no class names"):
        open_source(data)


def test_tensorflow_datasets_are_found_by_name(monkeypatch):
    asked = []

    def as_dataset(*, split, as_supervised, shuffle_files):
        assert as_supervised
        assert not shuffle_files
        asked.append(split)
        return dataset()

    label = types.SimpleNamespace(names=list(collections.COLOURS))
    info = types.SimpleNamespace(features={"label": label}, splits={"train": 1, "test": 1})
    builder = types.SimpleNamespace(info=info, as_dataset=as_dataset, download_and_prepare=lambda: None)
    library = types.ModuleType("tensorflow_datasets")
    library.builder = lambda name: builder
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", library)
    assert open_source("tfds:flowers").class_names == tuple(collections.COLOURS)
    open_source("tfds:flowers", validation_split=0.2)
    assert asked == ["train", "test", "train[:80%]", "train[80%:]"]
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"keras_crossvit\[tfds\]"):
        open_source("tfds:flowers")
