"""Traces a CrossViT as a TensorFlow function, from which every format is converted."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_crossvit._internal.errors import FileError, InvalidValueError, tensorflow_disk_reason
from keras_crossvit._internal.keras_compat import quantized_layers
from keras_crossvit.explaining.ablation import explained_model
from keras_crossvit.exporting.graph_preprocessing import large_patch_images, model_inputs
from keras_crossvit.exporting.options import ExportOptions
from keras_crossvit.models.dtype_policies import in_float32
from keras_crossvit.preprocessing.predictions import probability_function
from keras_crossvit.preprocessing.transforms import IMAGE, TENSORS
from keras_crossvit.runtimes.keras_model import logits_model
from keras_crossvit.runtimes.runtime import EXPLANATION, INPUT_NAMES, NAMES_OF_KIND, OUTPUT_NAME, SIGNATURE
from keras_crossvit.runtimes.signature_names import PROBABILITIES

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT


# A weight of up to so many numbers is traced as a constant, and not as a variable: reading, saving and restoring each
# variable took half of the time of a small model's conversion. Large constants would be copied in each of its steps.
_MAX_CONSTANT_SIZE = 1 << 14

Constants = Sequence[tuple[keras.Variable, np.ndarray]]


def float32_copy(model: CrossViT) -> CrossViT:
    """Returns the model if it computes in float32, or else a float32 model with the same weights.

    Raises:
        ValueError: Keras has quantized the weights.
    """
    if quantized_layers(model):
        raise InvalidValueError(
            f"'{model.name}' has been quantized by Keras; export the original model, and choose its precision with "
            "precision or quantize (--precision, --quantize)."
        )
    return in_float32(model)


def logits_function(model: keras.Model, batch_size: int | None, constants: Constants = ()) -> Any:
    """Returns a model of logits, or of outputs by name, as a `tf.function` from the two named images to its outputs.

    The variables of `constants` are traced as these.
    """
    signature = [
        tf.TensorSpec((batch_size, *each.shape[1:]), "float32", name=name)
        for each, name in zip(model.inputs, INPUT_NAMES, strict=True)
    ]

    def logits(small_patch_image: tf.Tensor, large_patch_image: tf.Tensor) -> dict[str, tf.Tensor]:
        return _outputs_by_name(model, [small_patch_image, large_patch_image], constants)

    return tf.function(logits, input_signature=signature, autograph=False)


def _outputs_by_name(model: keras.Model, inputs: Sequence[tf.Tensor], constants: Constants) -> dict[str, tf.Tensor]:
    with keras.StatelessScope([(variable, tf.constant(value)) for variable, value in constants]):
        outputs = model(inputs, training=False)
    return outputs if isinstance(outputs, dict) else {OUTPUT_NAME: outputs}


def exported_model(model: CrossViT, options: ExportOptions) -> keras.Model:
    """Returns a model of both inputs with the outputs of an export."""
    return explained_model(model) if EXPLANATION in options.outputs else logits_model(model)


def exported_function(model: CrossViT, options: ExportOptions) -> Any:
    """Returns a `tf.function` from the named inputs of an exported file to its named outputs.

    A function of an image also has the output `probabilities`.
    """
    config, computed = model.config, exported_model(model, options)
    small = [each for each in computed.variables if math.prod(each.shape) <= _MAX_CONSTANT_SIZE]
    constants = [(each, keras.ops.convert_to_numpy(each)) for each in small]
    if options.inputs == TENSORS:
        return logits_function(computed, options.batch_size, constants)
    takes_image = options.inputs == IMAGE

    def from_image(image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = _outputs_by_name(computed, model_inputs(image, config), constants)
        return {**outputs, PROBABILITIES: probabilities_function(model)(outputs[OUTPUT_NAME])}

    def from_normalized_image(small_patch_image: tf.Tensor) -> dict[str, tf.Tensor]:
        pair = (small_patch_image, large_patch_images(small_patch_image, config))
        return _outputs_by_name(computed, pair, constants)

    shape = (options.batch_size, *config.image_sizes[0], config.in_channels)
    (name,) = NAMES_OF_KIND[options.inputs]
    casts = takes_image and options.format.name != "litert"  # XNNPACK has no cast from uint8
    spec = tf.TensorSpec(shape, "uint8" if casts else "float32", name=name)
    function = from_image if takes_image else from_normalized_image
    return tf.function(function, input_signature=[spec], autograph=False)


def probabilities_function(model: CrossViT) -> Any:
    """Returns the function from logits to probabilities, at the model's temperature."""
    if model.output_names == [PROBABILITIES]:
        return model.get_layer(PROBABILITIES)
    function = getattr(tf.nn, probability_function(None, model.config.num_classes))
    if model.calibration is None:
        return function
    temperature = model.calibration.temperature
    return lambda logits: function(logits / temperature)


@contextlib.contextmanager
def saved_model_of(function: Any) -> Iterator[Path]:
    """Yields a temporary SavedModel that has only the signature of a `tf.function`."""
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(Path(folder), {SIGNATURE: function})
        yield Path(folder)


def write_saved_model(path: Path, signatures: Mapping[str, Any], **endpoints: Any) -> None:
    """Writes a SavedModel of `tf.function`s, each a signature and a method of the same name.

    The functions are stored as they have been traced, where Keras' `ExportArchive` would trace each of them again, and
    with it the model. TensorFlow does so with endpoints, whose methods may take lists.

    Raises:
        OSError: TensorFlow cannot write it, usually because the disk is full.
    """
    traced = {name: each.get_concrete_function() for name, each in {**signatures, **endpoints}.items()}
    root = tf.Module()
    # SavedModels have the variables of tracked objects.
    root.variables_of_functions = list({id(each): each for one in traced.values() for each in one.variables}.values())
    for name, function in {**traced, **endpoints}.items():
        setattr(root, name, function)
    with _quiet_writing():
        tf.saved_model.save(root, str(path), signatures=traced)


@contextlib.contextmanager
def _quiet_writing() -> Iterator[None]:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TensorFlow prints the folder, whose name is temporary
            yield
    except tf.errors.OpError as error:
        raise FileError(
            f"TensorFlow cannot write a SavedModel ({tensorflow_disk_reason(error)}); make room on the disk."
        ) from error
