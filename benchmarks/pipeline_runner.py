"""This package's input pipeline, from JPEG files to augmented batches of both inputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.workload import Workload
from keras_crossvit.pipeline import Augmentation, open_dataset, training_batches


def prepare(task: dict[str, Any]) -> _Pipeline:
    """The contender for a task of the worker's."""
    return _Pipeline(Workload(**task["work"]), Path(task["folder"], "images"))


class _Pipeline:
    """An epoch of crop, flip, RandAugment, normalisation, erasing and the second input; mixing is left out."""

    def __init__(self, work: Workload, images: Path) -> None:
        source = open_dataset(str(images))
        config = dataclasses.replace(work.config, num_classes=len(source.class_names))
        augmentation = Augmentation(mixup=0.0, cutmix=0.0, repeats=1)
        self._batches = training_batches(
            source, config, augmentation, work.batch_size, seed=0, epoch=0, threads=work.threads
        )

    def step(self) -> None:
        for (small_patch_image, _), _ in self._batches:
            small_patch_image.numpy()
