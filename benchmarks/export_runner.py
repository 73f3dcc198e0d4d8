"""An export, its check in a fresh process included."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.workload import Workload
from keras_crossvit.exporting import export
from keras_crossvit.models.builders import create_model


def prepare(task: dict[str, Any]) -> _Export:
    """The contender for a task of the worker's."""
    work, folder = Workload(**task["work"]), Path(task["folder"])
    model = create_model(work.model, img_size=work.config.img_size, weights=str(folder / "weights.safetensors"))
    return _Export(model, folder / task["name"], task["options"])


class _Export:
    """Exports into a folder that is empty each time."""

    def __init__(self, model: Any, folder: Path, options: dict[str, str]) -> None:
        self._model, self._folder, self._options = model, folder, options

    def step(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        export(self._model, self._folder / f"model{self._options['suffix']}", format=self._options["format"])
