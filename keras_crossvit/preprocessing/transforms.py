"""The evaluation transform: pictures of any size into a CrossViT's two normalised inputs."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image

from keras_crossvit._internal.checks import require_number
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import CrossViTConfig, config_of
from keras_crossvit.preprocessing.bicubic import CUBIC_COEFFICIENT, bicubic_weights
from keras_crossvit.preprocessing.images import max_pixels, to_rgb

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow turns colour into gray
RESAMPLE_BYTES_PER_LINE = 48  # bytes that Pillow keeps for each row or column of a picture that it enlarges
_FINE_TUNED_SIDE = 384  # the authors evaluate models of this size and above without a margin


def preprocess(
    images: Any, model_or_config: Any, *, crop_fraction: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Makes a CrossViT's two inputs of pictures, as the reference does for evaluation.

    Each picture is resized by antialiased bicubic interpolation (Pillow's), the middle cut out at the size of the
    small-patch input, and normalised by ImageNet's mean and deviation. The large-patch input is made from the result
    by the reference's bicubic interpolation without antialiasing.

    Args:
        images: One picture of shape (height, width, channels) or (height, width), a batch of shape
            (B, height, width, channels), or a list of pictures of any sizes; arrays of values 0 to 255, or
            `PIL.Image.Image`, laid on white where it is transparent, and 16 bits scaled to 8. Gray pictures are
            repeated into the channels that the model takes, and colour pictures turned into gray for a model of one
            channel.
        model_or_config: A `CrossViT` or its `CrossViTConfig`, which says sizes and channels.
        crop_fraction: Share of the shorter side that stays. Defaults to None: 0.875 below 384 pixels and 1.0 from
            there on, as the published models are evaluated.

    Returns:
        Tuple of `small_patch_image` and `large_patch_image`, float32 of shape (B, height, width, channels): what
        Keras' models, generators and `keras.utils.PyDataset` take as inputs, and `tf.data` too.

    Raises:
        TypeError: `model_or_config` is neither.
        ValueError: there is no picture, or one has a wrong shape or values outside 0 to 255, or is so narrow that
            it would have to be enlarged beyond all measure.

    Source: paper, section 4.1; timm.data.create_transform and timm.models.crossvit.scale_image.
    """
    config = model_or_config if isinstance(model_or_config, CrossViTConfig) else config_of(model_or_config)
    small_patch_image = small_patch_images(images, config, crop_fraction=crop_fraction)
    return small_patch_image, resize_bicubic(small_patch_image, *config.image_sizes[1])


def small_patch_images(images: Any, config: CrossViTConfig, *, crop_fraction: float | None = None) -> np.ndarray:
    """The first of `preprocess`'s two results alone; it takes what that takes, and raises the same."""
    height, width = config.image_sizes[0]
    crop_fraction = resolve_crop_fraction(crop_fraction, height, width)
    arrays = [_with_channels(_as_array(array), config.in_channels) for array in _as_list(images)]
    cropped = [_resize_and_crop(array, height, width, crop_fraction) for array in arrays]
    return normalise(np.stack(cropped))


def resolve_crop_fraction(crop_fraction: float | None, height: int, width: int) -> float:
    """The share of the shorter side that was asked for, or by default that of images of this size.

    Raises:
        ValueError: it is not above 0, or above 1.
    """
    if crop_fraction is None:
        return default_crop_fraction(height, width)
    if not 0 < require_number("crop_fraction", crop_fraction) <= 1:
        raise InvalidValueError(f"crop_fraction {crop_fraction:g} is outside 0 < fraction <= 1; use 1 for no margin.")
    return crop_fraction


def default_crop_fraction(height: int, width: int) -> float:
    """Share of the shorter side that stays at evaluation, for images of this size."""
    return 0.875 if min(height, width) < _FINE_TUNED_SIDE else 1.0


def normalise(images: np.ndarray) -> np.ndarray:
    """Brings values of 0 to 255 to ImageNet's mean 0 and deviation 1; other than 3 channels share their average."""
    mean, std = (np.array(each, "float32") for each in _statistics(images.shape[-1]))
    return (images.astype("float32") / np.float32(255) - mean) / std


def preprocessing_facts(config: CrossViTConfig) -> dict[str, Any]:
    """What `preprocess` does by default for models of a configuration, as JSON values for those who do it elsewhere."""
    mean, std = _statistics(config.in_channels)
    return {
        "value_range": [0, 255],
        "crop_fraction": default_crop_fraction(*config.image_sizes[0]),
        "resize": "bicubic, antialiased",
        "mean": mean,
        "std": std,
        "large_patch_image": f"small_patch_image resized, bicubic, coefficient {CUBIC_COEFFICIENT}, not antialiased",
    }


def resize_bicubic(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a batch of shape (B, height, width, channels) as the reference makes its second input."""
    rows, columns = bicubic_weights(images.shape[1], height), bicubic_weights(images.shape[2], width)
    batch, _, old_width, channels = images.shape
    resized = np.matmul(rows, images.reshape(batch, -1, old_width * channels))
    return np.matmul(columns, resized.reshape(batch, height, old_width, channels))


def _statistics(channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, of values from 0 to 1."""
    mean, std = (
        list(each) if channels == 3 else [float(np.mean(each))] * channels for each in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return mean, std


def _as_list(images: Any) -> Sequence[Any]:
    if isinstance(images, (Image.Image, str, PathLike)):
        return [images]
    if not isinstance(images, (list, tuple)):
        images = np.asarray(images)
        if images.ndim not in (2, 3, 4):
            raise InvalidValueError(
                f"images of shape {images.shape} are neither one picture (height, width, channels) nor a batch of "
                "them; add or remove axes."
            )
        images = images if images.ndim == 4 else [images]
    if len(images) == 0:
        raise InvalidValueError("images is empty; give one picture or more.")
    return images


def _as_array(image: Any) -> np.ndarray:
    if isinstance(image, (str, PathLike)):
        raise InvalidValueError(f"'{image}' is a path and no picture; open it: PIL.Image.open(path).")
    if isinstance(image, Image.Image):
        image = image if image.mode == "L" and not image.has_transparency_data else to_rgb(image)
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise InvalidValueError(
            f"a picture of shape {array.shape} is not (height, width, channels); give one with pixels."
        )
    if array.dtype == np.uint8:
        return array
    array = array.astype("float32")
    if not np.isfinite(array).all():
        raise InvalidValueError("a picture has values that are not finite; replace NaN and infinity before.")
    low, high = array.min(), array.max()
    if low < 0 or high > 255:
        raise InvalidValueError(
            f"a picture has values from {low:g} to {high:g}; scale them to 0 to 255, not normalised."
        )
    if 0 < high <= 1 and (array != np.round(array)).any():
        raise InvalidValueError(
            f"a picture has fractions up to {high:g} alone; multiply by 255, values go from 0 to 255."
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
    raise InvalidValueError(
        f"a picture has {image.shape[2]} channels where the model takes {channels}; convert it, or build the model "
        f"with in_channels={image.shape[2]}."
    )


def _resize_and_crop(pixels: np.ndarray, height: int, width: int, crop_fraction: float) -> np.ndarray:
    """Resizes so that `height` x `width` fills `crop_fraction` of the tighter side, and cuts out the middle."""
    cover_height, cover_width = int(height / crop_fraction), int(width / crop_fraction)
    old_height, old_width, _ = pixels.shape
    if old_height * cover_width <= old_width * cover_height:
        new_height, new_width = cover_height, int(cover_height * old_width / old_height)
    else:
        new_height, new_width = int(cover_width * old_height / old_width), cover_width
    top, left = round((new_height - height) / 2), round((new_width - width) / 2)
    # Of a line one pixel wide, which a file of some hundred bytes may hold, each pass would make gigabytes.
    longest = max(new_height, new_width)
    if max(old_height * new_width, new_height * width, RESAMPLE_BYTES_PER_LINE * longest) > max_pixels():
        raise InvalidValueError(
            f"a picture of {old_width} x {old_height} pixels is too narrow: to fill {cover_width} x {cover_height} it "
            f"would become {longest} pixels long; cut out the part that matters."
        )

    def resized(channel: np.ndarray) -> np.ndarray:
        # Width first, then height, each rounded. In one call Pillow 13 begins with the height of tall pictures, earlier
        # ones never do, and 15 % of the values would depend on its version.
        image = Image.fromarray(channel).resize((new_width, old_height), Image.Resampling.BICUBIC)
        image = image.crop((left, 0, left + width, old_height))
        image = image.resize((width, new_height), Image.Resampling.BICUBIC)
        return np.asarray(image.crop((0, top, width, top + height)))

    return np.stack([resized(np.ascontiguousarray(each)) for each in np.moveaxis(pixels, -1, 0)], axis=-1)
