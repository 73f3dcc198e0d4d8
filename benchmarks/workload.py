"""What is measured: one piece of work, and the grid of pieces that a benchmark goes through."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from keras_crossvit._internal.checks import require_integer, require_known, resolve_threads
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.models.config import CrossViTConfig
from keras_crossvit.models.variants import get_variant, variant_config, variant_name

MODES = ("inference", "training", "pipeline", "load", "build", "import", "export")
PRECISIONS = ("float32", "bfloat16", "int8")
# timm makes the second image 224 / 240 as large as the first; both have to be whole patches of 12 and 16.
_SIDE_STEP = 120
EPOCH_IMAGES = 512  # a step of the input pipeline is an epoch through this many, which outweighs its start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One piece of work, the same for every contender.

    Args:
        mode: One of `MODES`: a batch of inference; a training step (forward, backward, AdamW); an epoch of the input
            pipeline over 512 photographs of 500 x 375 pixels; building with weights from a file, or without; an import;
            an export.
        model: Name of a published model.
        batch_size: Pictures B at once.
        precision: One of `PRECISIONS`; "int8" is of the weights.
        threads: Processors that the process may use.
        image_size: Side of the small-patch image in pixels, or None for the model's own.
    """

    mode: str = "inference"
    model: str = "crossvit_9_dagger"
    batch_size: int = 1
    precision: str = "float32"
    threads: int = 1
    image_size: int | None = None

    @property
    def config(self) -> CrossViTConfig:
        """Architecture of the model at the image size of the work."""
        if self.image_size is None:
            return variant_config(self.model)
        return variant_config(self.model, img_size=(self.image_size, self.image_size * 14 // 15))

    @property
    def timm_name(self) -> str:
        """Name of the same model in timm."""
        return get_variant(self.model).timm_name

    @property
    def images(self) -> int:
        """Pictures that one step goes through; 0 where the mode has none."""
        if self.mode == "pipeline":
            return EPOCH_IMAGES
        return self.batch_size if self.mode in ("inference", "training") else 0

    def describe(self) -> str:
        """The work in a few words."""
        size = f", {self.image_size} pixels" if self.image_size else ""
        batch = f", batch {self.batch_size}" if self.images else ""
        return f"{self.mode}, {self.model}{size}{batch}, {self.precision}, {self.describe_threads()}"

    def describe_threads(self) -> str:
        """The number of threads in words."""
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"


def plan(
    *,
    mode: str = "inference",
    models: Sequence[str] = ("crossvit_9_dagger",),
    batch_sizes: Sequence[int] = (1,),
    precisions: Sequence[str] = ("float32",),
    threads: Sequence[int] = (1,),
    image_sizes: Sequence[int | None] = (None,),
) -> list[Workload]:
    """Every combination of the values, checked before anything is measured.

    Args:
        mode: One of `MODES`.
        models: Names of published models.
        batch_sizes: Batch sizes.
        precisions: Some of `PRECISIONS`.
        threads: Numbers of processors.
        image_sizes: Sides of the small-patch image, multiples of 120; None for the model's own.

    Returns:
        The pieces of work in order.

    Raises:
        ValueError: a value is not one of those above.
    """
    models = [variant_name(model) for model in models]
    require_known("mode", mode, MODES)
    for precision in precisions:
        require_known("precision", precision, PRECISIONS)
    for size in image_sizes:
        _require_side(size, models)
    for each in batch_sizes:
        require_integer("batch size", each, minimum=1)
    for each in threads:
        _require_processors(each)
    if mode == "pipeline" and any(EPOCH_IMAGES % batch for batch in batch_sizes):
        raise InvalidValueError(
            f"A batch size of {list(batch_sizes)} does not divide {EPOCH_IMAGES} pictures; use 16 or 32."
        )
    return [
        Workload(mode=mode, model=model, batch_size=batch, precision=precision, threads=count, image_size=size)
        for model, size, count, precision, batch in itertools.product(
            models, image_sizes, threads, precisions, batch_sizes
        )
    ]


def _require_processors(threads: int) -> None:
    available = resolve_threads(None)
    if require_integer("threads", threads, minimum=1) > available:
        raise InvalidValueError(
            f"threads {threads} are more than the {available} processors that there are; use fewer."
        )


def _require_side(size: int | None, models: Sequence[str]) -> None:
    if size is None:
        return
    if size < _SIDE_STEP or size % _SIDE_STEP:
        raise InvalidValueError(f"image size {size} is not a multiple of {_SIDE_STEP}; use 120, 240, 360 or 480.")
    if any(variant_config(model).image_sizes[0] != (240, 240) for model in models):
        raise InvalidValueError(f"image size {size} is for the models of 240 pixels; leave it out for the others.")
