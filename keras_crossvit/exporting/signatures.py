"""The signatures of a SavedModel: for normalised inputs, for images, and for the bytes of image files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_crossvit.explaining.ablation import explained_model
from keras_crossvit.exporting.graph_preprocessing import (
    MAX_PIXELS,
    count_pixels,
    decode_image,
    model_inputs,
    resize_and_crop,
    to_gray,
)
from keras_crossvit.exporting.serving_requests import accepts_bytes
from keras_crossvit.exporting.tracing import probabilities_function
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.preprocessing.predictions import TOP, resolve_class_names
from keras_crossvit.runtimes.runtime import EMPTY_BATCH, OUTPUT_NAME, SIGNATURE
from keras_crossvit.runtimes.signature_names import BYTES_NAME, CLASS_IDS, CLASS_NAMES, PROBABILITIES, VALID

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

_UNPAIRED = "Small-patch and large-patch images do not pair; send as many of each."
_NOT_FINITE = "The model's probabilities are not finite; check its weights."


def signatures(model: CrossViT, *, explained: bool = False) -> dict[str, Any]:
    """Returns the signatures of a model's SavedModel by name, each a `tf.function` that returns tensors by name.

    - `serving_default` takes the normalised `small_patch_image` and `large_patch_image`.
    - `single_image` takes `image`: images of one size, shape (B, height, width, channels), uint8, and preprocesses
      them. `single_image_float` takes float32 values of 0 to 255, which it does not round, like `preprocess`.
    - `image_bytes` takes `image_bytes`, shape (B,): the bytes of JPEG and PNG files. Only models with a classifier and
      one or three channels have it.

    The first three return `logits` and `probabilities`, shape (B, num_classes), or `pre_logits` for a model without a
    classifier. `probabilities` are a softmax, a sigmoid for one class, or the model's `classifier_activation`. If
    `explained`, they also return the grids of `explained_model`.

    `image_bytes` returns the top 5 classes (or all, if there are fewer), most probable first: `class_ids`,
    `class_names` and `probabilities`, shape (B, 5); and `valid`, shape (B,), which is False for bytes that cannot be
    decoded or declare more than 89,478,485 pixels. These get ids of -1, empty names and probabilities of 0. Names are
    the model's `class_names`, else ImageNet's for 1,000 classes, else "class 0" and so on.
    """
    config = model.config
    with_grids = explained_model(model) if explained else None
    tensors = [tf.TensorSpec(each.shape, "float32", name=each.name) for each in model.inputs]

    # One trace of the model serves all signatures.
    @tf.function(input_signature=tensors, autograph=False)
    def from_tensors(small_patch_image: tf.Tensor, large_patch_image: tf.Tensor) -> dict[str, tf.Tensor]:
        images = zip((small_patch_image, large_patch_image), tensors, strict=True)
        pairs = _require_pairs([tf.ensure_shape(image, tensor.shape) for image, tensor in images])
        if with_grids is None:
            return _outputs(model, pairs)
        found = with_grids(pairs, training=False)
        return {**found, PROBABILITIES: probabilities_function(model)(found[OUTPUT_NAME])}

    def from_images(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return from_tensors(*model_inputs(resize_and_crop(_require_pairs([image])[0], config), config))

    found = {SIGNATURE: from_tensors}
    for name, dtype in (("single_image", "uint8"), ("single_image_float", "float32")):
        spec = tf.TensorSpec((None, None, None, config.in_channels), dtype, name="image")
        found[name] = tf.function(from_images, input_signature=[spec], autograph=False)
    if accepts_bytes(config):
        spec = tf.TensorSpec((None,), "string", name=BYTES_NAME)
        found[BYTES_NAME] = tf.function(_from_bytes(model, from_tensors), input_signature=[spec], autograph=False)
    return found


def serve_endpoint(model: CrossViT, from_tensors: Any) -> Any:
    """Returns the endpoint `serve` that Keras' `model.export` writes: both images in one list, and one output.

    `keras.layers.TFSMLayer` passes one argument, so it cannot call `serving_default`.

    Args:
        model: The model.
        from_tensors: Its signature `serving_default`.
    """
    (name,) = model.output_names
    tensors = [tf.TensorSpec(each.shape, "float32", name=each.name) for each in model.inputs]
    traced = from_tensors.get_concrete_function()

    def serve(images: list[tf.Tensor]) -> tf.Tensor:
        return traced(*images)[name]

    return tf.function(serve, input_signature=[tensors], autograph=False)


def _require_pairs(images: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the images unless a batch is empty or they differ in number, which servers do not check."""
    counts = [tf.shape(image)[0] for image in images]
    checks = [tf.debugging.assert_positive(counts[0], EMPTY_BATCH)]
    checks += [tf.debugging.assert_equal(count, counts[0], _UNPAIRED) for count in counts[1:]]
    with tf.control_dependencies(checks):
        return [tf.identity(image) for image in images]


def _outputs(model: CrossViT, images: list[tf.Tensor]) -> dict[str, tf.Tensor]:
    (name,) = model.output_names
    if name == PROBABILITIES:
        both = {OUTPUT_NAME: model.get_layer(OUTPUT_NAME).output, PROBABILITIES: model.output}
        return keras.Model(model.inputs, both)(images, training=False)
    output = model(images, training=False)
    if name != OUTPUT_NAME:
        return {name: output}
    return {name: output, PROBABILITIES: probabilities_function(model)(output)}


def _from_bytes(model: CrossViT, from_tensors: Any) -> Any:
    config = model.config
    top = min(TOP, config.num_classes)
    names = tf.constant(resolve_class_names(config.num_classes, model.class_names))

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, valid = _decode_valid(image_bytes, config)
        probabilities = from_tensors(*model_inputs(images, config))[PROBABILITIES]
        # Decoded images are finite, so no client can make this check fail for others in the same batch.
        finite = tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(probabilities)), [_NOT_FINITE])
        with tf.control_dependencies([finite]):
            probabilities = tf.identity(probabilities)
        best = tf.math.top_k(probabilities[: tf.size(valid)], top)
        column = valid[:, None]
        return {
            CLASS_IDS: tf.where(column, best.indices, -1),
            CLASS_NAMES: tf.where(column, tf.gather(names, best.indices), ""),
            PROBABILITIES: tf.where(column, best.values, 0.0),
            VALID: valid,
        }

    return from_bytes


def _decode_valid(contents: tf.Tensor, config: CrossViTConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and crops image files; returns black images for invalid bytes, and which bytes are valid.

    A decoding operation fails the whole request on one bad element. A dataset drops only that element; the elements'
    numbers say which, and `get_single_element` turns the dataset into a tensor. An empty request gives one black image,
    since TensorFlow's convolutions fail on an empty batch where oneDNN runs them (on processors with AVX-512).
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
