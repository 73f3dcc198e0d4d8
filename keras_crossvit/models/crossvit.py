"""CrossViT as a functional Keras model."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_crossvit._internal.checks import one_class_error
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.keras_compat import build_before_first_step, quantized_layers, replace_dtype_policy
from keras_crossvit._internal.keywords import require_known_keywords
from keras_crossvit._internal.optimizers import serialized_with_exclusions
from keras_crossvit.layers import TransformerBlock
from keras_crossvit.models.arguments import CrossViTArguments
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.dtype_policies import policy_of, with_policies_of
from keras_crossvit.models.graph import crossvit_graph
from keras_crossvit.models.summary import activation_name, describe
from keras_crossvit.preprocessing.calibration import Calibration, calibration_of

POOLS = ("token", "avg")
_SUMMARY_COLUMNS = 104  # from here on, Keras' summary has 100 for the table


@keras.saving.register_keras_serializable(package="keras_crossvit")
class CrossViT(keras.Model):
    """Cross-attention multi-scale vision transformer, a functional model with two image inputs.

    Args:
        config: A `CrossViTConfig`, or a mapping of its fields.
        classifier_activation: Activation of the output, as `keras.activations.get` takes it. With one class it must not
            be constant, as a softmax is. Defaults to None: logits.
        pool: What each head classifies: "token", the class token, or "avg", the mean of the patch tokens. Defaults to
            "token".
        class_names: Names of the classes, in the order of the logits. Defaults to None.
        calibration: How to read the logits, a `Calibration` or a mapping of its fields. Also an attribute, which `fit`
            sets to None. Defaults to None: a softmax of the logits.
        gradient_checkpointing: Whether training recomputes attention and MLPs for the gradient, which saves memory and
            costs time. Also an attribute that can be set before `compile`. Defaults to False.
        name: Name of the model. Defaults to "crossvit".
        dtype: Dtype policy of the layers. Defaults to None, which is `keras.config.dtype_policy()`.

    Inputs:
        List or tuple of `small_patch_image`, shape (B, height, width, channels) with `config.image_sizes[0]`, and
        `large_patch_image` with `config.image_sizes[1]`, both normalized (see `keras_crossvit.preprocess`).

    Returns:
        Logits of shape (B, num_classes), float32 also in mixed precision, or the result of `classifier_activation`.
        With `num_classes` 0, the normalized tokens of both branches concatenated, shape (B, sum of embed_dim).

    Raises:
        TypeError: a keyword is unknown; the message has the nearest one.
        ValueError: a value is out of range; the message says what would fit.

    Source: paper, figure 2; timm.models.crossvit.CrossVit.
    """

    def __init__(
        self,
        config: CrossViTConfig | Mapping[str, Any],
        *,
        classifier_activation: Any = None,
        pool: str = "token",
        class_names: Sequence[str] | None = None,
        calibration: Calibration | Mapping[str, Any] | None = None,
        gradient_checkpointing: bool = False,
        name: str = "crossvit",
        dtype: Any = None,
        trainable: bool = True,
        **unknown: Any,
    ) -> None:
        require_known_keywords(unknown, [*CrossViTArguments.__annotations__, "trainable"], "CrossViT()")
        config = config if isinstance(config, CrossViTConfig) else CrossViTConfig(**config)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        if pool not in POOLS:
            raise InvalidValueError(
                f"pool {pool!r} is unknown; use 'token' (the class token) or 'avg' (mean of the patch tokens)."
            )
        class_names = None if class_names is None else _checked_class_names(class_names, config.num_classes)
        if classifier_activation is not None and config.num_classes == 0:
            raise InvalidValueError(
                f"classifier_activation {classifier_activation!r} needs a classifier, but num_classes is 0; leave it "
                "out or set num_classes."
            )
        calibration = None if calibration is None else calibration_of(calibration)
        if calibration is not None and (classifier_activation is not None or config.num_classes < 2):
            raise InvalidValueError(
                f"calibration {calibration} is for the logits of two or more classes; leave it out, or the "
                "classifier_activation."
            )
        if config.num_classes == 1:
            _require_not_constant(classifier_activation)
        inputs, outputs = crossvit_graph(
            config, policy, average_patches=pool == "avg", classifier_activation=classifier_activation
        )
        super().__init__(inputs=inputs, outputs=outputs, name=name, trainable=trainable)
        for layer in quantized_layers(self):
            replace_dtype_policy(layer, policy_of(layer))  # Keras does not save an int8 layer that has a policy map
        default_policy = getattr(policy, "default_policy", policy)
        if default_policy.quantization_mode is None:  # Keras would quantize the layers again
            self.dtype_policy = default_policy  # without it, `compile` scales the loss by the global policy
        self.config = config
        self.classifier_activation = classifier_activation
        self.pool = pool
        self.class_names = class_names
        self.calibration = calibration
        self.gradient_checkpointing = gradient_checkpointing
        self._graph_policy = policy

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether training recomputes attention and MLPs for the gradient; compile the model again after a change."""
        return all(block.gradient_checkpointing for block in self._blocks())

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        for block in self._blocks():
            block.gradient_checkpointing = value

    def _blocks(self) -> list[TransformerBlock]:
        return [layer for layer in self.layers if isinstance(layer, TransformerBlock)]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values, and the names of frozen layers."""
        activation = self.classifier_activation
        return {
            "config": self.config.to_dict(),
            "classifier_activation": keras.activations.serialize(activation) if callable(activation) else activation,
            "pool": self.pool,
            "class_names": None if self.class_names is None else list(self.class_names),
            "calibration": None if self.calibration is None else dataclasses.asdict(self.calibration),
            "gradient_checkpointing": self.gradient_checkpointing,
            "name": self.name,
            # The policy that the model was built with, and those of layers that were quantized since.
            "dtype": keras.dtype_policies.serialize(with_policies_of(self._graph_policy, quantized_layers(self))),
            "trainable": self.trainable,
            "frozen_layers": [layer.name for layer in self.layers if not layer.trainable] if self.trainable else [],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> CrossViT:
        """Builds the model that `get_config` describes."""
        arguments = dict(config)
        frozen_layers = arguments.pop("frozen_layers", [])
        model = cls(**arguments)
        for name in frozen_layers:
            model.get_layer(name).trainable = False
        return model

    def get_compile_config(self) -> dict[str, Any]:
        """Returns Keras' compile configuration, with the variables that the optimizer excludes from weight decay."""
        config = super().get_compile_config()
        if config.get("optimizer") and self.optimizer is not None:
            config["optimizer"] = serialized_with_exclusions(config["optimizer"], self.optimizer, self.variables)
        return config

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains the model, as `keras.Model.fit` does. A calibration does not fit the new weights and is removed."""
        self.calibration = None
        if self.compiled and keras.backend.backend() == "tensorflow":
            build_before_first_step(self)  # otherwise TensorFlow traces the first step twice
        return super().fit(*args, **kwargs)

    def export(self, filepath: Any, format: str = "tf_saved_model", *args: Any, **kwargs: Any) -> None:  # noqa: A002
        """Exports the model for inference, as `keras.Model.export` does; `keras_crossvit.export` writes ONNX.

        Raises:
            InvalidValueError: the format is "onnx" and the backend is not PyTorch.
        """
        if format == "onnx" and keras.backend.backend() != "torch":
            raise InvalidValueError(
                "format 'onnx' of Keras' export writes the operation Erfc, which ONNX Runtime does not have; use "
                f"keras_crossvit.export(model, '{filepath}')."
            )
        super().export(filepath, format, *args, **kwargs)

    def summary(
        self,
        line_length: int | None = None,
        positions: list[float] | None = None,
        *args: Any,
        show_trainable: bool = False,
        **kwargs: Any,
    ) -> None:
        """Prints the layers, as `keras.Model.summary` does, wider where the terminal has room."""
        wide = shutil.get_terminal_size().columns >= _SUMMARY_COLUMNS
        if wide and line_length is None and positions is None and not args and not show_trainable:
            positions = [0.32, 0.54, 0.67, 1.0]  # room for the names under "Connected to"
        super().summary(line_length, positions, *args, show_trainable=show_trainable, **kwargs)

    def __str__(self) -> str:
        return describe(self)


def _require_not_constant(activation: Any) -> None:
    """Raises ValueError for an activation that maps every single logit to the same value, as a softmax does."""
    logits = keras.ops.convert_to_tensor([[-1.0], [0.0], [1.0]])
    with warnings.catch_warnings(action="ignore"):  # Keras warns of this softmax, which is refused here
        outputs = keras.ops.convert_to_numpy(keras.activations.get(activation)(logits))
    if np.allclose(outputs, outputs[0]):
        raise one_class_error(str(activation_name(activation)))


def _checked_class_names(class_names: Any, num_classes: int) -> tuple[str, ...]:
    if isinstance(class_names, str) or not isinstance(class_names, Iterable):
        raise InvalidValueError(f"class_names {class_names!r} is not a list of names; give one name per class.")
    names = tuple(str(each) for each in class_names)
    if len(names) != num_classes:
        raise InvalidValueError(
            f"class_names has {len(names)} names for num_classes {num_classes}; give one name per class."
        )
    return names
