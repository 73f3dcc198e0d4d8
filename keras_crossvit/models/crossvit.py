"""CrossViT as a functional Keras model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.checks import one_class_error
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keras_compat import build_before_tracing
from keras_crossvit._internal.optimizers import serialized_with_exclusions
from keras_crossvit.layers._factories import policy_of, policy_with, quantized_layers
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.graph import crossvit_graph
from keras_crossvit.models.summary import activation_name, describe

POOLS = ("token", "avg")


@keras.saving.register_keras_serializable(package="keras_crossvit")
class CrossViT(keras.Model):
    """Cross-attention multi-scale vision transformer, a functional model with two image inputs.

    Args:
        config: A `CrossViTConfig`, or a mapping of its fields.
        classifier_activation: Activation of the output, as `keras.activations.get` takes it; for one class none that is
            constant then, such as a softmax. Defaults to None: logits.
        pool: What a branch classifies: "token", its class token, or "avg", the mean of its patch tokens. Defaults to
            "token".
        class_names: Names of the classes, in the order of the logits. Defaults to None.
        name: Name of the model. Defaults to "crossvit".
        dtype: Dtype policy of the layers. Defaults to None, which is `keras.config.dtype_policy()`.

    Inputs:
        List or tuple of `small_patch_image`, shape (B, height, width, channels) at `config.image_sizes[0]`, and
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
        class_names: Sequence[str] | None = None,
        name: str = "crossvit",
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        config = config if isinstance(config, CrossViTConfig) else CrossViTConfig(**config)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        if pool not in POOLS:
            raise InvalidValueError(
                f"pool {pool!r} is unknown; use 'token' (the class token) or 'avg' (mean of the patches)."
            )
        class_names = None if class_names is None else _class_names(class_names, config.num_classes)
        if classifier_activation is not None and config.num_classes == 0:
            raise InvalidValueError(
                f"classifier_activation {classifier_activation!r} needs a classifier; leave it out or set num_classes."
            )
        if config.num_classes == 1:
            _require_that_it_varies(classifier_activation)
        inputs, outputs = crossvit_graph(
            config, policy, average_patches=pool == "avg", classifier_activation=classifier_activation
        )
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        for layer in quantized_layers(self):
            # In the place of a map of all policies, by which Keras does not save a layer of int8; the public setter
            # would write into that map.
            layer._dtype_policy = policy_of(layer)
        default_policy = getattr(policy, "default_policy", policy)
        if default_policy.quantization_mode is None:  # Keras would quantize the layers once more
            self.dtype_policy = default_policy  # by which `compile` scales the loss; else it is the global one
        self.config = config
        self.classifier_activation = classifier_activation
        self.pool = pool
        self.class_names = class_names
        self._graph_policy = policy

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor as JSON values, and the names of frozen layers."""
        activation = self.classifier_activation
        return {
            "config": self.config.to_dict(),
            "classifier_activation": keras.activations.serialize(activation) if callable(activation) else activation,
            "pool": self.pool,
            "class_names": None if self.class_names is None else list(self.class_names),
            "name": self.name,
            # The policy that the model was built with, and those of layers that have been quantized since.
            "dtype": keras.dtype_policies.serialize(policy_with(self._graph_policy, quantized_layers(self))),
            "trainable": self.trainable,
            "frozen_layers": [layer.name for layer in self.layers if not layer.trainable] if self.trainable else [],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> CrossViT:
        """Builds the model that `variant_config` describes."""
        frozen_layers = config.get("frozen_layers", [])
        model = cls(**{argument: value for argument, value in config.items() if argument != "frozen_layers"})
        for name in frozen_layers:
            model.get_layer(name).trainable = False
        return model

    def get_compile_config(self) -> dict[str, Any]:
        """Keras' own, with what the optimizer leaves out of weight decay."""
        config = super().get_compile_config()
        if config.get("optimizer") and self.optimizer is not None:
            config["optimizer"] = serialized_with_exclusions(config["optimizer"], self.optimizer, self.variables)
        return config

    def make_train_function(self, force: bool = False) -> Any:
        """Keras' own; under TensorFlow, what would make it trace the first step twice is made before."""
        if keras.backend.backend() == "tensorflow" and self.train_function is None:
            build_before_tracing(self)
        return super().make_train_function(force)

    def summary(self, line_length: int | None = 100, positions: list[float] | None = None, **kwargs: Any) -> None:
        """Prints a row per block, as `keras.Model.summary` does, wide enough for the names of the layers."""
        super().summary(line_length=line_length, positions=positions or [0.32, 0.54, 0.67, 1.0], **kwargs)

    def __str__(self) -> str:
        return describe(self)


def _require_that_it_varies(activation: Any) -> None:
    """Raises ValueError for an activation that makes the same of every single logit, as a softmax does."""
    logits = keras.ops.convert_to_tensor([[-1.0], [0.0], [1.0]])
    with warnings.catch_warnings(action="ignore"):  # Keras', of the softmax that is refused here
        outputs = keras.ops.convert_to_numpy(keras.activations.get(activation)(logits))
    if np.allclose(outputs, outputs[0]):
        raise one_class_error(activation_name(activation))


def _class_names(class_names: Any, num_classes: int) -> tuple[str, ...]:
    if isinstance(class_names, str) or not isinstance(class_names, Iterable):
        raise InvalidValueError(
            f"classes {class_names!r} is no list of names; give one name per class, and their number as num_classes."
        )
    names = tuple(str(label) for label in class_names)
    if len(names) != num_classes:
        raise InvalidValueError(
            f"classes has {len(names)} names for num_classes {num_classes}; give one name per class."
        )
    return names
