"""CrossViT as a functional Keras model, and a function for each published one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import keras

from keras_crossvit.checkpoints import ADAPTATIONS, fetch_imagenet_weights, load_checkpoint
from keras_crossvit.config import CrossViTConfig, require_known_keywords
from keras_crossvit.describe import describe
from keras_crossvit.graph import crossvit_graph
from keras_crossvit.variants import get_config, get_variant

POOLS = ("token", "avg")


@keras.saving.register_keras_serializable(package="keras_crossvit")
class CrossViT(keras.Model):
    """Cross-attention multi-scale vision transformer, a functional model with two image inputs.

    Args:
        config: A `CrossViTConfig`, or a mapping of its fields.
        classifier_activation: Activation of the output, as `keras.activations.get` takes it. Defaults to None: logits.
        pool: What a branch classifies: "token", its class token, or "avg", the mean of its patch tokens. Defaults to
            "token".
        classes: Names of the classes, in the order of the logits. Defaults to None.
        name: Name of the model. Defaults to "crossvit".
        dtype: Dtype policy of the layers. Defaults to None, which is `keras.config.dtype_policy()`.

    Inputs:
        List of `small_patch_image`, shape (B, height, width, channels) at `config.image_sizes[0]`, and
        `large_patch_image` at `config.image_sizes[1]`, both normalised (see `keras_crossvit.preprocess`).

    Returns:
        Logits of shape (B, num_classes), float32 under mixed precision too; with `classifier_activation` what it makes
        of them; with `num_classes` 0 the two branches' normalised tokens joined, shape (B, sum of embed_dim).

    Raises:
        ValueError: a value is out of range; the message says what would do.

    Source: paper, figure 2; timm.models.crossvit.CrossVit.
    """

    def __init__(
        self,
        config: CrossViTConfig | Mapping[str, Any],
        *,
        classifier_activation: Any = None,
        pool: str = "token",
        classes: Sequence[str] | None = None,
        name: str = "crossvit",
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        config = config if isinstance(config, CrossViTConfig) else CrossViTConfig(**config)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        if pool not in POOLS:
            raise ValueError(f"pool {pool!r} is unknown; use 'token' (the class token) or 'avg' (mean of the patches).")
        if classes is not None and len(classes) != config.num_classes:
            raise ValueError(
                f"classes has {len(classes)} names for num_classes {config.num_classes}; give one name per class."
            )
        if classifier_activation is not None and config.num_classes == 0:
            raise ValueError(
                f"classifier_activation {classifier_activation!r} needs a classifier; leave it out or set num_classes."
            )
        inputs, outputs = crossvit_graph(
            config, policy, average_patches=pool == "avg", classifier_activation=classifier_activation
        )
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.config = config
        self.classifier_activation = classifier_activation
        self.pool = pool
        self.classes = None if classes is None else tuple(str(label) for label in classes)
        self._graph_policy = policy

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor as JSON values, and the names of frozen layers."""
        activation = self.classifier_activation
        return {
            "config": self.config.to_dict(),
            "classifier_activation": keras.activations.serialize(activation) if callable(activation) else activation,
            "pool": self.pool,
            "classes": None if self.classes is None else list(self.classes),
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self._policy_of_every_layer()),
            "trainable": self.trainable,
            "frozen_layers": [layer.name for layer in self.layers if not layer.trainable] if self.trainable else [],
        }

    def _policy_of_every_layer(self) -> Any:
        """The policy that the model was built with, and those of layers that have been quantized since."""
        quantized = [layer for layer in self._flatten_layers() if getattr(layer, "quantization_mode", None)]
        if not quantized:
            return self._graph_policy
        return keras.dtype_policies.DTypePolicyMap(
            default_policy=self._graph_policy, policy_map={layer.path: layer.dtype_policy for layer in quantized}
        )

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> CrossViT:
        """Builds the model that `get_config` describes."""
        frozen_layers = config.get("frozen_layers", [])
        model = cls(**{argument: value for argument, value in config.items() if argument != "frozen_layers"})
        for name in frozen_layers:
            model.get_layer(name).trainable = False
        return model

    def summary(self, line_length: int | None = 100, positions: list[float] | None = None, **kwargs: Any) -> None:
        """Prints a row per block, as `keras.Model.summary` does, wide enough for the names of the layers."""
        super().summary(line_length=line_length, positions=positions or [0.32, 0.54, 0.67, 1.0], **kwargs)

    def __str__(self) -> str:
        return describe(self)


MODEL_ARGUMENTS = ("classifier_activation", "pool", "classes", "name", "dtype")
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
        **keywords: `classifier_activation`, `pool`, `classes`, `name` and `dtype` of `CrossViT`; `adapt_head`,
            `adapt_positions` and `adapt_channels` of `load_checkpoint`, each of which prints a line when it was needed
            (see `keras.config.disable_interactive_logging`).

    Returns:
        The model.

    Raises:
        TypeError: a keyword is unknown; the message names the nearest.
        ValueError: a value is out of range, or the weights do not fit.
    """
    require_known_keywords(keywords, [*MODEL_ARGUMENTS, *ADAPTATIONS], "build_crossvit()")
    if isinstance(weights, str) and weights == IMAGENET:
        raise ValueError(f"weights {weights!r} belong to a published model; name it in create_model(), or give a path.")
    adaptations = {keyword: keywords.pop(keyword) for keyword in ADAPTATIONS if keyword in keywords}
    model = CrossViT(config, **keywords)
    if weights is not None:
        report = load_checkpoint(model, weights, **adaptations)
        if report.adaptations and keras.config.is_interactive_logging_enabled():
            print(*report.adaptations, sep="\n")
    return model


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
        variant: One of `list_models()`.
        num_classes: Classes to tell apart; 0 leaves the heads out. Defaults to 1000.
        weights: "imagenet" for the official weights, fetched from the Hugging Face Hub or taken from its cache; path of
            a checkpoint or a mapping of timm's tensor names, as `load_checkpoint` takes them. Defaults to None: fresh
            weights.
        **kwargs: Any field of `CrossViTConfig`, and any keyword of `build_crossvit` (`name` defaults to `variant`).

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
    published = get_variant(variant)
    fields = [field.name for field in dataclasses.fields(published.config)]
    build_keywords = [*MODEL_ARGUMENTS, *ADAPTATIONS]
    require_known_keywords(kwargs, ["num_classes", "weights", *build_keywords, *fields], f"{variant}()")
    build_arguments = {keyword: kwargs.pop(keyword) for keyword in build_keywords if keyword in kwargs}
    config = get_config(variant, num_classes=num_classes, **kwargs)
    if isinstance(weights, str) and weights == IMAGENET:
        weights = fetch_imagenet_weights(published.timm_name)
    return build_crossvit(config, weights=weights, **{"name": variant, **build_arguments})


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
