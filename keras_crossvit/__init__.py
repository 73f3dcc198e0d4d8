"""CrossViT (Chen et al., ICCV 2021) for Keras 3: every published variant, exact, trainable and ready for production."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_crossvit import layers as layers
    from keras_crossvit._internal.errors import CrossViTError as CrossViTError
    from keras_crossvit.checkpoints import load_checkpoint as load_checkpoint
    from keras_crossvit.checkpoints import save_checkpoint as save_checkpoint
    from keras_crossvit.checkpoints import state_dict as state_dict
    from keras_crossvit.comparing import compare as compare
    from keras_crossvit.evaluation.evaluator import evaluate as evaluate
    from keras_crossvit.explaining.explainer import explain as explain
    from keras_crossvit.exporting import export as export
    from keras_crossvit.models.builders import build_crossvit as build_crossvit
    from keras_crossvit.models.builders import create_model as create_model
    from keras_crossvit.models.builders import crossvit_9 as crossvit_9
    from keras_crossvit.models.builders import crossvit_9_dagger as crossvit_9_dagger
    from keras_crossvit.models.builders import crossvit_15 as crossvit_15
    from keras_crossvit.models.builders import crossvit_15_dagger as crossvit_15_dagger
    from keras_crossvit.models.builders import crossvit_15_dagger_408 as crossvit_15_dagger_408
    from keras_crossvit.models.builders import crossvit_18 as crossvit_18
    from keras_crossvit.models.builders import crossvit_18_dagger as crossvit_18_dagger
    from keras_crossvit.models.builders import crossvit_18_dagger_408 as crossvit_18_dagger_408
    from keras_crossvit.models.builders import crossvit_base as crossvit_base
    from keras_crossvit.models.builders import crossvit_small as crossvit_small
    from keras_crossvit.models.builders import crossvit_tiny as crossvit_tiny
    from keras_crossvit.models.config import CrossViTConfig as CrossViTConfig
    from keras_crossvit.models.crossvit import CrossViT as CrossViT
    from keras_crossvit.models.drawing import draw_architecture as draw_architecture
    from keras_crossvit.models.features import attention_maps as attention_maps
    from keras_crossvit.models.features import feature_extractor as feature_extractor
    from keras_crossvit.models.features import single_image as single_image
    from keras_crossvit.models.loading import load_model as load_model
    from keras_crossvit.models.variants import list_models as list_models
    from keras_crossvit.models.variants import variant_config as variant_config
    from keras_crossvit.preprocessing import decode_predictions as decode_predictions
    from keras_crossvit.preprocessing import preprocess as preprocess
    from keras_crossvit.publishing import publish as publish
    from keras_crossvit.runtimes import classify as classify
    from keras_crossvit.runtimes import load_runtime as load_runtime
    from keras_crossvit.training import train as train

__version__ = "0.1.0"

_VARIANTS = ["tiny", "small", "base", *(f"{n}{end}" for n in (9, 15, 18) for end in ("", "_dagger"))]
_VARIANTS += ["15_dagger_408", "18_dagger_408"]
# Where each public name is. It is imported on first use: an exported model runs without Keras and TensorFlow.
_MODULES = {
    "CrossViT": "models.crossvit",
    "CrossViTConfig": "models.config",
    "CrossViTError": "_internal.errors",
    "attention_maps": "models.features",
    "build_crossvit": "models.builders",
    "classify": "runtimes",
    "compare": "comparing",
    "create_model": "models.builders",
    "decode_predictions": "preprocessing",
    "draw_architecture": "models.drawing",
    "evaluate": "evaluation.evaluator",
    "explain": "explaining.explainer",
    "export": "exporting",
    "feature_extractor": "models.features",
    "list_models": "models.variants",
    "load_checkpoint": "checkpoints",
    "load_model": "models.loading",
    "load_runtime": "runtimes",
    "preprocess": "preprocessing",
    "publish": "publishing",
    "save_checkpoint": "checkpoints",
    "single_image": "models.features",
    "state_dict": "checkpoints",
    "train": "training",
    "variant_config": "models.variants",
    **{f"crossvit_{name}": "models.builders" for name in _VARIANTS},
}
_SUBPACKAGES = ["checkpoints", "comparing", "evaluation", "explaining", "exporting", "layers", "models", "pipeline"]
_SUBPACKAGES += ["preprocessing", "publishing", "runtimes", "serving", "training"]

__all__ = sorted([*_MODULES, "__version__", "layers"])


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})


if sys.modules.get("keras") or sys.modules.get("tensorflow"):
    # Keras finds registered classes only once their modules are imported. Where it is loaded already, this costs little
    # and `keras.saving.load_model` reads our files; elsewhere the first name that is used does it.
    importlib.import_module(f"{__name__}.models.crossvit")
