"""The folder of a training run: its files, its lock, and the settings that a resumed run must share."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_crossvit import __version__
from keras_crossvit._internal.errors import FileError, InvalidValueError
from keras_crossvit._internal.files import NO_ROOM, remove_unfinished, require_no_links, write_text
from keras_crossvit._internal.locks import LOCK_FILE, FolderLock
from keras_crossvit._internal.model_paths import BEST_MODEL, RUN_SETTINGS, read_run_settings
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.training.distributed import is_first_process, process_index, wait_for_all
from keras_crossvit.training.state import StateFolder

_MAX_SHOWN = 200  # characters of a value in a message
_IMAGES_DIGEST = "images.sha256"
_VERSIONS, _READING = "versions", "reading"  # may differ when a run is resumed


class RunFolder:
    """Files of a run. As a context, it locks the folder for this process and those that share the run.

    Args:
        path: The folder. It is created if necessary.
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = Path(path)
        self.lock_file = self.path / LOCK_FILE
        self.config_file = self.path / RUN_SETTINGS
        self.class_names = self.path / "class_names.txt"
        self.metrics = self.path / "metrics.csv"
        self.log = self.path / "train.log"
        self.tensorboard = self.path / "tensorboard"
        self.states = self.path / "resume"
        self.features = self.path / "features"  # of a linear probe
        self.contact_sheet = self.path / "contact_sheet.png"
        self.unreadable = self.path / "unreadable.csv"
        self.learning_curves = self.path / "learning_curves.png"
        self.evaluation = self.path / "evaluation"
        self.duplicates = self.path / "duplicates.png"  # with a table, duplicates.csv
        self.best = self.path / BEST_MODEL
        self.last = self.path / "last.keras"
        self.report = self.path / "report.html"
        self.model_card = self.path / "model_card.md"
        self.settings_sha256: str | None = None  # set by `claim`
        self.lock = FolderLock(self.path)

    def __enter__(self) -> RunFolder:
        if not is_first_process():
            return self
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            require_no_links([path for path in vars(self).values() if isinstance(path, Path) and path != self.path])
        except OSError as error:
            reason = error.strerror or str(error)
            raise FileError(f"'{self.path}' cannot hold a run ({reason}); choose another output folder.") from error
        self.lock.__enter__()
        remove_unfinished(self.path)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, *trace: object) -> None:
        self.lock.__exit__()
        if isinstance(error, OSError) and error.errno in NO_ROOM and str(self.states) not in str(error):
            raise FileError(
                error.errno,
                f"The disk of '{self.path}' is full ({os.strerror(error.errno)}); everything written before is intact. "
                "Free some space, and run the same command to resume.",
            ) from error

    def claim(self, settings: Mapping[str, Any], reading: Mapping[str, Any] | None = None) -> bool:
        """Stores the settings of a new run, or makes sure that a run in the folder has the same ones.

        A run without a saved state or finished epoch has not started; another run may replace it.

        Args:
            settings: Everything that determines the result of the run, as JSON values.
            reading: How to read the images again, which is stored too and may differ when a run is resumed. Defaults to
                None: nothing to know.

        Returns:
            Whether there is a run to resume.

        Raises:
            InvalidValueError: the folder holds a run with other settings, or its settings are missing or damaged.
        """
        settings = json.loads(json.dumps(settings))
        self.settings_sha256 = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        if not is_first_process():
            wait_for_all("the run folder is claimed")
            if not self.config_file.exists():
                raise InvalidValueError(
                    f"Process {process_index()} does not see the files of process 0 in '{self.path}'; choose an output "
                    "folder that all processes share under the same path."
                )
            self._require_same(settings)
            return self._has_started()
        has_started = self._has_started()
        if has_started:
            self._require_same(settings)
        else:
            for path in (self.contact_sheet, self.unreadable):  # from other images, maybe
                path.unlink(missing_ok=True)
            versions = {"keras_crossvit": __version__, "keras": keras.__version__, "tensorflow": tf.__version__}
            stored = {**settings, _READING: dict(reading or {}), _VERSIONS: versions}
            write_text(self.config_file, json.dumps(stored, indent=2) + "\n")
            write_text(self.class_names, "".join(f"{one_line(name)}\n" for name in settings["class_names"]))
        wait_for_all("the run folder is claimed")
        return has_started

    def _has_started(self) -> bool:
        return bool(StateFolder(self.states).files()) or self.metrics.exists()

    def _require_same(self, settings: Mapping[str, Any]) -> None:
        try:
            stored = read_run_settings(self.path)
        except (FileNotFoundError, ValueError) as error:
            raise InvalidValueError(
                f"The settings of the run in '{self.path}' cannot be read ({error}), so it cannot be resumed. Restore "
                f"its {RUN_SETTINGS}, or choose another output folder."
            ) from error
        for name in (_VERSIONS, _READING):
            stored.pop(name, None)
        if differing := _differences(stored, settings):
            raise InvalidValueError(
                f"'{self.path}' holds another run, which differs in {'; '.join(differing[:5])}. Choose another output "
                "folder, or the same settings to resume."
            )


def _differences(stored: Any, given: Any, path: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(given, dict):
        keys = sorted(stored.keys() | given.keys())
        nested = (_differences(stored.get(key), given.get(key), f"{path}.{key}" if path else key) for key in keys)
        return [difference for differences in nested for difference in differences]
    if stored == given:
        return []
    if path == _IMAGES_DIGEST:
        return ["names, labels or split of the images"]
    return [f"{path[:_MAX_SHOWN]} (stored {repr(stored)[:_MAX_SHOWN]}, given {repr(given)[:_MAX_SHOWN]})"]
