import time

import pytest

from keras_crossvit.pipeline.split_names import split_kinds

SPELLINGS = {
    "training": "train Training TRAIN train_set training-data images_train train2017 Train-Set trainset TrainImages "
    "X_train 01_train train_v2 training_set (train) trainval train_val dataset.train",
    "validation": "val valid Validation VALID_set val2017 val-images dev devset validation_data x_val valset",
    "test": "test Testing TEST test_set testset images.test test2017 Test-Images",
    "evaluation": "eval Evaluation eval_set",
}


@pytest.mark.parametrize(("kind", "names"), SPELLINGS.items())
def test_split_names_are_recognized_in_any_spelling(kind, names):
    for name in names.split():
        assert split_kinds([name]) == {name: kind}, name
    assert split_kinds(["Training Images", "train (1)"]) == dict.fromkeys(["Training Images", "train (1)"], "training")


@pytest.mark.parametrize(
    "name",
    [
        "bus",
        "trainer",
        "train_station",
        "bullet train",
        "test tube",
        "contest",
        "validity",
        "invalid",
        "trained",
        "devil",
    ],
)
def test_class_names_are_not_split_names(name):
    assert split_kinds([name, "train"]) == {"train": "training"}


def test_other_words_are_allowed_if_splits_share_them():
    names = ["ILSVRC2012_img_train", "ILSVRC2012_img_val", "seg_pred", "bus_test"]
    assert split_kinds(names) == {"ILSVRC2012_img_train": "training", "ILSVRC2012_img_val": "validation"}
    assert split_kinds(["freight_train", "bus", "toy_test"]) == {}


def test_long_names_take_no_time():
    start = time.process_time()
    assert split_kinds([f"{'datasets' * 30}q", "train"]) == {"train": "training"}
    assert time.process_time() - start < 5
