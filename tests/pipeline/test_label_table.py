import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.pipeline import Augmentation, open_dataset, prepare, training_batches
from tests.helpers import image_folders

CONFIG = kc.variant_config("crossvit_9_dagger", num_classes=2, img_size=(48, 32))
TABLE = "file,blue,bright\nbleu/0.jpg,1,0\nbleu/1.jpg,1,1\n\ngrün/0.jpg,0,1.0\nrouge/0.jpg,0,0\n"


@pytest.fixture
def folder(tmp_path):
    folder = image_folders.write_plain(tmp_path / "images", per_class=2)
    (folder / "labels.csv").write_text(TABLE, encoding="utf-8-sig")
    return folder


def test_table_gives_the_labels_of_each_image(folder):
    dataset = open_dataset(folder)
    assert dataset.is_multi_label
    assert dataset.class_names == ("blue", "bright")
    assert [path.rpartition("/")[2] for path in dataset.training.files] == ["0.jpg", "1.jpg", "0.jpg", "0.jpg"]
    np.testing.assert_array_equal(dataset.training.labels, [[1, 0], [1, 1], [0, 1], [0, 0]])


def test_targets_of_each_class_are_smoothed_independently(folder):
    augmentation = Augmentation(mixup=0, cutmix=0, repeats=1, label_smoothing=0.1)
    ((_, target),) = training_batches(open_dataset(folder), CONFIG, augmentation, 4, seed=0, epoch=0)
    rows = sorted(map(tuple, np.array(target).tolist()))
    np.testing.assert_allclose(rows, [(0.05, 0.05), (0.05, 0.95), (0.95, 0.05), (0.95, 0.95)], rtol=1e-6)


def test_validation_split_takes_a_fraction_of_all_images(folder):
    dataset = open_dataset(folder, validation_split=0.25)
    assert (len(dataset.training), len(dataset.validation)) == (3, 1)


def test_tables_of_both_splits_may_order_their_classes_differently(folder, tmp_path):
    both = tmp_path / "both"
    for split in ("train", "val"):
        image_folders.write_plain(both / split, per_class=2)
    (both / "train" / "labels.csv").write_text(TABLE)
    (both / "val" / "labels.csv").write_text("file,bright,blue\nbleu/0.jpg,0,1\n")
    np.testing.assert_array_equal(open_dataset(both).validation.labels, [[1, 0]])
    (both / "val" / "labels.csv").write_text("file,bright,bleu\nbleu/0.jpg,0,1\n")
    with pytest.raises(ValueError, match="'bleu' is in only one of"):
        open_dataset(both)


def test_table_may_have_a_column_of_splits(folder, caplog):
    rows = ("bleu/0.jpg,1,Training,0", "bleu/1.jpg,0,train,1", "grün/0.jpg,0,Val,1", "rouge/0.jpg,0,TEST,0")
    (folder / "labels.csv").write_text("\n".join(["file,blue,Split,bright", *rows]), encoding="utf-8")
    caplog.set_level("INFO", logger="keras_crossvit")
    dataset = open_dataset(folder)
    assert dataset.class_names == ("blue", "bright")
    np.testing.assert_array_equal(dataset.training.labels, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(dataset.validation.labels, [[0, 1]])
    assert not [path for path in (*dataset.training.files, *dataset.validation.files) if "rouge" in path]
    assert "test: 1 files in" in caplog.text
    assert open_dataset(folder, split="test").training.files == (str(folder / "rouge" / "0.jpg"),)
    assert open_dataset(folder, split="validation").training.files == dataset.validation.files
    with pytest.raises(ValueError, match=r"validation_split 0\.5"):
        open_dataset(folder, validation_split=0.5)


def test_class_may_be_named_split(folder):
    (folder / "labels.csv").write_text("file,split,blue\nbleu/0.jpg,1,0\nbleu/1.jpg,0,1\n")
    assert open_dataset(folder).class_names == ("split", "blue")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "first line must be 'file'"),
        ("file;blue\na.jpg;1\n", "first line must be 'file'"),
        ("file,blue,blue\na.jpg,1,0\n", "repeated name"),
        ("filename,blue\na.jpg,1\n", "'filename,blue'.*first line must be 'file'"),
        ("file,blue,red\nbleu/0.jpg,blue,1\n", "line 2: 'blue' is neither 0 nor 1.*column 'label'"),
        ("file,label\nbleu/0.jpg,\n", "line 2: '' is not the name or number of a class"),
        ("file,blue\n", "lists no files"),
        ("file,blue,red\na.jpg,1\n", "line 2 has 2 entries"),
        ("file,blue\nbleu/0.jpg,1\nbleu/1.jpg,yes\n", "line 3: 'yes' is neither 0 nor 1"),
        ("file,blue\nbleu/0.jpg,1\n./bleu/0.jpg,0\n", "twice"),
        ("file,blue\nbleu/0.jpg,1\n../private.jpg,1\n", r"labels.csv', line 3 names '../private.jpg'"),
        ("file,blue\n/etc/passwd,1\n", "line 2 names '/etc/passwd'"),
        ("file,blue\nbleu/0.jpg\0,1\n", r"line 2 names 'bleu/0.jpg\\x00'"),
        ("file,blue\nout.jpg,1\n", "line 2 names 'out.jpg'"),
        ("file,blue\naway/private.jpg,1\n", "line 2 names 'away/private.jpg'"),
        ("file,blue\nC:\\private.jpg,1\n", "line 2 names"),
        ('file,blue\n"' + 200_000 * "a" + '",1\n', "not a CSV table"),
        ("file,split\nbleu/0.jpg,train\n", "no class columns"),
        ("file,split,blue\nbleu/0.jpg,train,1\nbleu/1.jpg,prueba,1\n", "line 3: 'prueba' is not the name of a split"),
        ("file,split,blue\nbleu/0.jpg,train,1\nbleu/1.jpg\n", "line 3 has 1 entries"),
        ("file,split,blue\nbleu/0.jpg,train,1\nbleu/0.jpg,val,1\n", "twice"),
        ("file,split,blue\nbleu/0.jpg,val,1\n", "no readable image"),
        ("file,train,val\nbleu/0.jpg,1,0\nbleu/1.jpg,0,1\n", "'train' and 'val', which are names of splits"),
        ("file,blue\nbleu/0.jpg,0\n", "Class 'blue'"),
        ("file,blue\nbleu/0.jpg,1\nnowhere.jpg,1\n", "1 missing"),
    ],
)
def test_mistakes_in_a_table_are_named(folder, table, message):
    (folder / "labels.csv").write_text(table)
    (folder.parent / "private.jpg").touch()
    (folder / "out.jpg").symlink_to(folder.parent / "private.jpg")
    (folder / "away").symlink_to(folder.parent)
    with pytest.raises(ValueError, match=message):
        open_dataset(folder)


def test_a_name_that_is_too_long_for_a_file_is_that_of_an_unreadable_image(folder):
    (folder / "labels.csv").write_text(f"file,blue\nbleu/0.jpg,1\n{'x' * 5000}.jpg,0\n")
    ((_, problem),) = open_dataset(folder, max_unreadable=1).unreadable
    assert problem == "File name too long"


def test_shards_of_multi_label_images_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="multi-label"):
        prepare(folder, tmp_path / "shards")


METADATA = [
    ("labels.csv", "file,label\nbleu/0.jpg,sea\nbleu/1.jpg,sea\nrouge/0.jpg,fire\n", ("fire", "sea"), [1, 1, 0]),
    (
        "metadata.csv",
        "text,file_name,Label\na,bleu/0.jpg,10\nb,bleu/1.jpg,9\nc,rouge/0.jpg,10\n",
        ("9", "10"),
        [1, 0, 1],
    ),
    (
        "metadata.jsonl",
        '{"file_name": "bleu/0.jpg", "label": "sea"}\n{"file_name": "rouge/0.jpg", "label": "fire", "year": 2020}\n',
        ("fire", "sea"),
        [1, 0],
    ),
    (
        "metadata.jsonl",
        '{"file_name": "bleu/0.jpg", "labels": ["sea", "sky"]}\n{"file_name": "rouge/0.jpg", "labels": ["sky"]}\n',
        ("sea", "sky"),
        [[1, 1], [0, 1]],
    ),
]


@pytest.mark.parametrize(("name", "table", "class_names", "labels"), METADATA)
def test_tables_may_name_the_class_of_each_image(folder, name, table, class_names, labels):
    (folder / "labels.csv").unlink()
    (folder / name).write_text(table)
    dataset = open_dataset(folder)
    assert dataset.class_names == class_names
    assert dataset.training.labels.tolist() == labels


def test_metadata_beside_the_images_of_each_split(tmp_path, caplog):
    for split, rows in {"train": "0.jpg,cat\n1.jpg,dog", "test": "0.jpg,dog"}.items():
        image_folders.write_plain(tmp_path / "all" / split, per_class=2)
        for i in range(2):
            (tmp_path / "all" / split / "bleu" / f"{i}.jpg").rename(tmp_path / "all" / split / f"{i}.jpg")
        (tmp_path / "all" / split / "metadata.csv").write_text(f"file_name,label\n{rows}\n")
    caplog.set_level("INFO", logger="keras_crossvit")
    dataset = open_dataset(tmp_path / "all")
    assert (dataset.class_names, dataset.training.labels.tolist()) == (("cat", "dog"), [0, 1])
    assert "test: 1 files" in caplog.text
    assert "ignored: 'train/grün/0.jpg'" in caplog.text
    assert open_dataset(tmp_path / "all", split="test").class_names == ("dog",)


def test_metadata_of_all_splits_names_them_by_their_folders(tmp_path):
    for split in ("train", "test"):
        image_folders.write_plain(tmp_path / split, per_class=1)
    rows = [
        f"{split}/{colour}/0.jpg,{label}"
        for split in ("train", "test")
        for colour, label in (("bleu", 0), ("rouge", 1))
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *rows, ""]))
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, len(dataset.training), dataset.validation) == (("0", "1"), 2, None)
    assert open_dataset(tmp_path, split="test").training.files == tuple(
        str(tmp_path / "test" / each / "0.jpg") for each in ("bleu", "rouge")
    )


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("metadata.csv", "file,label\nbleu/0.jpg,sea\n", "has no 'file_name'"),
        ("metadata.csv", "file_name,label\n../private.jpg,sea\n", r"line 2 names '../private.jpg'"),
        (
            "metadata.jsonl",
            '{"file_name": "bleu/0.jpg", "label": "sea"}\n{"file_name": "bleu/1.jpg"}\n',
            "line 2: None",
        ),
        ("metadata.jsonl", '{"file_name": 3, "label": "sea"}\n', "line 1 names 3"),
        ("metadata.jsonl", '{"label": "sea"}\n', "line 1 has no 'file_name'"),
        ("metadata.jsonl", '{"file_name": "bleu/0.jpg", "label": {"a": 1}}\n', "is not the name or number of a class"),
        ("metadata.jsonl", "[1]\n", "not a JSON object"),
    ],
)
def test_mistakes_in_metadata_are_named(folder, name, table, message):
    (folder / "labels.csv").unlink()
    (folder / name).write_text(table)
    with pytest.raises(ValueError, match=message):
        open_dataset(folder)


def test_validation_may_not_have_several_classes_per_image_where_training_has_one(tmp_path):
    for split in ("train", "val"):
        image_folders.write_plain(tmp_path / split, per_class=1)
    (tmp_path / "val" / "labels.csv").write_text("file,bleu,rouge\nbleu/0.jpg,1,1\n")
    with pytest.raises(ValueError, match="several classes per image"):
        open_dataset(tmp_path)
    (tmp_path / "val" / "labels.csv").rename(tmp_path / "train" / "labels.csv")
    with pytest.raises(ValueError, match=r"has no 'labels\.csv'"):
        open_dataset(tmp_path)
