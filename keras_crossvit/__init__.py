"""CrossViT (Chen et al., ICCV 2021) for Keras 3: every official variant, exact, trainable and ready for production."""

from typing import TYPE_CHECKING, Any

from keras_crossvit._internal.optional import installation_of
from keras_crossvit.cli.environment import command_start
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.variants import list_models, variant_config
from keras_crossvit.preprocessing import decode_predictions, preprocess
from keras_crossvit.runtimes import load_runtime
from keras_crossvit.version import __version__

try:
    with command_start():
        import keras  # noqa: F401
except ModuleNotFoundError as _error:
    # An exported model runs where neither Keras nor its backend is installed; what needs them says so when asked for.
    _MISSING = _error.name
else:
    from keras_crossvit import layers
    from keras_crossvit.checkpoints import load_checkpoint, save_checkpoint, state_dict
    from keras_crossvit.exporting import export
    from keras_crossvit.models.builders import (
        build_crossvit,
        create_model,
        crossvit_9,
        crossvit_9_dagger,
        crossvit_15,
        crossvit_15_dagger,
        crossvit_15_dagger_408,
        crossvit_18,
        crossvit_18_dagger,
        crossvit_18_dagger_408,
        crossvit_base,
        crossvit_small,
        crossvit_tiny,
    )
    from keras_crossvit.models.crossvit import CrossViT
    from keras_crossvit.models.features import feature_extractor, single_image
    from keras_crossvit.models.loading import load_model

    _MISSING = None

if TYPE_CHECKING:
    from keras_crossvit.evaluation.evaluator import evaluate
    from keras_crossvit.training import train
else:

    def __getattr__(name: str) -> Any:
        """What needs TensorFlow, on every backend, is imported when it is asked for; and so is told what is missing."""
        if name not in __all__:
            raise AttributeError(f"module 'keras_crossvit' has no attribute '{name}'")
        if _MISSING is not None:
            raise ModuleNotFoundError(
                f"keras_crossvit.{name} needs {_MISSING}, which is not installed; run: {installation_of(_MISSING)}",
                name=_MISSING,
            )
        from keras_crossvit.evaluation.evaluator import evaluate
        from keras_crossvit.training import train

        return {"evaluate": evaluate, "train": train}[name]


__all__ = [
    "CrossViT",
    "CrossViTConfig",
    "__version__",
    "build_crossvit",
    "create_model",
    "crossvit_9",
    "crossvit_9_dagger",
    "crossvit_15",
    "crossvit_15_dagger",
    "crossvit_15_dagger_408",
    "crossvit_18",
    "crossvit_18_dagger",
    "crossvit_18_dagger_408",
    "crossvit_base",
    "crossvit_small",
    "crossvit_tiny",
    "decode_predictions",
    "evaluate",
    "export",
    "feature_extractor",
    "layers",
    "list_models",
    "load_checkpoint",
    "load_model",
    "load_runtime",
    "preprocess",
    "save_checkpoint",
    "single_image",
    "state_dict",
    "train",
    "variant_config",
]
