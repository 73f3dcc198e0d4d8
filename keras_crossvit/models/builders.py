"""A function for each published model, and the functions behind them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any, Unpack

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keywords import require_known_keywords
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import CHECKPOINT_SUFFIXES, resolve_model_path
from keras_crossvit.checkpoints import LoadResult, fetch_imagenet_weights
from keras_crossvit.checkpoints.adaptation import ADAPTATIONS, mismatches, published_fields, require_allowed
from keras_crossvit.checkpoints.reading import load_adapted
from keras_crossvit.layers._factories import skip_init
from keras_crossvit.models.arguments import BuildArguments, ModelArguments
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.variants import get_variant, variant_config, variant_name

IMAGENET = "imagenet"


def build_crossvit(config: CrossViTConfig | Mapping[str, Any], **kwargs: Unpack[BuildArguments]) -> CrossViT:
    """Builds a CrossViT of any configuration.

    Args:
        config: A `CrossViTConfig`, or a mapping of its fields.
        **kwargs: `weights`, a checkpoint as `load_checkpoint` takes it, or None for random weights (the default);
            `adapt`, whether weights of other classes, image sizes or channels are adapted, which a logged line then
            says (the default), or refused (False); `allow_nonfinite` of `load_checkpoint`; `classifier_activation`,
            `pool`, `class_names`, `gradient_checkpointing`, `name` and `dtype` of `CrossViT`.

    Returns:
        The model.

    Raises:
        TypeError: a keyword is unknown; the message has the nearest one.
        ValueError: a value is out of range, or the weights do not fit.
    """
    require_known_keywords(kwargs, BuildArguments.__annotations__, "build_crossvit()")
    weights = kwargs.get("weights")
    if isinstance(weights, str) and weights == IMAGENET:
        raise InvalidValueError(
            f"weights {weights!r} belong to a published model; use create_model() with its name, or give a path."
        )
    return _build(config, {**kwargs}, _allowed(kwargs.get("adapt"), ADAPTATIONS))


def _build(
    config: CrossViTConfig | Mapping[str, Any], arguments: dict[str, Any], adaptations: Collection[str]
) -> CrossViT:
    weights, allow_nonfinite = arguments.pop("weights", None), arguments.pop("allow_nonfinite", False)
    arguments.pop("adapt", None)
    if weights is None:
        return CrossViT(config, **arguments)
    model, result = build_with_weights(config, weights, adaptations, allow_nonfinite=allow_nonfinite, **arguments)
    if result.adaptations:  # a warning, since loggers show no others by default
        logger.warning("The weights of %s were adapted. %s", result.source, " ".join(result.adaptations))
    return model


def _allowed(adapt: bool | None, default: Collection[str]) -> Collection[str]:
    """Returns which of `ADAPTATIONS` the argument `adapt` of a model's function allows."""
    return default if adapt is None else ADAPTATIONS if adapt else ()


def build_with_weights(
    config: CrossViTConfig | Mapping[str, Any],
    weights: str | PathLike | Mapping[str, Any],
    adaptations: Collection[str],
    *,
    allow_nonfinite: bool = False,
    **kwargs: Any,
) -> tuple[CrossViT, LoadResult]:
    """Returns a CrossViT with the weights of a checkpoint, and how they were made to fit.

    Args:
        config: As for `build_crossvit`.
        weights: A checkpoint as `load_checkpoint` takes it.
        adaptations: Those of `ADAPTATIONS` that are allowed.
        allow_nonfinite: As in `load_checkpoint`. Defaults to False.
        **kwargs: Keywords of `CrossViT`.
    """
    with skip_init():
        model = CrossViT(config, **kwargs)
    return model, load_adapted(model, weights, adaptations, allow_nonfinite=allow_nonfinite)


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
            official weights from the Hugging Face Hub or its cache. They are adapted to the number of classes, class
            names, image sizes and channels that you give, and a logged line says so: the head is then new. Weights that
            differ from what you do not give are refused; `adapt=True` adapts them too, and `adapt=False` none. `name`
            defaults to the name in `list_models()`.

    Returns:
        The model.

    Raises:
        TypeError: a keyword is unknown; the message has the nearest one.
        ValueError: there is no such model, a value is out of range, or the weights do not fit; the message says whether
            `adapt=True` would make them fit.
        OSError: the official weights cannot be downloaded.

    Example:
        >>> model = keras_crossvit.create_model("crossvit_15_dagger", num_classes=10, drop_path_rate=0.1)
        >>> model = keras_crossvit.create_model("crossvit_9", num_classes=10, weights="imagenet")
    """
    variant = variant_name(variant)
    require_known_keywords(kwargs, ModelArguments.__annotations__, f"{variant}()")
    fields: dict[str, Any] = {**kwargs}
    arguments = {keyword: fields.pop(keyword) for keyword in BuildArguments.__annotations__ if keyword in fields}
    config = variant_config(variant, num_classes=num_classes, **fields)
    changed = mismatches(published_fields(variant_config(variant)), config, None)
    asked = {*changed, "head"} if arguments.get("class_names") is not None else {*changed}
    adaptations = _allowed(arguments.get("adapt"), asked)
    if isinstance(arguments.get("weights"), str) and arguments["weights"] == IMAGENET:  # before it is downloaded
        require_allowed(f"The checkpoint '{IMAGENET}' of {variant}", changed, adaptations)
    arguments["weights"] = weights_of(variant, arguments.get("weights"))
    return _build(config, {"name": variant, **arguments}, adaptations)


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
