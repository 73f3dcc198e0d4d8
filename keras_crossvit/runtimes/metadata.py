"""What an exported file says about its model, the same in every format."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

from keras_crossvit import __version__
from keras_crossvit._internal.checks import one_class_error
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.summary import activation_name
from keras_crossvit.preprocessing.predictions import probability_function
from keras_crossvit.preprocessing.transforms import preprocessing_facts

METADATA_KEY = "keras_crossvit"  # under which every format keeps the JSON text
_OVER_CLASSES = ("softmax", "log_softmax", "sparsemax")  # constant where there is one class


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What one has to know of a model to feed it and to read its answers.

    Args:
        name: The model's name.
        config: Its architecture.
        class_names: Names of its classes, in the order of the logits, or None: ImageNet's, or no one's.
        classifier_activation: What the model makes of its logits by name, or None.
        preprocessing: How pictures become its inputs.
        versions: Versions of the libraries by which the file was made.
    """

    name: str
    config: CrossViTConfig
    class_names: tuple[str, ...] | None
    classifier_activation: str | None
    preprocessing: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def probability_function(self) -> str:
        """Name of the function of the logits that gives probabilities, "softmax" or "sigmoid".

        Raises:
            ValueError: the model has another activation.
        """
        return probability_function(self.classifier_activation, self.config.num_classes)

    def to_json(self) -> str:
        """The fields as JSON text."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps({**fields, "config": self.config.to_dict()}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | None, path: str | PathLike) -> Metadata:
        """Reads what `to_json` wrote.

        Args:
            text: The JSON text, or None where the file has none.
            path: The file, for messages.

        Raises:
            ValueError: there is no text, or it does not describe a CrossViT, or one whose probabilities are constant.
        """
        try:
            fields = json.loads(text or "")
            metadata = cls(
                name=fields["name"],
                config=CrossViTConfig(**fields["config"]),
                class_names=None if fields["class_names"] is None else tuple(fields["class_names"]),
                classifier_activation=fields["classifier_activation"],
                preprocessing=fields["preprocessing"],
                versions=fields["versions"],
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidValueError(
                f"'{path}' does not say that it holds a CrossViT; use a file that keras-crossvit export has written."
            ) from error
        if metadata.config.num_classes == 1 and metadata.classifier_activation in _OVER_CLASSES:
            raise InvalidValueError(f"'{path}': {one_class_error(metadata.classifier_activation)}")
        return metadata


def metadata_of(model: Any) -> Metadata:
    """Describes a CrossViT."""
    import keras

    backend = keras.backend.backend()
    return Metadata(
        name=model.name,
        config=model.config,
        class_names=model.class_names,
        classifier_activation=activation_name(model.classifier_activation),
        preprocessing=preprocessing_facts(model.config),
        versions={"keras_crossvit": __version__, "keras": keras.__version__, backend: _version(backend)},
    )


def _version(library: str) -> str:
    from importlib import metadata

    return metadata.version(library)
