"""What a SavedModel answers to: tensors, pictures, or the bytes of picture files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_crossvit.exporting.graph_preprocessing import (
    MAX_PIXELS,
    count_pixels,
    decode_image,
    model_inputs,
    resize_and_crop,
    to_gray,
)
from keras_crossvit.exporting.serving_requests import accepts_bytes
from keras_crossvit.preprocessing.predictions import TOP, probability_function, resolve_class_names
from keras_crossvit.runtimes.runtime import EMPTY_BATCH, OUTPUT_NAME, SIGNATURE
from keras_crossvit.runtimes.signature_names import BYTES_NAME, CLASS_IDS, CLASS_NAMES, PROBABILITIES, VALID

_UNPAIRED = "Small-patch and large-patch images do not pair; give as many of one as of the other."
_NOT_FINITE = "The model's probabilities are not finite; check its weights."


class Signature(NamedTuple):
    """A function for serving and the tensors that it takes.

    Args:
        function: Takes tensors and returns a dictionary of them.
        inputs: What each tensor looks like, in the order of the function's arguments.
    """

    function: Callable[..., dict[str, Any]]
    inputs: Sequence[tf.TensorSpec]


def signatures(model: Any) -> dict[str, Signature]:
    """The signatures of a model's SavedModel, by name.

    - `serving_default`: `small_patch_image` and `large_patch_image`, normalised, as the model takes them.
    - `single_image`: `image`, pictures of one size, shape (B, height, width, channels), uint8 of 0 to 255. They are
      preprocessed inside. `single_image_float` takes float32 of the same values, and like `preprocess` rounds nothing.
    - `image_bytes`: `image_bytes`, shape (B,), the bytes of JPEG and PNG files. Only for models with classes, of one
      or three channels.

    The first three return `logits` and `probabilities`, shape (B, classes), or `pre_logits` where the model has no
    classes. Without a `classifier_activation` the probabilities are a softmax, of one class a sigmoid. `image_bytes`
    returns for the most probable five classes (or all, where there are fewer) `class_ids`, `class_names` and
    `probabilities`, shape (B, 5), most probable first; and `valid`, shape (B,): False for bytes that could not be
    decoded or declare more than 89,478,485 pixels, whose ids are -1, names empty and probabilities 0. The names are
    those of `model.classes`, else ImageNet's for 1,000 classes, else "class 0" and so on.

    Args:
        model: A `CrossViT`, on the TensorFlow backend.

    Returns:
        The signatures by name.
    """
    config = model.config
    tensors = [tf.TensorSpec(each.shape, "float32", name=each.name) for each in model.inputs]
    image_specs = {
        dtype: tf.TensorSpec((None, None, None, config.in_channels), dtype, name="image")
        for dtype in ("uint8", "float32")
    }

    # One trace of the model serves all signatures.
    @tf.function(input_signature=tensors, autograph=False)
    def from_tensors(small_patch_image: tf.Tensor, large_patch_image: tf.Tensor) -> dict[str, tf.Tensor]:
        images = zip((small_patch_image, large_patch_image), tensors, strict=True)
        return _outputs(model, _as_many_of_each([tf.ensure_shape(image, tensor.shape) for image, tensor in images]))

    def from_images(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return from_tensors(*model_inputs(resize_and_crop(_as_many_of_each([image])[0], config), config))

    named = {
        SIGNATURE: Signature(from_tensors, tensors),
        "single_image": Signature(from_images, [image_specs["uint8"]]),
        "single_image_float": Signature(from_images, [image_specs["float32"]]),
    }
    if accepts_bytes(config):
        named[BYTES_NAME] = Signature(
            _from_bytes(model, from_tensors), [tf.TensorSpec((None,), "string", name=BYTES_NAME)]
        )
    return named


def _as_many_of_each(images: list[tf.Tensor]) -> list[tf.Tensor]:
    """The images, if they are one or more and of one number; servers leave that to the graph, which stumbles later."""
    counts = [tf.shape(image)[0] for image in images]
    checks = [tf.debugging.assert_positive(counts[0], EMPTY_BATCH)]
    checks += [tf.debugging.assert_equal(count, counts[0], _UNPAIRED) for count in counts[1:]]
    with tf.control_dependencies(checks):
        return [tf.identity(image) for image in images]


def _outputs(model: Any, images: list[tf.Tensor]) -> dict[str, tf.Tensor]:
    (name,) = model.output_names
    if name == PROBABILITIES:
        both = {OUTPUT_NAME: model.get_layer(OUTPUT_NAME).output, PROBABILITIES: model.output}
        return keras.Model(model.inputs, both)(images, training=False)
    output = model(images, training=False)
    if name != OUTPUT_NAME:
        return {name: output}
    probabilities_of = getattr(tf.nn, probability_function(None, model.config.num_classes))
    return {name: output, PROBABILITIES: probabilities_of(output)}


def _from_bytes(
    model: Any, from_tensors: Callable[..., dict[str, tf.Tensor]]
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    config = model.config
    top = min(TOP, config.num_classes)
    names = tf.constant(resolve_class_names(config.num_classes, model.class_names))

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, valid = _decode_those_that_can_be(image_bytes, config)
        probabilities = from_tensors(*model_inputs(images, config))[PROBABILITIES]
        # Bytes give finite inputs, so no client can make this fail for those in the same batch.
        finite = tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(probabilities)), [_NOT_FINITE])
        with tf.control_dependencies([finite]):
            probabilities = tf.identity(probabilities)
        best = tf.math.top_k(probabilities[: tf.size(valid)], top)
        of_valid = valid[:, None]
        return {
            CLASS_IDS: tf.where(of_valid, best.indices, -1),
            CLASS_NAMES: tf.where(of_valid, tf.gather(names, best.indices), ""),
            PROBABILITIES: tf.where(of_valid, best.values, 0.0),
            VALID: valid,
        }

    return from_bytes


def _decode_those_that_can_be(contents: tf.Tensor, config: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Cut-out pictures, black where the bytes are no picture, and which are none.

    An empty request gives one black picture, since TensorFlow's convolutions fail on an empty batch where oneDNN runs
    them (processors with AVX-512). A decoding operation fails the whole request on one bad element. Inside a dataset
    the element alone is lost, and its number says which; `get_single_element` makes a tensor of the dataset again.
    """
    height, width = config.image_sizes[0]
    count = tf.size(contents, out_type=tf.int64)
    at_least_one = tf.maximum(count, 1)

    def is_moderate(number: tf.Tensor, element: tf.Tensor) -> tf.Tensor:
        pixels = count_pixels(element)
        return (pixels > 0) & (pixels <= MAX_PIXELS)

    def decode(number: tf.Tensor, element: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode_image(element)
        image = to_gray(image) if config.in_channels == 1 else image
        return number, resize_and_crop(image[None], config)[0]

    decoded = (
        tf.data.Dataset.from_tensor_slices((tf.range(count), contents))
        .filter(is_moderate)
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors()
        .batch(at_least_one)
    )
    none = tf.zeros((0,), tf.int64), tf.zeros((0, height, width, config.in_channels), tf.uint8)
    numbers, images = decoded.concatenate(tf.data.Dataset.from_tensors(none)).take(1).get_single_element()
    every = tf.scatter_nd(numbers[:, None], tf.cast(images, tf.int32), tf.stack([at_least_one, *none[1].shape[1:]]))
    valid = tf.scatter_nd(numbers[:, None], tf.ones_like(numbers, tf.bool), count[None])
    return tf.cast(every, tf.uint8), valid
