"""Rebuilds models from their files."""

from __future__ import annotations

import dataclasses
from os import PathLike
from pathlib import Path
from typing import Any

from keras_crossvit._internal.errors import InvalidValueError, first_line
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit.checkpoints.adaptation import source_fields
from keras_crossvit.checkpoints.hub import HUB_PREFIX, fetch_model
from keras_crossvit.checkpoints.keras_files import read_keras_model
from keras_crossvit.checkpoints.reading import format_of, open_checkpoint, read_model_config, require_file
from keras_crossvit.checkpoints.shapes import tensor_shapes
from keras_crossvit.checkpoints.tensors import assign, nonfinite_weights, require_finite, require_shapes
from keras_crossvit.layers._factories import skip_init
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.variants import variant_config, variant_name


@known_keywords_only
def load_model(path: str | PathLike, *, variant: str | None = None, allow_nonfinite: bool = False) -> CrossViT:
    """Rebuilds a model with its weights from a file.

    Args:
        path: Path of a `.keras` file, of a `.safetensors` file of `save_checkpoint`, of a run folder, for its best
            model, or, with `variant`, of any file that `load_checkpoint` reads; or the address of a model that
            `publish` uploaded to the Hugging Face Hub, "hf://USER/NAME".
        variant: The published model of a file that does not describe its model, as `create_model` takes it. The number
            of classes, image sizes and channels are read from the file. Defaults to None.
        allow_nonfinite: Whether weights may be NaN or infinite. Defaults to False.

    Returns:
        The model, with its class names if the file has them.

    Raises:
        FileNotFoundError: the file does not exist.
        ConnectionError: the hub cannot be reached.
        ValueError: the file is broken, does not describe its model and `variant` is missing, does not fit `variant`, or
            has weights that are not finite.
    """
    path = fetch_model(path) if isinstance(path, str) and path.startswith(HUB_PREFIX) else require_file(path)
    suffix = format_of(path)
    if suffix == ".keras":
        model = read_keras_model(path)
        if not allow_nonfinite:
            require_finite(f"'{path}'", nonfinite_weights(model))
        return model
    described = read_model_config(path) if suffix == ".safetensors" else None
    if described is not None:
        return _load_described(path, described, allow_nonfinite=allow_nonfinite)
    if variant is None:
        raise InvalidValueError(
            f"'{path}' does not describe its model; pass the published model's name as variant, such as "
            "crossvit_9_dagger, or convert the file: keras-crossvit convert FILE OUT.keras --model NAME."
        )
    return _load_variant(path, variant_name(variant), suffix, allow_nonfinite=allow_nonfinite)


def _load_described(path: Path, described: dict[str, Any], *, allow_nonfinite: bool) -> CrossViT:
    config = CrossViTConfig(**described["config"])
    with open_checkpoint(path, config) as checkpoint:
        require_shapes(tensor_shapes(config), checkpoint)  # before anything is built
        model = _described_model(described, path)
        assign(model, checkpoint, allow_nonfinite=allow_nonfinite)
    return model


def _described_model(described: dict[str, Any], path: Path) -> CrossViT:
    try:
        with skip_init():
            return CrossViT.from_config(described)
    except Exception as error:  # Keras may raise anything, depending on what is described
        raise InvalidValueError(
            f"'{path}' describes a model that cannot be built ({first_line(error)}); write the file again with "
            "save_checkpoint()."
        ) from error


def _load_variant(path: Path, variant: str, suffix: str, *, allow_nonfinite: bool) -> CrossViT:
    config = variant_config(variant)
    with skip_init():
        template = CrossViT(config) if suffix == ".weights.h5" else None  # Keras numbers the layers in such a file
    with open_checkpoint(path, config, template) as checkpoint:
        fields = source_fields(checkpoint, config, prefer_square=True)
        config = dataclasses.replace(
            config,
            num_classes=fields.num_classes,
            in_channels=fields.in_channels,
            img_size=fields.image_sizes(config),
        )
        require_shapes(tensor_shapes(config), checkpoint)  # before anything is built
        with skip_init():
            model = CrossViT(config, name=variant)
        assign(model, checkpoint, allow_nonfinite=allow_nonfinite)
    return model
