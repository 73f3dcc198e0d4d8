import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.models import builders
from keras_crossvit.runtimes.keras_model import KerasRuntime
from keras_crossvit.runtimes.runtime import Runtime
from tests.helpers.exports import CLASSES, confident_model, write_export


@pytest.fixture(scope="module")
def model():
    return confident_model()


@pytest.fixture(scope="module")
def images():
    return [np.random.default_rng(i).integers(0, 256, (30 + i, 50, 3), dtype="uint8") for i in range(3)]


@pytest.fixture(scope="module")
def expected(model, images):
    """Classes and probabilities of the images by the functions that `classify` stands for."""
    runtime = KerasRuntime(model)
    return kc.decode_predictions(runtime.probabilities(*kc.preprocess(images, model)), class_names=CLASSES)


def assert_same(found, expected):
    assert [[name for _, name, _ in each] for each in found] == [[name for _, name, _ in each] for each in expected]
    for one, other in zip(found, expected, strict=True):
        # LiteRT sums in another order than TensorFlow
        np.testing.assert_allclose([p for *_, p in one], [p for *_, p in other], rtol=0, atol=1e-5)


def test_a_model_names_the_classes_of_images(model, images, expected):
    found = kc.classify(model, images)
    assert_same(found, expected)
    assert kc.classify(model, images, 2) == [each[:2] for each in found]
    assert_same(kc.classify(model, images[1]), expected[1:2])


def test_files_folders_and_runtimes_name_the_same_classes(model, images, expected, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "best.keras")
    exported = write_export(model, tmp_path / "model.tflite", batch_size=2)
    for source in (str(tmp_path / "run"), exported, kc.load_runtime(exported)):
        assert_same(kc.classify(source, paths), expected)
    assert_same(kc.classify(exported, str(paths[2])), expected[2:])


def test_the_name_of_a_published_model_stands_for_its_imagenet_weights(model, images, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(builders, "create_model", lambda *given, **named: asked.append((given, named)) or model)
    assert_same(kc.classify("timm/crossvit_9_240.in1k", images), expected)
    assert asked == [(("timm/crossvit_9_240.in1k",), {"weights": "imagenet"})]


class Counting(Runtime):
    """Gives the same logits for every image, and records the batch sizes."""

    name = "counts"

    def __init__(self, metadata, **arguments):
        super().__init__(metadata, **arguments)
        self.batches = []

    def _run(self, given):
        self.batches.append(len(given[0]))
        return {"logits": np.tile(np.arange(self.config.num_classes, dtype="float32"), (len(given[0]), 1))}


@pytest.mark.parametrize(("batch_size", "batches"), [(None, [8, 2]), (4, [4, 4, 4])])
def test_images_are_preprocessed_in_batches(batch_size, batches, model, images):
    runtime = Counting(kc.runtimes.metadata.metadata_of(model), batch_size=batch_size)
    found = kc.classify(runtime, [images[0]] * 10, top=1)
    assert runtime.batches == batches
    assert [each[0][1] for each in found] == ["emu"] * 10


def test_what_cannot_be_classified_is_refused(model, images, tmp_path):
    with pytest.raises(TypeError, match="Functional"):
        kc.classify(kc.single_image(model), images)
    with pytest.raises(ValueError, match="num_classes=0"):
        kc.classify(confident_model(num_classes=0, class_names=None), images)
    with pytest.raises(ValueError, match="top 0"):
        kc.classify("nowhere.keras", images, top=0)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.keras"):
        kc.classify("nowhere.keras", images)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        kc.classify(model, str(tmp_path / "nowhere.jpg"))
