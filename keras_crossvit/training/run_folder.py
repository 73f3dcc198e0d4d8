"""The folder of a run: where each file lies, whose it is, and that one process at a time writes to it."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_crossvit import __version__
from keras_crossvit._internal.errors import FileError, InvalidValueError, OperationError
from keras_crossvit._internal.files import NO_ROOM, remove_unfinished, require_no_links, write_text
from keras_crossvit._internal.model_paths import BEST_MODEL, RUN_SETTINGS, read_run_settings
from keras_crossvit.training.distributed import is_first_process, process_index, wait_for_all
from keras_crossvit.training.state import StateFolder

_SHOWN = 200  # letters of a value in a message
_HASH = "pictures.sha256"  # which tells nobody anything
_VERSIONS = "versions"  # what may differ between a run and its resumption


class RunFolder:
    """Files of a run. As a context it is claimed for this process, and for those that share the run.

    Args:
        path: The folder; it is made if need be.
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = Path(path)
        self.lock_file = self.path / ".lock"
        self.config_file = self.path / RUN_SETTINGS
        self.class_names = self.path / "classes.txt"
        self.metrics = self.path / "metrics.csv"
        self.log = self.path / "train.log"
        self.tensorboard = self.path / "tensorboard"
        self.states = self.path / "resume"
        self.contact_sheet = self.path / "contact_sheet.png"
        self.unreadable = self.path / "unreadable.csv"
        self.learning_curves = self.path / "learning_curves.png"
        self.evaluation = self.path / "evaluation"
        self.best = self.path / BEST_MODEL
        self.last = self.path / "last.keras"
        self.report = self.path / "report.html"
        self.settings_digest: str | None = None  # of the run that is claimed
        self._lock: Any = None

    def __enter__(self) -> RunFolder:
        if not is_first_process():
            return self
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            files = [path for path in vars(self).values() if isinstance(path, Path) and path != self.path]
            require_no_links(files)
            self._lock = _open_lock(self.lock_file)
        except OSError as error:
            reason = error.strerror or str(error)
            raise FileError(
                f"'{self.path}' cannot hold a run ({reason}); give another folder as output (--output)."
            ) from error
        try:
            _lock(self._lock)
        except BlockingIOError:
            self._lock.close()
            raise OperationError(
                f"another process trains in '{self.path}'; wait for it, or give another folder as output."
            ) from None
        remove_unfinished(self.path)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, *trace: object) -> None:
        if self._lock is not None:
            self._lock.close()
        if isinstance(error, OSError) and error.errno in NO_ROOM and str(self.states) not in str(error):
            raise FileError(
                error.errno,
                f"'{self.path}' has no room left ({os.strerror(error.errno)}); what was written before is intact. Make "
                "room, and run the same command to go on.",
            ) from error

    def claim(self, settings: Mapping[str, Any]) -> bool:
        """Notes what is run here, or makes sure that it is what has been run here before.

        A run of which there is neither a state nor a figure has not begun; another may take its place.

        Args:
            settings: All that decides the run's outcome, as JSON values.

        Returns:
            Whether there is a run to go on with.

        Raises:
            ValueError: the folder holds another run, and the message names what differs; or a run whose settings are
                missing or damaged, so that nobody can tell which it is.
        """
        settings = json.loads(json.dumps(settings))
        self.settings_digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        if not is_first_process():
            wait_for_all("the run folder is claimed")
            self._require_shared()
            self._require_same(settings)
            return self._has_begun()
        has_begun = self._has_begun()
        if has_begun:
            self._require_same(settings)
        else:
            self._note(settings)
        wait_for_all("the run folder is claimed")
        return has_begun

    def _has_begun(self) -> bool:
        return bool(StateFolder(self.states).files()) or self.metrics.exists()

    def _note(self, settings: dict[str, Any]) -> None:
        for each in (self.contact_sheet, self.unreadable):  # of other pictures, maybe
            each.unlink(missing_ok=True)
        versions = {"keras_crossvit": __version__, "keras": keras.__version__, "tensorflow": tf.__version__}
        write_text(self.config_file, json.dumps({**settings, _VERSIONS: versions}, indent=2) + "\n")
        write_text(self.class_names, "".join(f"{name}\n" for name in settings["class_names"]))

    def _require_same(self, settings: dict[str, Any]) -> None:
        try:
            stored = read_run_settings(self.path)
        except (FileNotFoundError, ValueError) as error:
            raise InvalidValueError(
                f"'{self.path}' holds the states or figures of a run whose settings cannot be read, so nothing tells "
                f"whether it is this one ({error}) Put its {RUN_SETTINGS} back, or give another folder as output."
            ) from error
        stored.pop(_VERSIONS, None)
        differing = _differences(stored, settings)
        if differing:
            raise InvalidValueError(
                f"'{self.path}' holds another run, which differs in {'; '.join(differing[:5])}. Give another folder as "
                "output, or the same settings to go on."
            )

    def _require_shared(self) -> None:
        if not self.config_file.exists():
            raise InvalidValueError(
                f"process 0 has claimed '{self.path}', where process {process_index()} does not find {RUN_SETTINGS}; give a "
                "folder as output that all processes see under the same path."
            )


def _open_lock(path: Path) -> Any:
    """Opens the lock, which may be there, without changing it or following a link in its place."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+")


def _lock(file: Any) -> None:
    """Locks a file for as long as it is open in this process, be it killed; on Windows nothing is locked."""
    try:
        fcntl = importlib.import_module("fcntl")
    except ModuleNotFoundError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _differences(stored: Any, wanted: Any, path: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(wanted, dict):
        found = []
        for key in sorted(stored.keys() | wanted.keys()):
            found += _differences(stored.get(key), wanted.get(key), f"{path}.{key}" if path else key)
        return found
    if stored == wanted:
        return []
    return [
        "names, labels or split of the pictures"
        if path == _HASH
        else f"{path[:_SHOWN]} (there {repr(stored)[:_SHOWN]}, here {repr(wanted)[:_SHOWN]})"
    ]
