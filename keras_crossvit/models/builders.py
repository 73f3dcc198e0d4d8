"""A function for each published model, and the functions behind them."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Unpack

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path
from keras_crossvit.checkpoints import LOADING_KEYWORDS, LoadResult, fetch_imagenet_weights, load_checkpoint
from keras_crossvit.layers._factories import skip_init
from keras_crossvit.models.arguments import BuildArguments, ModelArguments, require_known_keywords
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.variants import get_variant, variant_config, variant_name

IMAGENET = "imagenet"


def build_crossvit(config: CrossViTConfig | Mapping[str, Any], **kwargs: Unpack[BuildArguments]) -> CrossViT:
    """Builds a CrossViT of any configuration.

    Args:
        config: A `CrossViTConfig`, or a mapping of its fields.
        **kwargs: `weights`, a checkpoint as `load_checkpoint` takes it, or None for random weights (the default);
            `adapt_head`, `adapt_positions`, `adapt_channels` and `allow_nonfinite` of `load_checkpoint`, whose
            adaptations are logged; `classifier_activation`, `pool`, `class_names`, `gradient_checkpointing`, `name` and
            `dtype` of `CrossViT`.

    Returns:
        The model.

    Raises:
        TypeError: a keyword is unknown; the message has the nearest one.
        ValueError: a value is out of range, or the weights do not fit.
    """
    require_known_keywords(kwargs, BuildArguments.__annotations__, "build_crossvit()")
    arguments: dict[str, Any] = {**kwargs}
    weights = arguments.pop("weights", None)
    if isinstance(weights, str) and weights == IMAGENET:
        raise InvalidValueError(
            f"weights {weights!r} belong to a published model; use create_model() with its name, or give a path."
        )
    loading = {keyword: arguments.pop(keyword) for keyword in LOADING_KEYWORDS if keyword in arguments}
    if weights is None:
        return CrossViT(config, **arguments)
    model, result = build_with_weights(config, weights, loading, **arguments)
    for adaptation in result.adaptations:
        logger.info(adaptation)
    return model


def build_with_weights(
    config: CrossViTConfig | Mapping[str, Any],
    weights: str | PathLike | Mapping[str, Any],
    loading: Mapping[str, bool],
    **kwargs: Any,
) -> tuple[CrossViT, LoadResult]:
    """Returns a CrossViT with the weights of a checkpoint, and how they were made to fit.

    Args:
        config: As for `build_crossvit`.
        weights: A checkpoint as `load_checkpoint` takes it.
        loading: Keywords of `load_checkpoint`.
        **kwargs: Keywords of `CrossViT`.
    """
    with skip_init():
        model = CrossViT(config, **kwargs)
    return model, load_checkpoint(model, weights, **loading)


def weights_of(variant: str, weights: Any) -> Any:
    """Returns the path of a published model's official weights for "imagenet", and other weights as they are."""
    if isinstance(weights, str) and weights == IMAGENET:
        return fetch_imagenet_weights(get_variant(variant).timm_name)
    if isinstance(weights, str) and not (file := resolve_model_path(weights)).suffix and not file.is_file():
        raise InvalidValueError(
            f"weights {weights!r} is neither '{IMAGENET}' nor the path of a file that ends with one of "
            f"{', '.join(CHECKPOINT_SUFFIXES)}."
        )
    return weights


def create_model(variant: str, /, num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds a published model, or a variation of it.

    Args:
        variant: One of `list_models()`, or the model's name in timm or in the authors' repository, such as
            "timm/crossvit_9_dagger_240.in1k".
        num_classes: Number of classes; 0 for a model without heads. Defaults to 1000.
        **kwargs: Fields of `CrossViTConfig` and keywords of `build_crossvit`. `weights` may also be "imagenet": the
            official weights from the Hugging Face Hub or its cache. `name` defaults to the name in `list_models()`.

    Returns:
        The model.

    Raises:
        TypeError: a keyword is unknown; the message has the nearest one.
        ValueError: there is no such model, a value is out of range, or the weights do not fit; if a keyword such as
            `adapt_head` would make them fit, the message has it.
        OSError: the official weights cannot be downloaded.

    Example:
        >>> model = keras_crossvit.create_model("crossvit_15_dagger", num_classes=10, drop_path_rate=0.1)
        >>> model = keras_crossvit.create_model("crossvit_9", num_classes=10, weights="imagenet", adapt_head=True)
    """
    variant = variant_name(variant)
    require_known_keywords(kwargs, ModelArguments.__annotations__, f"{variant}()")
    fields: dict[str, Any] = {**kwargs}
    arguments = {keyword: fields.pop(keyword) for keyword in BuildArguments.__annotations__ if keyword in fields}
    config = variant_config(variant, num_classes=num_classes, **fields)
    arguments["weights"] = weights_of(variant, arguments.get("weights"))
    return build_crossvit(config, **{"name": variant, **arguments})


def crossvit_tiny(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-Ti. Arguments as in `create_model`."""
    return create_model("crossvit_tiny", num_classes, **kwargs)


def crossvit_small(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-S. Arguments as in `create_model`."""
    return create_model("crossvit_small", num_classes, **kwargs)


def crossvit_base(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-B. Arguments as in `create_model`."""
    return create_model("crossvit_base", num_classes, **kwargs)


def crossvit_9(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-9. Arguments as in `create_model`."""
    return create_model("crossvit_9", num_classes, **kwargs)


def crossvit_15(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-15. Arguments as in `create_model`."""
    return create_model("crossvit_15", num_classes, **kwargs)


def crossvit_18(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-18. Arguments as in `create_model`."""
    return create_model("crossvit_18", num_classes, **kwargs)


def crossvit_9_dagger(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-9 with the multi-conv stem. Arguments as in `create_model`."""
    return create_model("crossvit_9_dagger", num_classes, **kwargs)


def crossvit_15_dagger(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-15 with the multi-conv stem. Arguments as in `create_model`."""
    return create_model("crossvit_15_dagger", num_classes, **kwargs)


def crossvit_18_dagger(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-18 with the multi-conv stem. Arguments as in `create_model`."""
    return create_model("crossvit_18_dagger", num_classes, **kwargs)


def crossvit_15_dagger_408(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-15 with the multi-conv stem, for 408x408 and 384x384 images. Arguments as in `create_model`."""
    return create_model("crossvit_15_dagger_408", num_classes, **kwargs)


def crossvit_18_dagger_408(num_classes: int = 1000, **kwargs: Unpack[ModelArguments]) -> CrossViT:
    """Builds CrossViT-18 with the multi-conv stem, for 408x408 and 384x384 images. Arguments as in `create_model`."""
    return create_model("crossvit_18_dagger_408", num_classes, **kwargs)
