"""Defines what is measured: a workload, the grid of workloads of a benchmark, and a model's operations."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from keras_crossvit._internal.checks import require_integer, require_known, resolve_threads
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.variants import variant_config, variant_name

MODES = ("inference", "training", "pipeline", "files")
PRECISIONS = ("float32", "bfloat16", "int8")
# Images in a step of a mode that reads files: long enough to outweigh its start.
EPOCH_IMAGES = {"pipeline": 512, "files": 64}
# timm's second image is 224 / 240 of the first; both must be whole patches, of 12 and 16 pixels.
_IMAGE_SIZE_STEP = 120


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """The work of one step, the same for every runner.

    Args:
        mode: One of `MODES`. "inference": a forward pass, logits copied to the host. "training": forward, backward and
            an AdamW update. "pipeline": an epoch of the input pipeline over 512 JPEG files of 500x375 pixels. "files":
            64 such files to logits, read and preprocessed as for evaluation while the model computes.
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
        return EPOCH_IMAGES.get(self.mode, self.batch_size)

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates per step; a backward pass is twice a forward pass. None if the mode runs no model."""
        factor = {"inference": 1, "training": 3, "files": 1}.get(self.mode)
        return factor and factor * self.num_images * count_macs(self.config)

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
    if workload.mode in EPOCH_IMAGES and workload.num_images % workload.batch_size:
        raise InvalidValueError(
            f"batch_size {workload.batch_size} does not divide {workload.num_images} images; use 16 or 32."
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
    """Returns the multiply-accumulates of one image's forward pass, as `keras_crossvit.models.costs` counts them."""
    from keras_crossvit.models import costs  # imports Keras, which not every runner's process is to have

    return sum(costs.count_macs(config).values())
