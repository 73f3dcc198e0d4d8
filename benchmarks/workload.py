"""Defines what is measured: a workload, the grid of workloads of a benchmark, and a model's operations."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from keras_crossvit._internal.checks import require_integer, require_known, resolve_threads
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import STEM_KERNEL_SIZES, STEM_STRIDES, CrossViTConfig
from keras_crossvit.models.variants import variant_config, variant_name

MODES = ("inference", "training", "pipeline")
PRECISIONS = ("float32", "bfloat16", "int8")
EPOCH_IMAGES = 512  # images in a step of the pipeline mode: an epoch, long enough to outweigh its start
# timm's second image is 224 / 240 of the first; both must be whole patches, of 12 and 16 pixels.
_IMAGE_SIZE_STEP = 120


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """The work of one step, the same for every runner.

    Args:
        mode: One of `MODES`. "inference": a forward pass, logits copied to the host. "training": forward, backward and
            an AdamW update. "pipeline": an epoch of the input pipeline over 512 JPEG files of 500x375 pixels.
        model: Name of a published model.
        batch_size: Images per batch, B.
        precision: One of `PRECISIONS`; "int8" quantizes the weights.
        threads: Processors that the process may use.
        image_size: Height and width of the small-patch image in pixels. Defaults to None: the model's own size.
    """

    mode: str = "inference"
    model: str = "crossvit_9_dagger"
    batch_size: int = 1
    precision: str = "float32"
    threads: int = 1
    image_size: int | None = None

    @property
    def config(self) -> CrossViTConfig:
        """Architecture of the model at the workload's image size."""
        if self.image_size is None:
            return variant_config(self.model)
        return variant_config(self.model, img_size=(self.image_size, self.image_size * 14 // 15))

    @property
    def num_images(self) -> int:
        """Images per step."""
        return EPOCH_IMAGES if self.mode == "pipeline" else self.batch_size

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates per step; a backward pass is twice a forward pass. None if the mode runs no model."""
        factor = {"inference": 1, "training": 3}.get(self.mode)
        return factor and factor * self.batch_size * count_macs(self.config)

    def describe(self, *, without: str | None = None) -> str:
        """Describes the workload in a few words, except for the field `without`."""
        parts = {
            "mode": self.mode,
            "model": self.model,
            "image_size": f"{self.config.image_sizes[0][0]} pixels",
            "batch_size": f"batch {self.batch_size}",
            "precision": self.precision,
            "threads": f"{self.threads} thread{'s' if self.threads > 1 else ''}",
        }
        return ", ".join(text for field, text in parts.items() if field != without)


def plan(
    *,
    mode: str = "inference",
    models: Sequence[str] = ("crossvit_9_dagger",),
    batch_sizes: Sequence[int] = (1,),
    precisions: Sequence[str] = ("float32",),
    threads: Sequence[int] = (1,),
    image_sizes: Sequence[int | None] = (None,),
) -> list[Workload]:
    """Returns a workload for every combination of the values, all of them checked.

    The arguments are those of `Workload`, all but the mode in the plural.

    Raises:
        InvalidValueError: a value is unknown or out of range.
    """
    require_known("mode", mode, MODES)
    workloads = [
        Workload(mode=mode, model=model, batch_size=batch, precision=precision, threads=count, image_size=size)
        for model, size, count, precision, batch in itertools.product(
            map(variant_name, models), image_sizes, threads, precisions, batch_sizes
        )
    ]
    for workload in workloads:
        _check(workload)
    return workloads


def _check(workload: Workload) -> None:
    require_known("precision", workload.precision, PRECISIONS)
    require_integer("batch_size", workload.batch_size, minimum=1)
    if workload.mode == "pipeline" and EPOCH_IMAGES % workload.batch_size:
        raise InvalidValueError(
            f"batch_size {workload.batch_size} does not divide {EPOCH_IMAGES} images; use 16 or 32."
        )
    available = resolve_threads(None)
    if require_integer("threads", workload.threads, minimum=1) > available:
        raise InvalidValueError(f"threads {workload.threads} exceeds the {available} available processors; use fewer.")
    size = workload.image_size
    if size is not None:
        if size < _IMAGE_SIZE_STEP or size % _IMAGE_SIZE_STEP:
            raise InvalidValueError(f"image_size {size} is not a multiple of {_IMAGE_SIZE_STEP}; use 120, 240 or 360.")
        if variant_config(workload.model).image_sizes[0] != (240, 240):
            raise InvalidValueError(f"image_size {size} is not available for {workload.model}; leave it out.")


def count_macs(config: CrossViTConfig) -> int:
    """Returns the multiply-accumulates of one image's forward pass: convolutions, dense layers and attention.

    Normalization, activations, softmax and sums are left out, as in timm's tables. The count is below timm's because
    the class token is the only query of the fusion.
    """
    tokens = [1 + rows * columns for rows, columns in config.patch_grids]
    total = config.num_classes * sum(config.embed_dim) + sum(_embedding_macs(config, branch) for branch in (0, 1))
    for depth in config.depth:
        for branch in (0, 1):
            channels, partner = config.embed_dim[branch], config.embed_dim[1 - branch]
            total += depth[branch] * _block_macs(tokens[branch], channels, config.mlp_ratio[branch])
            total += 2 * channels * partner  # projects the class token to the partner's channels and back
            # The projections of one token, then scores and weighted sums of one query in every head.
            attention = 2 * tokens[1 - branch] * partner * config.num_heads[1 - branch]
            total += max(1, depth[2]) * (4 * partner**2 + attention)
    return total


def _embedding_macs(config: CrossViTConfig, branch: int) -> int:
    channels, patch = config.embed_dim[branch], config.patch_size[branch]
    rows, columns = config.patch_grids[branch]
    if not config.multi_conv:
        return rows * columns * patch**2 * config.in_channels * channels
    (height, width), total = config.image_sizes[branch], 0
    widths = (config.in_channels, channels // 4, channels // 2, channels)
    for i, (kernel, stride) in enumerate(zip(STEM_KERNEL_SIZES, STEM_STRIDES[patch], strict=True)):
        height, width = height // stride, width // stride
        total += height * width * kernel**2 * widths[i] * widths[i + 1]
    return total


def _block_macs(tokens: int, channels: int, mlp_ratio: float) -> int:
    dense = 4 * channels**2 + 2 * channels * int(channels * mlp_ratio)
    return tokens * dense + 2 * tokens**2 * channels
