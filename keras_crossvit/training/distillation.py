"""Knowledge distillation: training on targets and on the logits of a teacher."""

from __future__ import annotations

from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.layers import BicubicResize
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.runtimes.keras_model import logits_model


class Distiller(keras.Model):
    """Trains a CrossViT on targets and on the softened probabilities of a teacher.

    `keras.distillation.Distiller` ignores sample weights in the distillation loss and averages batches of unequal size
    alike; this one does neither. The student stays usable by itself.

    Args:
        student: The `CrossViT` to train.
        teacher: A Keras model that returns logits of the same classes for one image or for both inputs, normalized by
            ImageNet's mean and standard deviation. A `CrossViT` teaches by its logits, also if it has a
            `classifier_activation`. A single image is the small-patch image, resized to the teacher's size.
        student_loss_weight: Weight of the loss on targets, 0 to 1; the distillation loss has the rest. Defaults to 0.5.
        temperature: Divides the logits of both models in the distillation loss. Defaults to 3.

    Raises:
        InvalidValueError: the teacher's classes or inputs do not fit.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.
    """

    def __init__(
        self, student: CrossViT, teacher: keras.Model, *, student_loss_weight: float = 0.5, temperature: float = 3.0
    ) -> None:
        super().__init__()
        self.student = student
        self.teacher = _teacher_of_both_inputs(teacher, student)
        self.teacher.trainable = False
        self.student_loss_weight = student_loss_weight
        self.temperature = temperature
        self.student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = keras.metrics.Mean(name="distillation_loss")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns the student's logits."""
        return self.student(inputs, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the weighted sum of both losses."""
        student_loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        teacher, student = (
            keras.ops.softmax(logits / self.temperature) for logits in (self.teacher(x, training=False), y_pred)
        )
        divergence = keras.losses.KLDivergence()(teacher, student, sample_weight)
        distillation_loss = self.temperature**2 * divergence
        batch_size = keras.ops.shape(y_pred)[0]
        self.student_loss_tracker.update_state(student_loss, sample_weight=batch_size)
        self.distillation_loss_tracker.update_state(distillation_loss, sample_weight=batch_size)
        return self.student_loss_weight * student_loss + (1 - self.student_loss_weight) * distillation_loss


def _teacher_of_both_inputs(teacher: keras.Model, student: CrossViT) -> keras.Model:
    """Returns the teacher as a model of the student's inputs."""
    num_classes = student.config.num_classes
    teacher = logits_model(teacher) if isinstance(teacher, CrossViT) else teacher
    if len(teacher.outputs) != 1 or teacher.outputs[0].shape[-1] != num_classes:
        returned = ", ".join(str(output.shape) for output in teacher.outputs)
        raise InvalidValueError(
            f"the teacher's output has shape {returned}, but the model has {num_classes} classes; use a teacher that "
            "returns logits of the same classes."
        )
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
