import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_crossvit as kc
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.evaluation.evaluator import _evaluate_single_label
from keras_crossvit.pipeline.batches import read_images
from keras_crossvit.pipeline.dataset import open_dataset


def test_worst_mistakes_and_least_certain_images_are_listed_in_order():
    right = np.array([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.3, 0.7], [0.4, 0.6]])
    labels = np.array([0, 0, 0, 0, 1])
    common = {"class_names": ("cat", "dog"), "images": 5, "images_per_second": 1.0}
    found = _evaluate_single_label(np.log(right), labels, np.arange(2), common, independent=False)
    assert [row["image"] for row in found.worst_mistakes] == [1, 3]
    assert found.worst_mistakes[0] == {
        "image": 1,
        "class": "cat",
        "predicted": "dog",
        "probability": pytest.approx(0.8),
    }
    assert [row["image"] for row in found.least_certain] == [2, 4, 3, 1, 0]
    assert found.to_dict()["least_certain"][0]["probability"] == pytest.approx(0.55)


def test_images_are_read_by_their_number_from_files_and_datasets(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (4, 20, 30, 3), dtype="uint8")
    for i, each in enumerate(pixels):
        (tmp_path / f"class{i // 2}").mkdir(exist_ok=True)
        Image.fromarray(each).save(tmp_path / f"class{i // 2}" / f"{i}.png")
    from_files = open_dataset(tmp_path).training
    order = [3, 0]
    wanted = [int(from_files.files[i].rpartition("/")[2].removesuffix(".png")) for i in order]
    np.testing.assert_array_equal(read_images(from_files, order), pixels[wanted])
    dataset = tf.data.Dataset.from_tensor_slices((pixels, [0, 0, 1, 1]))
    np.testing.assert_array_equal(
        read_images(open_dataset(dataset, class_names=["a", "b"]).training, order), pixels[order]
    )


@pytest.mark.parametrize(
    "change", [{"data": None}, {"data": []}, {"images": []}, {"validation_split": "much"}, {"seed": [1]}]
)
def test_damaged_settings_of_a_run_are_named(change, tmp_path):
    settings = {"recipe": {}, "data": "pets", "images": {"sha256": ""}, "validation_split": 0.1, "seed": 0, **change}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InvalidValueError, match=rf"config\.json' is damaged \({next(iter(change))}"):
        kc.evaluate(tmp_path)
