"""What a checkpoint tells of the model that was saved in it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras_crossvit.checkpoints.checkpoint import Checkpoint
from keras_crossvit.checkpoints.names import head_names, position_embedding_names, stem_kernel_names
from keras_crossvit.config import BRANCHES, CrossViTConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFields:
    """The properties in which a checkpoint may differ from a model and still be made to fit.

    Args:
        num_classes: Classes of its heads; 0 if it has none.
        in_channels: Channels of its images.
        patch_grids: (rows, columns) of each branch's patches.
        classes: Names of its classes, or None if it does not say.
    """

    num_classes: int
    in_channels: int
    patch_grids: tuple[tuple[int, int], ...]
    classes: tuple[str, ...] | None

    def image_sizes(self, config: CrossViTConfig) -> tuple[tuple[int, int], ...]:
        """(height, width) of each branch's image under the patch sizes of `config`."""
        grids = zip(self.patch_grids, config.patch_size, strict=True)
        return tuple((rows * patch, columns * patch) for (rows, columns), patch in grids)


def source_fields(checkpoint: Checkpoint, config: CrossViTConfig, *, rather_square: bool) -> SourceFields:
    """Reads a checkpoint's fields from its own description, and from its shapes where it has none.

    Args:
        checkpoint: An open checkpoint.
        config: The architecture to fit; its values stand in where the checkpoint lacks the tensor that would tell.
        rather_square: Whether an undescribed number of patches is a square grid, where it can be, even if the grid of
            `config` has as many: the authors' and timm's are square.

    Returns:
        The fields.

    Raises:
        ValueError: the grid of patches is neither described nor square.
    """
    shapes, description = checkpoint.shapes, checkpoint.model_config or {}
    heads, stem_kernel = head_names(config), stem_kernel_names(config)[0]
    classes = description.get("classes")
    return SourceFields(
        num_classes=shapes[heads[0]][0] if heads[0] in shapes else 0,
        in_channels=shapes[stem_kernel][1] if stem_kernel in shapes else config.in_channels,
        patch_grids=_described_grids(description)
        or tuple(_grid(checkpoint, config, b, rather_square=rather_square) for b in range(len(BRANCHES))),
        classes=None if classes is None else tuple(classes),
    )


def _described_grids(description: Any) -> tuple[tuple[int, int], ...] | None:
    return CrossViTConfig(**description["config"]).patch_grids if "config" in description else None


def _grid(checkpoint: Checkpoint, config: CrossViTConfig, b: int, *, rather_square: bool) -> tuple[int, int]:
    """Grid of an undescribed position embedding."""
    name = position_embedding_names()[b]
    if name not in checkpoint.shapes:
        return config.patch_grids[b]
    patches = checkpoint.shapes[name][1] - 1
    side = math.isqrt(patches)
    rows, columns = config.patch_grids[b]
    candidates = [(rows, columns), (side, side)]
    for candidate in reversed(candidates) if rather_square else candidates:
        if math.prod(candidate) == patches:
            return candidate
    raise ValueError(
        f"{checkpoint.label} has position embeddings of {patches} patches, which are no square, and does not say their "
        "rows and columns; use a file of save_checkpoint(), which does."
    )
