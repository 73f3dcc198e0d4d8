"""Making a checkpoint fit a model of other classes, image sizes or channels, where the caller asks for it."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.checkpoints.checkpoint import Checkpoint, Tensor
from keras_crossvit.checkpoints.names import head_names, position_embedding_names, stem_kernel_names
from keras_crossvit.checkpoints.tensors import variables_by_timm_name
from keras_crossvit.models.config import BRANCHES, CrossViTConfig
from keras_crossvit.preprocessing.bicubic import cubic_kernel


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFields:
    """The properties in which a checkpoint may differ from a model and still be made to fit.

    Args:
        num_classes: Classes of its heads; 0 if it has none.
        in_channels: Channels of its images.
        patch_grids: (rows, columns) of each branch's patches.
        class_names: Names of its classes, or None if it does not say.
    """

    num_classes: int
    in_channels: int
    patch_grids: tuple[tuple[int, int], ...]
    class_names: tuple[str, ...] | None

    def image_sizes(self, config: CrossViTConfig) -> tuple[tuple[int, int], ...]:
        """(height, width) of each branch's image under the patch sizes of `config`."""
        grids = zip(self.patch_grids, config.patch_size, strict=True)
        return tuple((rows * patch, columns * patch) for (rows, columns), patch in grids)


def source_fields(checkpoint: Checkpoint, config: CrossViTConfig, *, prefer_square: bool) -> SourceFields:
    """Reads a checkpoint's fields from its own description, and from its shapes where it has none.

    Args:
        checkpoint: An open checkpoint.
        config: The architecture to fit; its values stand in where the checkpoint lacks the tensor that would tell.
        prefer_square: Whether an undescribed number of patches is a square grid, where it can be, even if the grid of
            `config` has as many: the authors' and timm's are square.

    Returns:
        The fields.

    Raises:
        ValueError: the grid of patches is neither described nor square.
    """
    shapes, description = checkpoint.shapes, checkpoint.model_config or {}
    heads, stem_kernel = head_names(config), stem_kernel_names(config)[0]
    class_names = description.get("class_names")
    return SourceFields(
        num_classes=shapes[heads[0]][0] if heads[0] in shapes else 0,
        in_channels=shapes[stem_kernel][1] if stem_kernel in shapes else config.in_channels,
        patch_grids=_described_grids(description)
        or tuple(_source_grid(checkpoint, config, b, prefer_square=prefer_square) for b in range(len(BRANCHES))),
        class_names=None if class_names is None else tuple(class_names),
    )


def _described_grids(description: Any) -> tuple[tuple[int, int], ...] | None:
    return CrossViTConfig(**description["config"]).patch_grids if "config" in description else None


def _source_grid(checkpoint: Checkpoint, config: CrossViTConfig, b: int, *, prefer_square: bool) -> tuple[int, int]:
    """Grid of an undescribed position embedding."""
    name = position_embedding_names()[b]
    if name not in checkpoint.shapes:
        return config.patch_grids[b]
    patches = checkpoint.shapes[name][1] - 1
    side = math.isqrt(patches)
    rows, columns = config.patch_grids[b]
    candidates = [(rows, columns), (side, side)]
    for candidate in reversed(candidates) if prefer_square else candidates:
        if math.prod(candidate) == patches:
            return candidate
    raise InvalidValueError(
        f"{checkpoint.label} has position embeddings of {patches} patches, which are no square, and does not say their "
        "rows and columns; use a file of save_checkpoint(), which does."
    )


CUBIC_COEFFICIENT = -0.5  # PyTorch's where it antialiases; without antialiasing it uses -0.75


def resize_position_embedding(embedding: np.ndarray, grid: tuple[int, int], new_grid: tuple[int, int]) -> np.ndarray:
    """Position embedding for another grid of patches, resized bicubically with antialiasing.

    Args:
        embedding: Array of shape (1, 1 + N, C); the row of the class token comes first and is kept.
        grid: (rows, columns) of the N patches.
        new_grid: (rows, columns) of the result's patches.

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


def antialiased_bicubic_weights(source_size: int, target_size: int) -> np.ndarray:
    """Matrix of shape (`target_size`, `source_size`) that resizes one axis as PyTorch and Pillow do.

    Pixel centres lie at half steps. Where the axis shrinks the cubic is stretched by the same factor; beyond the
    border it is cut off and the rest scaled to a sum of 1.
    """
    step = source_size / target_size
    stretch = max(step, 1.0)
    centres = (np.arange(target_size)[:, None] + 0.5) * step
    weights = cubic_kernel(np.abs(np.arange(source_size) + 0.5 - centres) / stretch, CUBIC_COEFFICIENT)
    return weights / weights.sum(axis=1, keepdims=True)


def adapt_input_channels(kernel: np.ndarray, in_channels: int) -> np.ndarray:
    """First convolution's kernel for another number of image channels.

    One channel takes the sum of all, so that a gray image answers as its three equal channels did. More take the
    kernel's channels in turn, scaled so that the sum of the response stays what it was.

    Args:
        kernel: Array of shape (out, in, height, width).
        in_channels: Channels of the images to come.

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


ADAPTATIONS = ("adapt_head", "adapt_positions", "adapt_channels")
LOADING_KEYWORDS = (*ADAPTATIONS, "allow_nonfinite")  # of load_checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What `load_checkpoint` did; printed, it is a line for the tensors kept and one for each thing done to them.

    Args:
        source: What messages call the checkpoint.
        kept: timm's names of the tensors that were taken as they are.
        adaptations: A line for each adaptation.
        skipped: timm's names of the model's own tensors that stayed as they were.
        source_names: The names in the source of all tensors that were taken, by timm's.
        prefix: What was left out before the names in the source, such as "model.", or "".
        conversions: A line for each dtype of the source that is not the model's.
    """

    source: str
    kept: tuple[str, ...]
    adaptations: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    source_names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prefix: str = ""
    conversions: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{len(self.kept)} tensors of {self.source} kept as they are."]
        if self.prefix:
            lines.append(f"Prefix '{self.prefix}' of their names left out.")
        return "\n".join([*lines, *self.conversions, *self.adaptations])


@dataclasses.dataclass(frozen=True)
class _Adaptation:
    """A mismatch and its remedy.

    Args:
        keyword: Keyword of `load_checkpoint` that asks for the remedy.
        mismatch: The mismatch in words.
        line: What the report says of the remedy.
        replaced: Names of the checkpoint's tensors that are not taken as they are.
        tensors: Those that the model is to get in their place.
        skipped: Names of the model's tensors that stay as they are.
    """

    keyword: str
    mismatch: str
    line: str
    replaced: tuple[str, ...]
    tensors: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    skipped: tuple[str, ...] = ()


def adapt(checkpoint: Checkpoint, model: Any, **asked_for: bool) -> tuple[Checkpoint, LoadResult]:
    """The checkpoint with all adaptations that the model needs.

    Args:
        checkpoint: An open checkpoint.
        model: The `CrossViT` that it is for.
        **asked_for: Whether the caller allows `adapt_head`, `adapt_positions` and `adapt_channels`.

    Returns:
        The adapted checkpoint, and the report.

    Raises:
        ValueError: an adaptation is needed and not asked for; the message names the keyword. Or the checkpoint is of
            something else.
    """
    variables = variables_by_timm_name(model)
    if not checkpoint.tensors.keys() & variables.keys():
        first = next(iter(checkpoint.tensors.values()), None)
        first = "it is empty" if first is None else f"its first is {first.name}"
        raise InvalidValueError(
            f"{checkpoint.label} has no tensor by a name of the model's ({first}); give a checkpoint of a CrossViT, by "
            "timm's or the authors' names."
        )
    fields = source_fields(checkpoint, model.config, prefer_square=asked_for["adapt_positions"])
    found = (
        _head(checkpoint, model, fields),
        _positions(checkpoint, model, fields),
        _channels(checkpoint, model, fields),
    )
    needed = [adaptation for adaptation in found if adaptation is not None]
    if refused := [adaptation for adaptation in needed if not asked_for[adaptation.keyword]]:
        mismatches = "; ".join(f"{adaptation.mismatch} ({adaptation.keyword}=True)" for adaptation in refused)
        raise InvalidValueError(
            f"{checkpoint.label} does not fit the model, and no weight was changed: {mismatches}. "
            "Give the keyword in brackets to load_checkpoint() or to the model's function."
        )
    replaced = {name for adaptation in needed for name in adaptation.replaced}
    kept = tuple(name for name in checkpoint.tensors if name not in replaced)
    made = {
        name: dataclasses.replace(checkpoint.tensors[name], shape=array.shape, read=lambda array=array: array)
        for adaptation in needed
        for name, array in adaptation.tensors.items()
    }
    tensors = {**{name: checkpoint.tensors[name] for name in kept}, **made}
    report = LoadResult(
        source=checkpoint.label,
        kept=kept,
        adaptations=tuple(adaptation.line for adaptation in needed),
        skipped=tuple(name for adaptation in needed for name in adaptation.skipped),
        source_names={name: tensor.name for name, tensor in tensors.items()},
        prefix=checkpoint.prefix,
        conversions=_conversions(tensors, variables),
    )
    return dataclasses.replace(checkpoint, tensors=tensors), report


def take_class_names(model: Any, checkpoint: Checkpoint, report: LoadResult) -> None:
    """Gives a model that has no class names those of the head that it has just taken from a checkpoint."""
    class_names = (checkpoint.model_config or {}).get("class_names")
    took_head = set(head_names(model.config)) <= set(report.kept)
    if took_head and class_names is not None and model.class_names is None:
        model.class_names = tuple(class_names)


def _head(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation | None:
    theirs, ours = fields.num_classes, model.config.num_classes
    other_names = None not in (fields.class_names, model.class_names) and fields.class_names != tuple(model.class_names)
    if theirs == ours and not other_names:
        return None
    names = head_names(model.config)
    mismatch = f"its head has {theirs} classes, the model's {ours}"
    if theirs == ours:
        mismatch = f"its {ours} classes have other names than the model's"
    left_out = f"the checkpoint's {theirs} classes left out" if theirs else "the checkpoint has none"
    line = f"Head renewed: {left_out}, the model's own of {ours} classes kept." if ours else f"Head: {left_out}."
    replaced = tuple(name for name in names if name in checkpoint.shapes)
    return _Adaptation("adapt_head", mismatch, line, replaced, skipped=names if ours else ())


def _positions(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation | None:
    theirs, ours = fields.patch_grids, model.config.patch_grids
    changed = [b for b in range(len(BRANCHES)) if theirs[b] != ours[b]]
    if not changed:
        return None
    names = position_embedding_names()
    steps = ", ".join(f"{BRANCHES[b]} {_grid(theirs[b])} to {_grid(ours[b])}" for b in changed)
    resized = {
        names[b]: resize_position_embedding(checkpoint.read(names[b]), theirs[b], ours[b])
        for b in changed
        if names[b] in checkpoint.shapes
    }
    mismatch = f"its position embeddings are for other grids of patches, {steps}"
    return _Adaptation("adapt_positions", mismatch, f"Position embeddings resized: {steps}.", tuple(resized), resized)


def _channels(checkpoint: Checkpoint, model: Any, fields: SourceFields) -> _Adaptation | None:
    theirs, ours = fields.in_channels, model.config.in_channels
    if theirs == ours:
        return None
    names = stem_kernel_names(model.config)
    adapted = {name: adapt_input_channels(checkpoint.read(name), ours) for name in names if name in checkpoint.shapes}
    mismatch = f"its images have {theirs} channels, the model's {ours}"
    line = f"First convolutions adapted from {theirs} image channels to {ours}."
    return _Adaptation("adapt_channels", mismatch, line, tuple(adapted), adapted)


def _grid(grid: tuple[int, int]) -> str:
    return "x".join(map(str, grid))


def _conversions(tensors: Mapping[str, Tensor], variables: Mapping[str, Any]) -> tuple[str, ...]:
    dtypes = Counter(
        (tensor.dtype, variables[name].dtype)
        for name, tensor in tensors.items()
        if name in variables and tensor.dtype != variables[name].dtype
    )
    return tuple(f"{count} tensors converted from {theirs} to {ours}." for (theirs, ours), count in dtypes.items())
