"""The description of the model that every exported file contains, the same in every format."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib import metadata
from os import PathLike
from typing import TYPE_CHECKING, Any

from keras_crossvit import __version__
from keras_crossvit._internal.checks import one_class_error
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.stored_json import OrNone, parse_json, require_form
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.summary import activation_name
from keras_crossvit.preprocessing.calibration import Calibration, calibration_of
from keras_crossvit.preprocessing.predictions import probability_function
from keras_crossvit.preprocessing.transforms import INPUT_KINDS, TENSORS, preprocessing_facts

if TYPE_CHECKING:
    from keras_crossvit.models.crossvit import CrossViT

METADATA_KEY = "keras_crossvit"  # of the JSON text in every format
_FORM = {
    "name": str,
    "config": {str: Any},
    "class_names": OrNone([str]),
    "classifier_activation": OrNone(str),
    "preprocessing": {str: Any},
    "versions": {str: str},
}
_LOGITS_ONLY = ("logits",)
_UNCALIBRATED = Calibration()
_CONSTANT_FOR_ONE_CLASS = ("softmax", "log_softmax", "sparsemax")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What is needed to preprocess images for a model and to interpret its logits.

    Args:
        name: The model's name.
        config: Its architecture.
        class_names: Names of its classes in the order of the logits, or None. For 1,000 classes None means ImageNet's.
        classifier_activation: Name of the activation that the model applies to its logits, or None.
        preprocessing: How images become the model's inputs.
        versions: Versions of the libraries that wrote the file.
        outputs: What the file computes: "logits", and "explanation" if it has that. Defaults to the logits only.
        inputs: What the file takes: "tensors" (both normalized inputs), "image" (uint8, which it preprocesses) or
            "normalized_image" (the first input, of which it makes the second). Defaults to "tensors".
        calibration: How to read the logits. Defaults to a temperature of 1 and no threshold.
    """

    name: str
    config: CrossViTConfig
    class_names: tuple[str, ...] | None
    classifier_activation: str | None
    preprocessing: Mapping[str, Any]
    versions: Mapping[str, str]
    outputs: tuple[str, ...] = _LOGITS_ONLY
    inputs: str = TENSORS
    calibration: Calibration = _UNCALIBRATED

    @property
    def probability_function(self) -> str:
        """The function from logits to probabilities, "softmax" or "sigmoid"; ValueError for another activation."""
        return probability_function(self.classifier_activation, self.config.num_classes)

    def to_json(self) -> str:
        """Returns the fields as JSON text."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        converted = {"config": self.config.to_dict(), "calibration": dataclasses.asdict(self.calibration)}
        return json.dumps({**fields, **converted}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes | None, path: str | PathLike[str]) -> Metadata:
        """Parses the text of `to_json`, or None if the file `path` has none.

        Raises:
            ValueError: the text is missing, does not describe a CrossViT, or has an activation that is constant for one
                class.
        """
        try:
            fields = parse_json(text or "", _FORM)
            outputs = fields.get("outputs", list(_LOGITS_ONLY))
            require_form(outputs, [str], "outputs")
            described = cls(
                name=fields["name"],
                config=CrossViTConfig(**fields["config"]),
                class_names=None if fields["class_names"] is None else tuple(fields["class_names"]),
                classifier_activation=fields["classifier_activation"],
                preprocessing=fields["preprocessing"],
                versions=fields["versions"],
                outputs=tuple(outputs),
                inputs=fields.get("inputs", TENSORS),
                calibration=calibration_of(fields.get("calibration", _UNCALIBRATED)),
            )
            if described.inputs not in INPUT_KINDS:
                raise ValueError(f"inputs {described.inputs!r}")
        except (ValueError, TypeError) as error:
            raise InvalidValueError(
                f"'{path}' does not describe a CrossViT; use a file written by kc.export or keras-crossvit export."
            ) from error
        if described.config.num_classes == 1 and described.classifier_activation in _CONSTANT_FOR_ONE_CLASS:
            raise InvalidValueError(f"'{path}': {one_class_error(described.classifier_activation)}")
        return described


def metadata_of(model: CrossViT, outputs: tuple[str, ...] = _LOGITS_ONLY, inputs: str = TENSORS) -> Metadata:
    """Describes a CrossViT, and what a file of it computes and takes."""
    import keras

    backend = keras.backend.backend()
    return Metadata(
        name=model.name,
        config=model.config,
        class_names=model.class_names,
        classifier_activation=activation_name(model.classifier_activation),
        preprocessing=preprocessing_facts(model.config),
        versions={"keras_crossvit": __version__, "keras": keras.__version__, backend: metadata.version(backend)},
        outputs=outputs,
        inputs=inputs,
        calibration=model.calibration or _UNCALIBRATED,
    )
