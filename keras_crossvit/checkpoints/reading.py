"""Reads checkpoints of any format into models."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from keras_crossvit._internal.errors import InvalidTypeError, InvalidValueError, MissingFileError, listed
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.model_paths import MODEL_FILES, resolve_model_path, suffix_of
from keras_crossvit._internal.stored_json import OrNone, parse_json, require_form
from keras_crossvit.checkpoints.adaptation import ADAPTATIONS, LoadResult, adapt_checkpoint
from keras_crossvit.checkpoints.keras_files import read_keras_model, read_keras_weights
from keras_crossvit.checkpoints.names import head_names
from keras_crossvit.checkpoints.shapes import require_possible_depth
from keras_crossvit.checkpoints.tensors import Checkpoint, Tensor, assign, checkpoint_of, state_dict, tensors_in
from keras_crossvit.checkpoints.torch_files import is_torch_file, read_torch_file, require_stored, state_dict_in
from keras_crossvit.models.config import CrossViTConfig, config_of
from keras_crossvit.preprocessing.calibration import calibration_of

METADATA_KEY = "keras_crossvit"
_SAFETENSORS_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@known_keywords_only
def load_checkpoint(
    model: Any,
    source: str | PathLike | Mapping[str, Any],
    *,
    adapt: bool = False,
    allow_nonfinite: bool = False,
) -> LoadResult:
    """Sets all weights of a CrossViT from a checkpoint, or none if it does not fit.

    Nothing in a file is executed. A model without class names gets those of the head that it loads.

    Args:
        model: A `CrossViT`.
        source: A checkpoint with timm's or the authors' names: path of a safetensors or PyTorch file, which are
            recognized by their content (`.pth`, `.pt`, `.ckpt`, `.bin` and others); of a `.weights.h5` or `.keras`
            file; of a run folder, for its best model; or a mapping from names to arrays in timm's layout, of NumPy,
            PyTorch, TensorFlow, JAX or Keras. A prefix that a training framework added to all names is removed.
        adapt: Whether to adapt the weights to a model of other classes, image sizes or channels. The model keeps its
            own head if the checkpoint's has other classes; position embeddings are resized bicubically, as timm's
            `resample_abs_pos_embed` does; the first convolutions are adapted as timm's `adapt_input_conv` does. Only
            `.safetensors` files of `save_checkpoint` and `.keras` files have their grid of patches; other grids are
            taken as square. Defaults to False, which makes these differences errors.
        allow_nonfinite: Whether weights may be NaN or infinite, also after conversion to the model's dtype. Defaults to
            False.

    Returns:
        What was loaded unchanged, adapted and converted; print it for a summary.

    Raises:
        TypeError: the model is not a `CrossViT`.
        FileNotFoundError: there is no such file.
        ImportError: a PyTorch file needs PyTorch, which is not installed.
        ValueError: the file is broken, or does not fit. The message says whether `adapt=True` would make it fit, or
            lists the tensors that are missing, left over, duplicate, wrongly shaped, not floats or not finite.
    """
    return load_adapted(model, source, ADAPTATIONS if adapt else (), allow_nonfinite=allow_nonfinite)


def load_adapted(
    model: Any,
    source: str | PathLike | Mapping[str, Any],
    adaptations: Collection[str],
    *,
    allow_nonfinite: bool = False,
) -> LoadResult:
    """As `load_checkpoint`, with some of `ADAPTATIONS` allowed and the others errors."""
    config = config_of(model)
    with open_checkpoint(source, config, model) as checkpoint:
        adapted, result = adapt_checkpoint(checkpoint, model, adaptations)
        assign(model, adapted, skipped=result.skipped, allow_nonfinite=allow_nonfinite)
    described = checkpoint.model_config or {}
    model.calibration = None
    if set(head_names(config)) <= set(result.kept):
        if model.class_names is None and described.get("class_names") is not None:
            model.class_names = tuple(described["class_names"])
        if described.get("calibration") is not None and model.classifier_activation is None:
            model.calibration = calibration_of(described["calibration"])
    return result


@contextlib.contextmanager
def open_checkpoint(
    source: str | PathLike | Mapping[str, Any], config: CrossViTConfig, model: Any = None
) -> Iterator[Checkpoint]:
    """Opens a checkpoint as `load_checkpoint` takes it.

    Args:
        source: The checkpoint.
        config: Architecture of the CrossViT that the weights are for.
        model: The CrossViT itself; needed for a `.weights.h5` file.
    """
    if isinstance(source, Mapping):
        yield _from_mapping("The mapping", source, config)
        return
    path = require_file(source)
    match format_of(path):
        case ".safetensors":
            with _open_safetensors(path) as stored:
                tensors = [_safetensors_tensor(stored, name) for name in stored.keys()]  # noqa: SIM118
                yield checkpoint_of(f"'{path}'", tensors, config, _described_model(stored, path))
        case ".keras":
            saved = read_keras_model(path)
            yield _from_mapping(f"'{path}'", state_dict(saved), config, saved.get_config())
        case ".weights.h5":
            yield _from_mapping(f"'{path}'", state_dict(read_keras_weights(path, model)), config)
        case _:
            weights = state_dict_in(read_torch_file(path), f"'{path}'")
            require_stored(weights, f"'{path}'")
            yield _from_mapping(f"'{path}'", weights, config)


def require_file(path: str | PathLike) -> Path:
    """Returns the path of an existing model file, also for a run folder or a snapshot of the Hugging Face Hub.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such file, and its suffix is not one of a checkpoint.
    """
    path = resolve_model_path(path)
    if path.is_dir():
        raise MissingFileError(
            f"'{path}' is a folder without {listed(MODEL_FILES)}; pass the file of the weights, or a folder that "
            "has one of these."
        )
    if not path.is_file():
        suffix_of(path)
        raise MissingFileError(f"There is no checkpoint '{path}'.")
    return path


def format_of(path: Path) -> str:
    """Returns the suffix of a file's format, which Keras' files have in their names and others in their content.

    Raises:
        ValueError: the file has no known format.
    """
    if path.name.endswith((".keras", ".weights.h5")):
        return suffix_of(path)
    with path.open("rb") as file:
        if file.read(9)[8:] == b"{":  # after the 8 bytes of the header's length
            return ".safetensors"
    return ".pth" if is_torch_file(path) else suffix_of(path)


def read_model_config(path: Path) -> dict[str, Any] | None:
    """Returns the `CrossViT.get_config` in a safetensors file, or None if it has none."""
    with _open_safetensors(path) as stored:
        return _described_model(stored, path)


def _from_mapping(label: str, content: Any, config: CrossViTConfig, model_config: Any = None) -> Checkpoint:
    return checkpoint_of(label, tensors_in(label, state_dict_in(content, label)), config, model_config)


@contextlib.contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as stored:
            yield stored
    except SafetensorError as error:
        raise InvalidValueError(f"'{path}' is a broken safetensors file ({error}); get or write it again.") from error


def _safetensors_tensor(stored: Any, name: str) -> Tensor:
    header = stored.get_slice(name)
    dtype = header.get_dtype()
    return Tensor(
        name=name,
        shape=tuple(header.get_shape()),
        dtype=_SAFETENSORS_DTYPES.get(dtype, dtype),
        read=lambda: stored.get_tensor(name),
    )


def _described_model(stored: Any, path: Path) -> dict[str, Any] | None:
    text = (stored.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    try:
        described = parse_json(text, {"config": {str: Any}})
        require_possible_depth(described["config"].get("depth"), len(stored.keys()))
        num_classes = CrossViTConfig(**described["config"]).num_classes
        require_form(class_names := described.get("class_names"), OrNone([str]), "class_names")
        if class_names is not None and len(class_names) != num_classes:
            raise InvalidValueError(f"it has {len(class_names)} class_names for num_classes {num_classes}")
        if described.get("calibration") is not None:
            calibration_of(described["calibration"])
        return described
    except (InvalidValueError, InvalidTypeError) as error:
        raise InvalidValueError(
            f"'{path}' has damaged metadata ({METADATA_KEY}: {error}); write the file again with save_checkpoint()."
        ) from error
