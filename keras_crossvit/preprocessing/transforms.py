"""The evaluation transform: images of any size to a CrossViT's two normalized inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from keras_crossvit._internal.checks import require_number
from keras_crossvit._internal.errors import InvalidTypeError, InvalidValueError
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit.models.config import CrossViTConfig, config_of
from keras_crossvit.preprocessing.bicubic import CUBIC_COEFFICIENT, bicubic_weights
from keras_crossvit.preprocessing.images import max_pixels, read_image, to_rgb

if TYPE_CHECKING:
    import keras

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as in Pillow's conversion to grayscale
RESAMPLE_BYTES_PER_LINE = 48  # memory that Pillow's resampling takes for each row or column of the result
_CHANNELS = (1, 3, 4)  # of images; other sizes of an axis are a height or width
_FINE_TUNED_SIZE = 384  # from this image size on the authors evaluate without a margin
ImageLike = ArrayLike | Image.Image | str | PathLike[str]
# What a model or a file of it takes: both normalized inputs, one uint8 image, or the normalized small-patch image.
TENSORS, IMAGE, NORMALIZED_IMAGE = INPUT_KINDS = ("tensors", "image", "normalized_image")


@known_keywords_only
def preprocess(
    images: ImageLike | Sequence[ImageLike],
    model_or_config: keras.Model | CrossViTConfig,
    *,
    crop_fraction: float | None = None,
) -> tuple[np.ndarray, ...]:
    """Turns images of any size into the two inputs of a CrossViT.

    ```python
    inputs = kc.preprocess(["cat.jpg", "dog.png"], model)   # or arrays, or PIL images
    logits = model(inputs)
    ```

    Each image is resized (bicubic, antialiased), center-cropped to the image size of the small-patch branch, and
    normalized with ImageNet's mean and standard deviation. The input of the large-patch branch is the result, resized
    (bicubic, not antialiased). With the defaults, this is how the published models were evaluated.

    Args:
        images: An image, a batch of shape (B, height, width, channels), or a list of images of any sizes. An image is a
            path, a `PIL.Image.Image`, or an array of shape (height, width, channels) or (height, width) with values
            from 0 to 255 of any dtype. Files and PIL images are read as RGB. Grayscale images are repeated to the
            model's channels; RGB images are converted to grayscale for a model with one channel. Transparent pixels
            become white.
        model_or_config: The `CrossViT`, its `CrossViTConfig`, or a `Runtime`; it sets image sizes and channels.
        crop_fraction: Fraction of the shorter side that the crop keeps, above 0 and at most 1. Defaults to None: 0.875
            for image sizes below 384 and 1.0 from 384 on.

    Returns:
        Tuple (small_patch_image, large_patch_image), two float32 arrays of shape (B, height, width, channels) at the
        model's image sizes, for example (B, 240, 240, 3) and (B, 224, 224, 3). Pass it to the model, to `fit`,
        `predict` and `evaluate`, or to `tf.data.Dataset.from_tensor_slices` as it is. For the `Runtime` of a file that
        takes one image, a tuple of one array: the crops at the first image size, uint8 if the file normalizes them.

    Raises:
        OSError: a file does not exist or cannot be read.
        TypeError: `model_or_config` is neither a CrossViT nor its configuration, or images have no values, as in
            `dataset.map`.
        ValueError: there are no images, or one is unreadable, has a wrong shape, has values outside 0 to 255, or is so
            narrow that resizing it would take gigabytes.

    Source: paper, section 4.1; timm.data.create_transform and timm.models.crossvit.scale_image.
    """
    config = model_or_config if isinstance(model_or_config, CrossViTConfig) else config_of(model_or_config)
    kind = getattr(model_or_config, "input_kind", TENSORS)
    return inputs_of_kind(kind, images, config, crop_fraction=crop_fraction)


def inputs_of_kind(
    kind: str, images: ImageLike | Sequence[ImageLike], config: CrossViTConfig, *, crop_fraction: float | None = None
) -> tuple[np.ndarray, ...]:
    """Returns what `preprocess` returns for a model that takes this kind of inputs, one of `INPUT_KINDS`."""
    if kind == IMAGE:
        crops = _cropped_images(images, config, crop_fraction)
        return (np.clip(np.floor(crops + 0.5), 0, 255).astype("uint8") if crops.dtype != np.uint8 else crops,)
    small_patch_image = small_patch_images(images, config, crop_fraction=crop_fraction)
    return both_inputs((small_patch_image,), config) if kind == TENSORS else (small_patch_image,)


def both_inputs(inputs: Sequence[np.ndarray], config: CrossViTConfig) -> tuple[np.ndarray, ...]:
    """Returns both normalized inputs from inputs of any kind."""
    small_patch_image = normalize(inputs[0]) if inputs[0].dtype == np.uint8 else inputs[0]
    return small_patch_image, *(inputs[1:] or [resize_bicubic(small_patch_image, *config.image_sizes[1])])


def small_patch_images(
    images: ImageLike | Sequence[ImageLike], config: CrossViTConfig, *, crop_fraction: float | None = None
) -> np.ndarray:
    """Returns only the first of `preprocess`'s results, from the same arguments."""
    return normalize(_cropped_images(images, config, crop_fraction))


def _cropped_images(
    images: ImageLike | Sequence[ImageLike], config: CrossViTConfig, crop_fraction: float | None
) -> np.ndarray:
    """Returns images at the small-patch size, uint8 if all of them were, else float32."""
    height, width = config.image_sizes[0]
    crop_fraction = resolve_crop_fraction(crop_fraction, height, width)
    arrays = [_with_channels(as_array(image), config.in_channels) for image in as_sequence(images)]
    return np.stack([_resize_and_crop(array, height, width, crop_fraction) for array in arrays])


def resolve_crop_fraction(crop_fraction: float | None, height: int, width: int) -> float:
    """Returns a valid `crop_fraction`, or the default of an image size if it is None.

    Raises:
        ValueError: it is not above 0, or above 1.
    """
    if crop_fraction is None:
        return 0.875 if min(height, width) < _FINE_TUNED_SIZE else 1.0
    if not 0 < require_number("crop_fraction", crop_fraction) <= 1:
        raise InvalidValueError(f"crop_fraction {crop_fraction:g} is not above 0 and at most 1; use 1 for no margin.")
    return crop_fraction


def normalize(images: np.ndarray) -> np.ndarray:
    """Subtracts ImageNet's mean from values of 0 to 255 that were scaled to 0 to 1, and divides by the deviation."""
    mean, std = (np.array(each, "float32") for each in channel_statistics(images.shape[-1]))
    return (images.astype("float32") / np.float32(255) - mean) / std


def channel_statistics(channels: int) -> tuple[list[float], list[float]]:
    """Returns ImageNet's mean and standard deviation per channel; except for 3 channels, all get the average."""
    mean, std = (
        list(each) if channels == 3 else [float(np.mean(each))] * channels for each in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return mean, std


def preprocessing_facts(config: CrossViTConfig) -> dict[str, Any]:
    """Returns what `preprocess` does by default as JSON values, for programs that implement it elsewhere."""
    mean, std = channel_statistics(config.in_channels)
    return {
        "value_range": [0, 255],
        "crop_fraction": resolve_crop_fraction(None, *config.image_sizes[0]),
        "resize": "bicubic, antialiased",
        "mean": mean,
        "std": std,
        "large_patch_image": f"small_patch_image resized, bicubic, coefficient {CUBIC_COEFFICIENT}, not antialiased",
    }


def resize_bicubic(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a batch of shape (B, height, width, channels) as the reference makes the large-patch input."""
    rows, columns = bicubic_weights(images.shape[1], height), bicubic_weights(images.shape[2], width)
    batch, _, old_width, channels = images.shape
    resized = np.matmul(rows, images.reshape(batch, -1, old_width * channels))
    return np.matmul(columns, resized.reshape(batch, height, old_width, channels))


def as_sequence(images: ImageLike | Sequence[ImageLike]) -> Sequence[ImageLike]:
    """Returns the images of `preprocess` as a sequence of one or more."""
    if isinstance(images, (Image.Image, str, PathLike)):
        return [images]
    if not isinstance(images, (list, tuple)):
        try:
            images = np.asarray(images)
        except NotImplementedError:  # from TensorFlow, while it traces dataset.map
            raise InvalidTypeError(
                f"preprocess() computes with NumPy and got {type(images).__name__}, a tensor without values. In "
                "dataset.map, use kc.layers.Preprocessing(model) (docs/troubleshooting.md)."
            ) from None
        if images.ndim not in (2, 3, 4):
            raise InvalidValueError(
                f"images of shape {images.shape} are neither one image (height, width, channels) nor a batch (B, "
                "height, width, channels); add or remove axes."
            )
        images = list(images) if images.ndim == 4 else [images]
    if not images:
        raise InvalidValueError("images is empty; pass at least one image.")
    return images


def as_array(image: ImageLike) -> np.ndarray:
    """Returns an image as an array of shape (height, width, channels), or raises ValueError if it is none."""
    if isinstance(image, (str, PathLike)):
        image = read_image(image)
    elif isinstance(image, Image.Image):
        image = np.asarray(image) if image.mode == "L" and not image.has_transparency_data else to_rgb(image)
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise InvalidValueError(f"An image of shape {array.shape} is not (height, width, channels) with pixels.")
    if array.dtype == np.uint8:
        return array
    array = array.astype("float32")
    if not np.isfinite(array).all():
        raise InvalidValueError("An image has values that are not finite; replace NaN and infinity first.")
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise InvalidValueError(
            f"An image has values from {low:g} to {high:g}; pass values from 0 to 255, not normalized."
        )
    if 0 < high <= 1 and (array != np.round(array)).any():
        raise InvalidValueError(
            f"An image has only values up to {high:g}, but the range is 0 to 255; multiply it by 255."
        )
    return array


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    if image.shape[2] == channels:
        return image
    if image.shape[2] == 1:
        return np.repeat(image, channels, axis=2)
    if image.shape[2] == 3 and channels == 1:
        gray = np.sum(image * np.array(LUMA, "float32"), axis=2, keepdims=True)
        return np.round(gray).astype("uint8") if image.dtype == np.uint8 else gray
    remedy = f"convert it, or build the model with in_channels={image.shape[2]}"
    if image.shape[0] in _CHANNELS and image.shape[2] not in _CHANNELS:
        remedy = "move its first axis, which looks like channels, to the end: numpy.moveaxis(image, 0, -1)"
    elif image.shape[2] == 4:
        remedy = "pass PIL.Image.fromarray(image), whose transparent pixels become white, or leave the fourth one out"
    elif channels == 4:
        remedy = "pass an array of 4 channels, since files and PIL images are read as RGB"
    raise InvalidValueError(
        f"An image of shape {image.shape} has {image.shape[2]} channels, but the model takes {channels}; {remedy}."
    )


def crop_geometry(
    old_height: Any, old_width: Any, height: int, width: int, crop_fraction: float, maximum: Callable = max
) -> tuple[Any, Any, Any, Any]:
    """Returns the height and width to which an image is resized, and the top and left of its crop in that size.

    The old sizes may be integer tensors, with the `maximum` of their library.
    """
    cover_height, cover_width = int(height / crop_fraction), int(width / crop_fraction)
    new_height = maximum(cover_width * old_height // old_width, cover_height)
    new_width = maximum(cover_height * old_width // old_height, cover_width)
    top, left = (_rounded_half(difference) for difference in (new_height - height, new_width - width))
    return new_height, new_width, top, left


def _rounded_half(number: Any) -> Any:
    """Returns half of an integer, rounded to the even one of two neighbors as Python's `round` does."""
    return (number + number % 4 // 3) // 2


def _resize_and_crop(pixels: np.ndarray, height: int, width: int, crop_fraction: float) -> np.ndarray:
    """Resizes until `height` x `width` is `crop_fraction` of the shorter side, and cuts it out of the center."""
    old_height, old_width, _ = pixels.shape
    new_height, new_width, top, left = crop_geometry(old_height, old_width, height, width, crop_fraction)
    # An image one pixel wide, from a file of some hundred bytes, would take gigabytes.
    longest = max(new_height, new_width)
    if max(old_height * new_width, new_height * width, RESAMPLE_BYTES_PER_LINE * longest) > max_pixels():
        raise InvalidValueError(
            f"An image of {old_width} x {old_height} pixels is too narrow: to cover {width} x {height} it would become "
            f"{longest} pixels long; crop it first."
        )

    def resized(channel: np.ndarray) -> np.ndarray:
        # Width first, then height. In one call Pillow 13 starts with the height of tall images and earlier versions do
        # not, so that 15 % of the values would depend on the version.
        image = Image.fromarray(channel).resize((new_width, old_height), Image.Resampling.BICUBIC)
        image = image.crop((left, 0, left + width, old_height))
        image = image.resize((width, new_height), Image.Resampling.BICUBIC)
        return np.asarray(image.crop((0, top, width, top + height)))

    return np.stack([resized(np.ascontiguousarray(each)) for each in np.moveaxis(pixels, -1, 0)], axis=-1)
