"""A teacher's knowledge for the model that is trained, by Keras' own distiller."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.layers import BicubicResize
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.runtimes.keras_model import logits_model


def distiller_of(
    student: Any, teacher: keras.Model, *, student_loss_weight: float = 0.5, temperature: float = 3.0
) -> keras.distillation.Distiller:
    """Wraps a CrossViT so that it learns from targets and from a teacher's logits.

    Args:
        student: The `CrossViT` to train.
        teacher: Any Keras model that gives logits of the same classes from one image or from both inputs, normalised
            by ImageNet's mean and deviation; of a `CrossViT` the logits are taken whatever it makes of them. One image
            is made from the small-patch input at the teacher's size.
        student_loss_weight: Share of the targets' loss, 0 to 1. Defaults to 0.5.
        temperature: By which both models' logits are divided in the teacher's share. Defaults to 3.

    Returns:
        A model to compile with loss and metrics of the student, which stays usable by itself.

    Raises:
        ValueError: the teacher's classes or inputs do not fit.
    """
    num_classes = student.config.num_classes
    teacher = logits_model(teacher) if isinstance(teacher, CrossViT) else teacher
    if len(teacher.outputs) != 1 or teacher.outputs[0].shape[-1] != num_classes:
        shapes = ", ".join(str(output.shape) for output in teacher.outputs)
        raise InvalidValueError(
            f"the teacher's output has shape {shapes} where the model has {num_classes} classes; use a teacher of the same "
            "classes that gives logits."
        )
    return _WeightedDistiller(
        teacher=_with_both_inputs(teacher, student),
        student=student,
        # By an object: for its own default, the name, Keras 3.15 compares logits as if they were probabilities.
        distillation_losses=keras.distillation.LogitsDistillation(
            temperature=temperature, loss=keras.losses.KLDivergence()
        ),
        student_loss_weight=student_loss_weight,
    )


class _WeightedDistiller(keras.distillation.Distiller):
    """Counts pictures by their weights, and in its figures batches by their pictures; Keras' own does neither."""

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        temperature = self.distillation_losses[0].temperature
        taught, learnt = (keras.ops.softmax(each / temperature) for each in (self.teacher(x, training=False), y_pred))
        losses = (
            self._student_loss(y, y_pred, sample_weight),
            self.distillation_losses[0].loss(taught, learnt, sample_weight) * temperature**2,
        )
        total = self.student_loss_weight * losses[0] + (1 - self.student_loss_weight) * losses[1]
        trackers = (self.student_loss_tracker, self.distillation_loss_tracker, self.total_loss_tracker)
        for tracker, value in zip(trackers, (*losses, total), strict=True):
            tracker.update_state(value, sample_weight=keras.ops.shape(y_pred)[0])
        return total


def _with_both_inputs(teacher: keras.Model, student: Any) -> keras.Model:
    shapes = [tuple(each.shape) for each in student.inputs]
    if [tuple(each.shape) for each in teacher.inputs] == shapes:
        return teacher
    if len(teacher.inputs) != 1 or len(teacher.inputs[0].shape) != 4:
        taken = ", ".join(str(each.shape) for each in teacher.inputs)
        raise InvalidValueError(
            f"the teacher takes inputs of shape {taken}; use one that takes a single image (B, height, width, "
            f"channels), or both inputs {shapes[0]} and {shapes[1]}."
        )
    inputs = [keras.Input(shape[1:], name=each.name) for shape, each in zip(shapes, student.inputs, strict=True)]
    image, (_, height, width, _) = inputs[0], teacher.inputs[0].shape
    if height is not None and (height, width) != shapes[0][1:3]:
        image = BicubicResize(height, width, name="teacher_image")(image)
    return keras.Model(inputs, teacher(image), name=f"{teacher.name}_of_both_inputs")
