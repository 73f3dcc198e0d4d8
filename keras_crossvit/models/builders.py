"""A function for each published model, and the builders under them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from os import PathLike
from typing import Any

import keras

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path
from keras_crossvit.checkpoints import LOADING_KEYWORDS, fetch_imagenet_weights, load_checkpoint
from keras_crossvit.checkpoints.adaptation import LoadResult
from keras_crossvit.layers._factories import skip_init
from keras_crossvit.models.config import CrossViTConfig, require_known_keywords
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.variants import get_variant, variant_config, variant_name

MODEL_ARGUMENTS = ("classifier_activation", "pool", "class_names", "name", "dtype")
IMAGENET = "imagenet"


def build_crossvit(
    config: CrossViTConfig | Mapping[str, Any],
    *,
    weights: str | PathLike | Mapping[str, Any] | None = None,
    **keywords: Any,
) -> CrossViT:
    """Assembles a CrossViT of any configuration.

    Args:
        config: A `CrossViTConfig`, or a mapping of its fields.
        weights: What `load_checkpoint` takes, or None for fresh weights (the default).
        **keywords: `classifier_activation`, `pool`, `class_names`, `name` and `dtype` of `CrossViT`; `adapt_head`,
            `adapt_positions` and `adapt_channels` of `load_checkpoint`, each of which prints a line when it was needed
            (see `keras.config.disable_interactive_logging`), and its `allow_nonfinite`.

    Returns:
        The model.

    Raises:
        TypeError: a keyword is unknown; the message names the nearest.
        ValueError: a value is out of range, or the weights do not fit.
    """
    require_known_keywords(keywords, [*MODEL_ARGUMENTS, *LOADING_KEYWORDS], "build_crossvit()")
    if isinstance(weights, str) and weights == IMAGENET:
        raise InvalidValueError(
            f"weights {weights!r} belong to a published model; name it in create_model(), or give a path."
        )
    loading = {keyword: keywords.pop(keyword) for keyword in LOADING_KEYWORDS if keyword in keywords}
    if weights is None:
        return CrossViT(config, **keywords)
    model, report = build_with_weights(config, weights, loading, **keywords)
    if report.adaptations and keras.config.is_interactive_logging_enabled():
        print(*report.adaptations, sep="\n")
    return model


def build_with_weights(
    config: CrossViTConfig | Mapping[str, Any],
    weights: str | PathLike | Mapping[str, Any],
    loading: Mapping[str, bool],
    **keywords: Any,
) -> tuple[CrossViT, LoadResult]:
    """A CrossViT with the weights of a checkpoint, and what was done to make them fit.

    Args:
        config: As of `build_crossvit`.
        weights: What `load_checkpoint` takes.
        loading: Keywords of `load_checkpoint`.
        **keywords: Those of `CrossViT`.
    """
    with skip_init():
        model = CrossViT(config, **keywords)
    return model, load_checkpoint(model, weights, **loading)


def weights_of(variant: str, weights: Any) -> Any:
    """The official weights of a published model where "imagenet" asks for them, else the weights as they are."""
    if isinstance(weights, str) and weights == IMAGENET:
        return fetch_imagenet_weights(get_variant(variant).timm_name)
    if isinstance(weights, str) and not (file := resolve_model_path(weights)).suffix and not file.is_file():
        raise InvalidValueError(
            f"weights {weights!r} are neither '{IMAGENET}' nor a file's path, which ends in one of "
            f"{', '.join(CHECKPOINT_SUFFIXES)}."
        )
    return weights


def create_model(
    variant: str,
    /,
    num_classes: int = 1000,
    *,
    weights: str | PathLike | Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> CrossViT:
    """Builds a published model, or one of one's own derived from it.

    Args:
        variant: One of `list_models()`, or timm's or the authors' name of it, such as
            "timm/crossvit_9_dagger_240.in1k".
        num_classes: Classes to tell apart; 0 leaves the heads out. Defaults to 1000.
        weights: "imagenet" for the official weights, fetched from the Hugging Face Hub or taken from its cache; path of
            a checkpoint or a mapping of timm's tensor names, as `load_checkpoint` takes them. Defaults to None: fresh
            weights.
        **kwargs: Any field of `CrossViTConfig`, and any keyword of `build_crossvit` (`name` defaults to the
            model's name in `list_models()`).

    Returns:
        The model.

    Raises:
        TypeError: a keyword is unknown; the message names the nearest.
        ValueError: there is no such variant, a value is out of range, or the weights do not fit; if a keyword such as
            `adapt_head` would make them fit, the message names it.
        OSError: the official weights cannot be fetched.

    Example:
        >>> model = keras_crossvit.create_model("crossvit_15_dagger", num_classes=10, drop_path_rate=0.1)
        >>> model = keras_crossvit.create_model("crossvit_9", num_classes=10, weights="imagenet", adapt_head=True)
    """
    variant = variant_name(variant)
    fields = [field.name for field in dataclasses.fields(CrossViTConfig)]
    build_keywords = [*MODEL_ARGUMENTS, *LOADING_KEYWORDS]
    require_known_keywords(kwargs, ["weights", *build_keywords, *fields], f"{variant}()")
    build_arguments = {keyword: kwargs.pop(keyword) for keyword in build_keywords if keyword in kwargs}
    config = variant_config(variant, num_classes=num_classes, **kwargs)
    return build_crossvit(config, weights=weights_of(variant, weights), **{"name": variant, **build_arguments})


def crossvit_tiny(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-Ti. Arguments as in `create_model`."""
    return create_model("crossvit_tiny", num_classes, **kwargs)


def crossvit_small(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-S. Arguments as in `create_model`."""
    return create_model("crossvit_small", num_classes, **kwargs)


def crossvit_base(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-B. Arguments as in `create_model`."""
    return create_model("crossvit_base", num_classes, **kwargs)


def crossvit_9(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-9. Arguments as in `create_model`."""
    return create_model("crossvit_9", num_classes, **kwargs)


def crossvit_15(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-15. Arguments as in `create_model`."""
    return create_model("crossvit_15", num_classes, **kwargs)


def crossvit_18(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-18. Arguments as in `create_model`."""
    return create_model("crossvit_18", num_classes, **kwargs)


def crossvit_9_dagger(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-9 with the multi-conv stem. Arguments as in `create_model`."""
    return create_model("crossvit_9_dagger", num_classes, **kwargs)


def crossvit_15_dagger(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-15 with the multi-conv stem. Arguments as in `create_model`."""
    return create_model("crossvit_15_dagger", num_classes, **kwargs)


def crossvit_18_dagger(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-18 with the multi-conv stem. Arguments as in `create_model`."""
    return create_model("crossvit_18_dagger", num_classes, **kwargs)


def crossvit_15_dagger_408(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-15 with the multi-conv stem, at 408 and 384 pixels. Arguments as in `create_model`."""
    return create_model("crossvit_15_dagger_408", num_classes, **kwargs)


def crossvit_18_dagger_408(num_classes: int = 1000, **kwargs: Any) -> CrossViT:
    """CrossViT-18 with the multi-conv stem, at 408 and 384 pixels. Arguments as in `create_model`."""
    return create_model("crossvit_18_dagger_408", num_classes, **kwargs)
