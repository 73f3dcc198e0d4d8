"""Adapts a checkpoint to a model with other classes, image sizes or channels, if the caller asks for it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.checkpoints.names import head_names, position_embedding_names, stem_kernel_names
from keras_crossvit.checkpoints.tensors import Checkpoint, Tensor, variables_by_timm_name
from keras_crossvit.models.config import BRANCHES, CrossViTConfig
from keras_crossvit.preprocessing.bicubic import antialiased_bicubic_weights

ADAPTATIONS = ("head", "positions", "channels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What `load_checkpoint` did. Printed, it has a line for the tensors that were kept and one per change.

    Args:
        source: Name of the checkpoint in messages.
        kept: timm's names of the tensors that were loaded unchanged.
        adaptations: A line per adaptation.
        skipped: timm's names of the model's tensors that were not loaded.
        source_names: The loaded tensors' names in the checkpoint, by timm's names.
        prefix: Prefix of the names in the checkpoint that was removed, such as "model.", or "".
        conversions: A line per dtype of the checkpoint that differs from the model's.
    """

    source: str
    kept: tuple[str, ...]
    adaptations: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    source_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prefix: str = ""
    conversions: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{len(self.kept)} tensors of {one_line(self.source)} loaded unchanged."]
        if self.prefix:
            lines.append(f"Prefix '{one_line(self.prefix)}' of their names removed.")
        return "\n".join([*lines, *self.conversions, *self.adaptations])


@dataclasses.dataclass(frozen=True)
class _Adaptation:
    done: str  # for the result
    replaced: tuple[str, ...]  # tensors of the checkpoint that are not loaded unchanged
    tensors: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # what is loaded for them
    skipped: tuple[str, ...] = ()  # tensors of the model that are not loaded


def adapt_checkpoint(checkpoint: Checkpoint, model: Any, allowed: Collection[str]) -> tuple[Checkpoint, LoadResult]:
    """Returns a checkpoint with all adaptations that a model needs.

    Args:
        checkpoint: The checkpoint.
        model: The `CrossViT`.
        allowed: Those of `ADAPTATIONS` that the caller allows.

    Raises:
        ValueError: an adaptation is needed and not allowed; or the checkpoint is not of a CrossViT.
    """
    variables = variables_by_timm_name(model)
    if not checkpoint.tensors.keys() & variables.keys():
        first = next((f"its first one is {each.name}" for each in checkpoint.tensors.values()), "it is empty")
        raise InvalidValueError(
            f"{checkpoint.label} has no tensor that the model has ({first}); use a checkpoint of a CrossViT with "
            "timm's or the authors' names."
        )
    fields = source_fields(checkpoint, model.config, prefer_square="positions" in allowed)
    needed = mismatches(fields, model.config, model.class_names)
    require_allowed(checkpoint.label, needed, allowed)
    adaptations = [_ADAPT[kind](checkpoint, model, fields) for kind in needed]
    replaced = {name for adaptation in adaptations for name in adaptation.replaced}
    kept = tuple(name for name in checkpoint.tensors if name not in replaced)
    tensors = {name: checkpoint.tensors[name] for name in kept}
    for adaptation in adaptations:
        for name, array in adaptation.tensors.items():
            read = functools.partial(np.asarray, array)
            tensors[name] = dataclasses.replace(checkpoint.tensors[name], shape=array.shape, read=read)
    result = LoadResult(
        source=checkpoint.label,
        kept=kept,
        adaptations=tuple(adaptation.done for adaptation in adaptations),
        skipped=tuple(name for adaptation in adaptations for name in adaptation.skipped),
        source_names={name: tensor.name for name, tensor in tensors.items()},
        prefix=checkpoint.prefix,
        conversions=_conversions(tensors, variables),
    )
    return dataclasses.replace(checkpoint, tensors=tensors), result


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFields:
    """The properties of a checkpoint that may differ from a model's; without heads, num_classes is 0."""

    num_classes: int
    in_channels: int
    patch_grids: tuple[tuple[int, int], ...]  # (rows, columns) of each branch
    class_names: tuple[str, ...] | None

    def image_sizes(self, config: CrossViTConfig) -> tuple[tuple[int, int], ...]:
        """Returns (height, width) of each branch's image with the patch sizes of `config`."""
        grids = zip(self.patch_grids, config.patch_size, strict=True)
        return tuple((rows * patch, columns * patch) for (rows, columns), patch in grids)


def source_fields(checkpoint: Checkpoint, config: CrossViTConfig, *, prefer_square: bool) -> SourceFields:
    """Reads a checkpoint's fields from its model configuration, or else from its shapes.

    Args:
        checkpoint: The checkpoint.
        config: The architecture to fit; its values are used where the checkpoint lacks the tensor.
        prefer_square: Whether a number of patches that could be square is taken as square, even if the grid of `config`
            has as many. The reference's and timm's grids are square.

    Raises:
        ValueError: a grid of patches is neither described nor square.
    """
    _require_axes(checkpoint, config)
    shapes, described = checkpoint.shapes, checkpoint.model_config or {}
    head, stem_kernel = head_names(config)[0], stem_kernel_names(config)[0]
    if "config" in described:
        grids = CrossViTConfig(**described["config"]).patch_grids
    else:
        grids = tuple(_undescribed_grid(checkpoint, config, b, prefer_square) for b in range(len(BRANCHES)))
    class_names = described.get("class_names")
    return SourceFields(
        num_classes=shapes[head][0] if head in shapes else 0,
        in_channels=shapes[stem_kernel][1] if stem_kernel in shapes else config.in_channels,
        patch_grids=grids,
        class_names=None if class_names is None else tuple(class_names),
    )


def _require_axes(checkpoint: Checkpoint, config: CrossViTConfig) -> None:
    """Raises ValueError unless the tensors that tell the fields have as many axes as those of a CrossViT, not empty."""
    heads = [name for name in head_names(config) if name.endswith("weight")]
    axes = dict.fromkeys(heads, 2) | dict.fromkeys(position_embedding_names(), 3)
    for name, count in (axes | dict.fromkeys(stem_kernel_names(config), 4)).items():
        shape = checkpoint.shapes.get(name, (1, 2, 1, 1)[:count])
        if len(shape) != count or 0 in shape or (count == 3 and shape[1] < 2):
            raise InvalidValueError(
                f"{checkpoint.label} has {name} of shape {shape}, which is not that of a CrossViT; use a checkpoint of "
                "the same architecture. No weight was changed."
            )


def published_fields(config: CrossViTConfig) -> SourceFields:
    """Returns the fields of the official weights of a published configuration."""
    return SourceFields(
        num_classes=config.num_classes,
        in_channels=config.in_channels,
        patch_grids=config.patch_grids,
        class_names=None,
    )


def mismatches(theirs: SourceFields, ours: CrossViTConfig, class_names: Sequence[str] | None) -> dict[str, str]:
    """Returns in what a checkpoint differs from a model, by the one of `ADAPTATIONS` that it needs."""
    found = {}
    if theirs.num_classes != ours.num_classes:
        found["head"] = f"its head has {theirs.num_classes} classes, the model's {ours.num_classes}"
    elif theirs.class_names is not None and class_names is not None and theirs.class_names != tuple(class_names):
        found["head"] = f"its {ours.num_classes} classes have other names than the model's"
    if steps := _grid_steps(theirs, ours):
        found["positions"] = f"its position embeddings have other grids, {steps}"
    if theirs.in_channels != ours.in_channels:
        found["channels"] = f"its images have {theirs.in_channels} channels, the model's {ours.in_channels}"
    return found


def require_allowed(label: str, needed: Mapping[str, str], allowed: Collection[str]) -> None:
    """Raises ValueError with all mismatches that may not be adapted."""
    refused = [mismatch for kind, mismatch in needed.items() if kind not in allowed]
    if refused:
        raise InvalidValueError(
            f"{label} does not fit the model, and no weight was changed: {'; '.join(refused)}. Pass adapt=True to "
            "adapt the weights, or build the model as they need it."
        )


def _grid_steps(theirs: SourceFields, ours: CrossViTConfig) -> str:
    """Returns how the grids of patches change, or "" if they are equal."""
    pairs = zip(BRANCHES, theirs.patch_grids, ours.patch_grids, strict=True)
    return ", ".join(f"{branch} {a[0]}x{a[1]} to {b[0]}x{b[1]} patches" for branch, a, b in pairs if a != b)


def _undescribed_grid(checkpoint: Checkpoint, config: CrossViTConfig, b: int, prefer_square: bool) -> tuple[int, int]:
    name = position_embedding_names()[b]
    if name not in checkpoint.shapes:
        return config.patch_grids[b]
    patches = checkpoint.shapes[name][1] - 1
    square = (math.isqrt(patches),) * 2
    candidates = (square, config.patch_grids[b]) if prefer_square else (config.patch_grids[b], square)
    for candidate in candidates:
        if math.prod(candidate) == patches:
            return candidate
    raise InvalidValueError(
        f"{checkpoint.label} has position embeddings for {patches} patches, which are not a square grid, and does not "
        "have their rows and columns; use a .safetensors file of save_checkpoint(), which has them."
    )


def _head(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation:
    theirs, ours = fields.num_classes, model.config.num_classes
    names = head_names(model.config)
    names_differ = " of other names" if theirs == ours else ""
    done = f"Head with {theirs} classes{names_differ} not loaded" if theirs else "The checkpoint has no head"
    done += f"; the model keeps its own with {ours} classes." if ours else "."
    replaced = tuple(name for name in names if name in checkpoint.shapes)
    return _Adaptation(done, replaced, skipped=names if ours else ())


def _positions(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation:
    resized = {
        name: resize_position_embedding(checkpoint.read(name), theirs, ours)
        for name, theirs, ours in zip(
            position_embedding_names(), fields.patch_grids, model.config.patch_grids, strict=True
        )
        if theirs != ours and name in checkpoint.shapes
    }
    steps = _grid_steps(fields, model.config)
    return _Adaptation(f"Position embeddings resized: {steps}.", tuple(resized), resized)


def _channels(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation:
    theirs, ours = fields.in_channels, model.config.in_channels
    names = stem_kernel_names(model.config)
    adapted = {name: adapt_input_channels(checkpoint.read(name), ours) for name in names if name in checkpoint.shapes}
    return _Adaptation(f"First convolutions adapted from {theirs} to {ours} image channels.", tuple(adapted), adapted)


_ADAPT = dict(zip(ADAPTATIONS, (_head, _positions, _channels), strict=True))


def _conversions(tensors: Mapping[str, Tensor], variables: Mapping[str, Any]) -> tuple[str, ...]:
    dtypes = Counter(
        (tensor.dtype, variables[name].dtype)
        for name, tensor in tensors.items()
        if name in variables and tensor.dtype != variables[name].dtype
    )
    return tuple(f"{count} tensors converted from {theirs} to {ours}." for (theirs, ours), count in dtypes.items())


def resize_position_embedding(embedding: np.ndarray, grid: tuple[int, int], new_grid: tuple[int, int]) -> np.ndarray:
    """Returns a position embedding for another grid of patches, resized bicubically with antialiasing.

    Args:
        embedding: Array of shape (1, 1 + N, C), class token first; its row is kept.
        grid: (rows, columns) of the N patches.
        new_grid: (rows, columns) of the result.

    Returns:
        Array of shape (1, 1 + rows * columns, C) and the same dtype.

    Source: timm.layers.resample_abs_pos_embed.
    """
    if tuple(grid) == tuple(new_grid):
        return embedding
    channels = embedding.shape[-1]
    patches = embedding[0, 1:].astype("float64").reshape(*grid, channels)
    rows, columns = (antialiased_bicubic_weights(*sizes) for sizes in zip(grid, new_grid, strict=True))
    resized = np.einsum("ri,cj,ijd->rcd", rows, columns, patches, optimize=True).reshape(-1, channels)
    return np.concatenate([embedding[0, :1], resized.astype(embedding.dtype)])[None]


def adapt_input_channels(kernel: np.ndarray, in_channels: int) -> np.ndarray:
    """Returns the first convolution's kernel for another number of image channels.

    One channel gets the sum of all, so a gray image gives the same result as its three equal channels did. More
    channels get the kernel's in turn, scaled so that the sum of the response stays the same.

    Args:
        kernel: Array of shape (out, in, height, width).
        in_channels: Channels of the new images.

    Returns:
        Array of shape (out, `in_channels`, height, width) and the same dtype.

    Source: timm.models.adapt_input_conv.
    """
    channels = kernel.shape[1]
    if in_channels == channels:
        return kernel
    if in_channels == 1:
        return kernel.sum(axis=1, keepdims=True)
    repeated = np.take(kernel, np.arange(in_channels) % channels, axis=1)
    return (repeated * (channels / in_channels)).astype(kernel.dtype)
