import keras
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.preprocessing.predictions import softmax
from keras_crossvit.training import get_recipe
from keras_crossvit.training.distillation import Distiller
from tests.helpers import image_folders
from tests.helpers.models import images, tiny


@pytest.fixture(scope="module")
def student():
    return tiny(3)


def convolutional_teacher(side, class_names=3):
    layers = [keras.Input((side, side, 3)), keras.layers.Conv2D(4, 3, strides=4), keras.layers.GlobalMaxPooling2D()]
    return keras.Sequential([*layers, keras.layers.Dense(class_names)])


@pytest.mark.parametrize("side", [48, 40])
def test_a_teacher_with_one_input_sees_the_image_at_its_size(student, side):
    teacher = convolutional_teacher(side)
    distiller = Distiller(student, teacher)
    inputs = images(student)
    seen = distiller.teacher(inputs)
    assert seen.shape == (2, 3)
    if side == 48:
        np.testing.assert_array_equal(seen, teacher(inputs[0]))


def test_distillation_loss_is_the_divergence_of_softened_probabilities(student):
    distiller = Distiller(student, convolutional_teacher(48), temperature=2.0, student_loss_weight=0.25)
    distiller.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True), run_eagerly=True)
    inputs, target = images(student, batch=4), np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    values = distiller.test_on_batch(inputs, target, return_dict=True)
    logits = [np.array(model(inputs)) for model in (distiller.teacher, student)]
    teacher, learner = (softmax(each / 2) for each in logits)
    divergence = 2.0**2 * np.mean(np.sum(teacher * np.log(teacher / learner), axis=1))
    assert values["distillation_loss"] == pytest.approx(divergence, rel=1e-4)
    assert values["student_loss"] == pytest.approx(
        -np.mean(np.sum(target * np.log(softmax(logits[1])), axis=1)), rel=1e-4
    )
    assert values["loss"] == pytest.approx(0.25 * values["student_loss"] + 0.75 * values["distillation_loss"], rel=1e-5)


def test_the_student_approaches_the_teacher():
    distiller = Distiller(tiny(3), convolutional_teacher(48), student_loss_weight=0.0)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"], run_eagerly=True)
    inputs, target = images(distiller.student, batch=4), np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    losses = [distiller.train_on_batch(inputs, target, return_dict=True)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    assert not distiller.teacher.trainable_variables


def test_a_crossvit_teaches_by_its_logits(student):
    teacher = tiny(3, classifier_activation="softmax")
    inputs = images(student)
    logits = keras.Model(teacher.inputs, teacher.get_layer("logits").output)(inputs)
    np.testing.assert_array_equal(Distiller(student, teacher).teacher(inputs), logits)


def test_a_run_with_a_teacher_saves_the_student_and_every_loss(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    convolutional_teacher(48).save(tmp_path / "teacher.keras")
    images = image_folders.write_plain(tmp_path / "images", per_class=3)
    recipe = get_recipe("finetune", epochs=1, batch_size=2, layer_decay=None)
    model = tiny(3, class_names=list(image_folders.COLOURS), calibration={"temperature": 3.0})
    settings = {"model": model, "recipe": recipe, "teacher": tmp_path / "teacher.keras", "validation_split": 0.4}
    result = kc.train(images, output=tmp_path / "run", verbose=False, **settings)
    assert {"loss", "student_loss", "distillation_loss", "accuracy", "val_loss"} <= result.history[0].keys()
    assert isinstance(keras.saving.load_model(result.best), kc.CrossViT)
    assert keras.saving.load_model(result.folder / "last.keras").calibration is None  # that of the start is not kept
    assert result.evaluation.top1 == pytest.approx(result.history[0]["val_accuracy"])
    (row,) = result.history
    for split in ("", "val_"):  # validation batches are of two images and of one
        parts = row[f"{split}student_loss"] + row[f"{split}distillation_loss"]
        assert row[f"{split}loss"] == pytest.approx(parts / 2, rel=1e-5)
    own = kc.evaluate(result.folder)  # with the split and seed of the run
    assert (own.top1, own.images) == (result.evaluation.top1, result.evaluation.images)
    assert kc.evaluate(result.folder, images).images == own.images
    assert "trained on these images" not in caplog.text
    assert kc.evaluate(result.folder, images, split="all").images == 9
    assert "trained on these images" in caplog.text
    (images / "bleu" / "0.jpg").unlink()
    kc.evaluate(result.folder)
    assert "not those of the training" in caplog.text


def test_images_of_weight_zero_do_not_count():
    distiller = Distiller(tiny(3), convolutional_teacher(48))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss, weighted_metrics=["accuracy"], run_eagerly=True)
    inputs, target = images(distiller.student, batch=4), np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    three = distiller.test_on_batch([each[:3] for each in inputs], target[:3], return_dict=True)
    weights = np.array([4, 4, 4, 0], "float32") / 3
    four = distiller.test_on_batch(inputs, target, weights, return_dict=True)
    assert four == pytest.approx(three, rel=1e-5)
    whole = distiller.test_on_batch(inputs, target, return_dict=True)
    assert abs(whole["distillation_loss"] / three["distillation_loss"] - 1) > 1e-3


def test_a_teacher_of_other_classes_is_refused(student):
    with pytest.raises(ValueError, match="3 classes"):
        Distiller(student, convolutional_teacher(48, class_names=7))


def test_a_teacher_of_other_inputs_is_refused(student):
    flat = keras.Sequential([keras.Input((9,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"\(None, 9\)"):
        Distiller(student, flat)
