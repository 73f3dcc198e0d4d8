"""What other tools read from an exported file: descriptions, class names, and OpenVINO's Model API's `model_info`."""

from __future__ import annotations

from keras_crossvit._internal.user_text import one_line
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.preprocessing.predictions import PROBABILITIES_OF, imagenet_classes, resolve_class_names
from keras_crossvit.preprocessing.transforms import IMAGE, TENSORS, channel_statistics
from keras_crossvit.runtimes.metadata import Metadata
from keras_crossvit.runtimes.runtime import EXPLANATION, EXPLANATION_NAMES, INPUT_NAMES, NAMES_OF_KIND, OUTPUT_NAME
from keras_crossvit.runtimes.signature_names import PROBABILITIES

_TOP = 5  # classes that Model API returns
_COLORS = {1: "gray", 3: "RGB"}


def description(metadata: Metadata) -> str:
    """Returns one sentence about a model."""
    return f"CrossViT {metadata.name}, which classifies images into {metadata.config.num_classes} classes."


def labels(metadata: Metadata) -> list[str] | None:
    """Returns the names of the classes as single lines; ImageNet's for 1,000 unnamed classes, None for others."""
    count = metadata.config.num_classes
    if metadata.class_names is None and count != len(imagenet_classes()):
        return None
    names = (one_line(" ".join(name.split())) for name in resolve_class_names(count, metadata.class_names))
    return [name or f"class {i}" for i, name in enumerate(names)]


def tensor_descriptions(metadata: Metadata) -> dict[str, str]:
    """Returns one sentence about each input and output by name."""
    config, facts = metadata.config, metadata.preprocessing
    color = _COLORS.get(config.in_channels, f"{config.in_channels} channels")
    sizes = [f"{width}x{height} pixels" for height, width in config.image_sizes]
    crop = f"resized and cropped at the center with crop_fraction {facts['crop_fraction']:g}"
    values = f"(value / 255 - mean) / std with mean {facts['mean']} and std {facts['std']}"
    inputs = {
        INPUT_NAMES[0]: f"Image of {sizes[0]}, {color}, {crop}: {values}.",
        INPUT_NAMES[1]: f"Image of {sizes[1]}: {facts['large_patch_image']}.",
        NAMES_OF_KIND[IMAGE][0]: f"Image of {sizes[0]}, {color}, {crop}: values 0 to 255.",
    }
    outputs = {
        OUTPUT_NAME: "Logit of each class.",
        PROBABILITIES: "Probability of each class.",
        **dict.fromkeys(EXPLANATION_NAMES, "What the largest logit loses without each patch, by row and column."),
    }
    return inputs | outputs


def normalization(config: CrossViTConfig, input_name: str) -> tuple[list[float], list[float]]:
    """Returns what an input expects to be subtracted from values of 0 to 255, and what to divide by, per channel."""
    if (input_name,) == NAMES_OF_KIND[IMAGE]:
        return [0.0] * config.in_channels, [1.0] * config.in_channels
    mean, std = ([255 * each for each in values] for values in channel_statistics(config.in_channels))
    return mean, std


def model_info(metadata: Metadata) -> dict[str, str]:
    """Returns the options with which OpenVINO's Model API classifies images, or none if it cannot use the file.

    It takes files of one color input and of several classes, and computes probabilities of their first output.
    """
    config = metadata.config
    if (
        metadata.inputs == TENSORS
        or EXPLANATION in metadata.outputs  # whose grids come first
        or config.in_channels != 3
        or config.num_classes == 1
        or metadata.classifier_activation not in (None, "linear", *PROBABILITIES_OF)
    ):
        return {}
    height, width = config.image_sizes[0]
    info = {
        "model_type": "Classification",
        "multilabel": str(metadata.probability_function == "sigmoid"),
        "reverse_input_channels": "True",  # images are BGR, as OpenCV reads them
        "resize_type": "crop" if height == width else "standard",  # Model API's crop needs a square
        "topk": str(min(_TOP, config.num_classes)),
    }
    if (names := labels(metadata)) is not None:
        info["labels"] = " ".join(name.replace(" ", "_") for name in names)
    if metadata.inputs != IMAGE:
        (name,) = NAMES_OF_KIND[metadata.inputs]
        for key, values in zip(("mean_values", "scale_values"), normalization(config, name), strict=True):
            info[key] = " ".join(f"{value:.9g}" for value in values)
    return info
