"""What the page has to know of its model."""

from __future__ import annotations

from typing import Any

from PIL import Image

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.preprocessing.bicubic import CUBIC_COEFFICIENT
from keras_crossvit.preprocessing.predictions import TOP, resolve_class_names
from keras_crossvit.preprocessing.transforms import LUMA
from keras_crossvit.runtimes import Runtime
from keras_crossvit.runtimes.runtime import INPUT_NAMES, OUTPUT_NAME, SIGNATURE

DIGITS = tuple("0123456789")  # a model of these classes is taken for quickstart's, and drawn for
# The digits of quickstart count the dark pixels in fields of a bitmap, and fill their pictures to the border.
_DRAWING = {"side": 32, "field": 4}
_DRAWING_CROP_FRACTION = 1.0


def page_facts(runtime: Runtime) -> dict[str, Any]:
    """Facts of a LiteRT file as JSON values, which all of the page's scripts work by.

    Args:
        runtime: The file, loaded.

    Raises:
        ValueError: no page can be made for this model: it takes other than one picture at once, pictures of other than
            one or three channels, or turns its logits into something that is known to Keras alone.
    """
    metadata, config = runtime.metadata, runtime.config
    if runtime.batch_size != 1:
        found = "any number of" if runtime.batch_size is None else runtime.batch_size
        raise InvalidValueError(f"The model takes {found} pictures at once; export it with batch size 1 for a page.")
    if config.in_channels not in (1, 3):
        raise InvalidValueError(
            f"The model takes pictures of {config.in_channels} channels; a page has 1 or 3 to give."
        )
    drawn = runtime.class_names == DIGITS
    facts = metadata.preprocessing
    return {
        "name": metadata.name,
        "class_names": resolve_class_names(config.num_classes, runtime.class_names),
        "activation": metadata.probability_function,
        "signature": SIGNATURE,
        "inputNames": INPUT_NAMES,
        "outputName": OUTPUT_NAME,
        "imageSizes": config.image_sizes,
        "channels": config.in_channels,
        "cropFraction": _DRAWING_CROP_FRACTION if drawn else facts["crop_fraction"],
        "mean": facts["mean"],
        "std": facts["std"],
        "luma": LUMA,
        "cubicCoefficient": CUBIC_COEFFICIENT,
        "shownClasses": TOP,
        "mostPixels": Image.MAX_IMAGE_PIXELS,
        "drawing": _DRAWING if drawn else None,
    }
