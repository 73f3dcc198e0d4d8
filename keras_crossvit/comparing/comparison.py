"""Exports a model to several formats and measures every file on the same images, each in a process of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from keras_crossvit import __version__
from keras_crossvit._internal.checks import require_known, require_number, resolve_threads
from keras_crossvit._internal.errors import (
    CrossViTError,
    ExistingFileError,
    FileError,
    InvalidValueError,
    MissingFileError,
    first_line,
)
from keras_crossvit._internal.files import remove_unfinished, write_text
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.locks import LOCK_FILE, FolderLock
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.model_paths import resolve_model_path
from keras_crossvit._internal.stored_json import OrNone, read_json
from keras_crossvit._internal.user_text import json_text
from keras_crossvit.checkpoints import save_checkpoint, state_dict
from keras_crossvit.comparing.measuring import measure
from keras_crossvit.comparing.results import KERAS, Comparison, Measurement
from keras_crossvit.evaluation.evaluator import class_columns, evaluate_logits
from keras_crossvit.evaluation.metrics import sklearn_metrics
from keras_crossvit.evaluation.results import Evaluation
from keras_crossvit.exporting import export
from keras_crossvit.exporting.exporter import require_tensorflow_backend
from keras_crossvit.models.config import config_of
from keras_crossvit.models.crossvit import CrossViT
from keras_crossvit.models.loading import load_model
from keras_crossvit.pipeline import ImageDataset, open_dataset
from keras_crossvit.pipeline.dataset import available_splits
from keras_crossvit.pipeline.splits import FileSplit
from keras_crossvit.preprocessing.transforms import resolve_crop_fraction
from keras_crossvit.runtimes.formats import FLOAT32, FORMATS, model_digest, model_files
from keras_crossvit.runtimes.loading import numbered_versions
from keras_crossvit.runtimes.metadata import Metadata, metadata_of

_RESULT = "comparison.json"
_MODEL, _LOGITS = "model.keras", "keras_logits.npy"  # of the model itself
_TEXT, _NUMBER, _COUNT = OrNone(str), OrNone(float), OrNone(int)
_FORMS = {"str": str, "str | None": _TEXT, "float | None": _NUMBER, "int | None": _COUNT}
_MEASUREMENT = {field.name: _FORMS[str(field.type)] for field in dataclasses.fields(Measurement)}
_FORM = {"settings": {str: Any}, "files": {str: str}, "measurements": [_MEASUREMENT]}


def _export_options() -> Iterator[tuple[str, dict[str, Any]]]:
    for each in FORMATS.values():
        for precision in each.precisions:
            name = each.name if precision == FLOAT32 else f"{each.name}-{precision}"
            yield name, {"format": each.name, "precision": precision}
        for quantize in each.quantizations:
            yield f"{each.name}-{quantize}", {"format": each.name, "quantize": quantize}


EXPORTS = dict(_export_options())  # arguments of `export` by name


@known_keywords_only
def compare(
    model: CrossViT | str | PathLike[str],
    data: str | PathLike[str],
    *,
    formats: Sequence[str | PathLike[str]] | None = None,
    output: str | PathLike[str] = "comparison",
    max_loss: float = 0.5,
    max_unreadable: int = 0,
    follow_links: bool = False,
    crop_fraction: float | None = None,
    validation_split: float | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Comparison:
    """Compares a model's exports on labelled images, and recommends the fastest and the smallest.

    The model is exported to each format with `export`, and every file is measured in a process of its own. A format
    whose library is missing, or that fails otherwise, is named with the reason, and the others continue. Writes the
    exported files to `<output>/files`, and `comparison.json`, `.md` and `.png`, a chart of accuracy over latency. After
    an interrupt the same call resumes: what is finished is not measured again.

    Args:
        model: A `CrossViT`, a model file such as `.keras`, or a run folder, for its best model.
        data: A folder of labelled images, as `open_dataset` takes it. If it has a validation split, only that is used.
        formats: Names of exports, such as "litert", "litert-dynamic-int8" or "openvino-float16", or paths of files that
            are already exported. Defaults to None: every format in every precision.
        output: Folder to write to: new, empty, or that of an earlier comparison of the same model and images. Defaults
            to "comparison".
        max_loss: How much top-1 accuracy a recommended file may lose, in percentage points. Defaults to 0.5.
        max_unreadable: How many unreadable images to tolerate; they are left out. Defaults to 0.
        follow_links: Whether to read images outside of the folder that symbolic links in it lead to. Defaults to False.
        crop_fraction: As in `preprocess`. Defaults to None: as the published models are evaluated.
        validation_split: The fraction that training used for validation with the same `seed`; only those images are
            used. Defaults to None.
        seed: Seed of that split. Defaults to 0.
        threads: Threads of every runtime, and images to read at once. Defaults to None: one per processor.

    Returns:
        The comparison; printed, it is a table with the recommendation.

    Raises:
        InvalidTypeError: the model is not a CrossViT.
        InvalidValueError: an argument is out of range, a format is unknown, images and model have no classes in common,
            images may be of several classes, or the folder holds a comparison of another model or of other images.
        MissingFileError: the model, a file or the folder of images does not exist.
        MissingLibraryError: scikit-learn is not installed.
        OperationError: Keras runs on another backend than TensorFlow, which exports need; the model itself cannot be
            run; or another process writes to the folder.
    """
    if require_number("max_loss", max_loss) < 0:
        raise InvalidValueError(f"max_loss {max_loss:g} is below 0; use a number of percentage points, such as 0.5.")
    threads = resolve_threads(threads)
    names = list(dict.fromkeys(str(each) for each in (EXPORTS if formats is None else formats)))
    for name in names:
        _require_export_or_file(name)
    sklearn_metrics()
    if any(name in EXPORTS for name in names):
        require_tensorflow_backend()
    model = model if isinstance(model, CrossViT) else load_model(resolve_model_path(model))
    crop_fraction = resolve_crop_fraction(crop_fraction, *config_of(model).image_sizes[0])
    available = available_splits(data, follow_links=follow_links)
    dataset = open_dataset(
        data,
        validation_split=validation_split or 0.0,
        seed=seed,
        max_unreadable=max_unreadable,
        follow_links=follow_links,
        split=None if validation_split else next((each for each in ("validation", "test") if each in available), None),
    )
    split = _single_label_files(dataset, data, model)
    class_columns(metadata_of(model), dataset)
    settings = {
        "model": model.name,
        "model sha256": _model_digest(model),
        "images sha256": dataset.fingerprint(),
        "crop_fraction": crop_fraction,
        "threads": threads,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "version": __version__,
    }
    with _Folder(Path(output), settings) as folder:
        run = _Run(model, dataset, split, folder, crop_fraction, threads)
        measurements = run.measure_all([KERAS, *names])
        comparison = Comparison(
            model=model.name,
            images=len(split),
            threads=threads,
            machine=settings["machine"],
            max_loss=float(max_loss),
            measurements=tuple(measurements),
        )
        folder.write(comparison)
        for name, reason in comparison.write(folder.path).items():
            logger.warning("'%s' could not be drawn (%s).", name, reason)
    return comparison


class _Folder:
    """The folder of a comparison and what it has measured. As a context, it is locked for this process."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.measured: dict[str, Measurement] = {}
        self.digests: dict[str, str] = {}  # of the files that were measured
        self._settings = settings

    def __enter__(self) -> _Folder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"'{self.path}' cannot be written ({error.strerror}); use another output.") from error
        self._lock = FolderLock(self.path)
        self._lock.__enter__()
        try:
            self._read()
        except BaseException:
            self._lock.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__()

    def _read(self) -> None:
        remove_unfinished(self.path)
        file = self.path / _RESULT
        if not file.is_file():
            if any(each.name != LOCK_FILE for each in self.path.iterdir()):
                raise ExistingFileError(f"'{self.path}' has other files; use a new or empty folder as output.")
            self.write()
            return
        found = read_json(file, _FORM, "use another output")
        for name, value in self._settings.items():
            if (other := found["settings"].get(name)) != value:
                raise InvalidValueError(
                    f"'{self.path}' has a comparison with another {name} ({str(other)[:80]}, now {str(value)[:80]}); "
                    "use another output."
                )
        self.digests = found["files"]
        rows = ({name: row[name] for name in _MEASUREMENT} for row in found["measurements"])
        self.measured = {row["name"]: Measurement(**row) for row in rows if row["problem"] is None}

    def keep(self, measurement: Measurement, digest: str) -> None:
        """Remembers what was measured of a file."""
        self.measured[measurement.name], self.digests[measurement.name] = measurement, digest
        self.write()

    def write(self, comparison: Comparison | None = None) -> None:
        """Writes `comparison.json`: everything that was measured in this folder, and the finished comparison."""
        contents = {} if comparison is None else comparison.to_dict()
        rows = [*self.measured.values(), *(comparison.problems if comparison else ())]
        contents |= {
            "settings": self._settings,
            "files": self.digests,
            "measurements": list(map(dataclasses.asdict, rows)),
        }
        write_text(self.path / _RESULT, json_text(contents, indent=2) + "\n")


class _Run:
    """Measures one file after the other, with a progress bar on a terminal."""

    def __init__(
        self,
        model: CrossViT,
        dataset: ImageDataset,
        split: FileSplit,
        folder: _Folder,
        crop_fraction: float,
        threads: int,
    ) -> None:
        self._model, self._dataset, self._split, self._folder = model, dataset, split, folder
        self._crop_fraction, self._threads = crop_fraction, threads

    def measure_all(self, names: Sequence[str]) -> list[Measurement]:
        """Returns what was measured now or earlier; without a result of the model itself, its error is raised."""
        measurements = []
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), transient=True, disable=not sys.stdout.isatty()) as bar:
            task = bar.add_task("", total=len(self._split))
            for number, name in enumerate(names, start=1):

                def show(doing: str, count: int = 0, title: str = f"{number}/{len(names)} {name}") -> None:
                    bar.update(task, description=f"{title}: {doing}", completed=count)

                try:
                    measurements.append(self._measure(name, show))
                except (CrossViTError, ModuleNotFoundError) as error:
                    if name == KERAS:
                        raise
                    logger.warning("%s: %s", name, error)
                    measurements.append(Measurement(name=name, problem=str(error)))
        return measurements

    def _measure(self, name: str, show: Any) -> Measurement:
        path = self._file(name, show)
        digest = model_digest(path)
        found = self._folder.measured.get(name)
        if found is not None and self._folder.digests.get(name) == digest:
            return found
        show("measuring")
        measured, logits = measure(
            path,
            self._split.files,
            crop_fraction=self._crop_fraction,
            threads=self._threads,
            on_progress=lambda count: show("measuring", count),
        )
        metadata = Metadata.from_json(measured["metadata"], path)
        class_columns(metadata, self._dataset)
        if name == KERAS:
            np.save(self._folder.path / _LOGITS, logits)
        elif logits.shape[1] != self._model.config.num_classes:
            raise InvalidValueError(
                f"'{path}' has {logits.shape[1]} classes, but '{self._model.name}' has "
                f"{self._model.config.num_classes}; pass an export of this model."
            )
        evaluation = evaluate_logits(
            metadata, self._dataset, self._split, logits, self._split.labels, measured["seconds"]
        )
        assert isinstance(evaluation, Evaluation)  # _single_label_files has seen to that
        same = logits.argmax(axis=1) == read_logits(self._folder.path / _LOGITS, logits.shape).argmax(axis=1)
        measurement = Measurement(
            name=name,
            path=str(path),
            top1=evaluation.top1,
            top5=evaluation.top5,
            agreement=float(np.mean(same)),
            calibration_error=evaluation.calibration_error,
            latency_ms=measured["latency_ms"]["1"],
            latency_of_8_ms=measured["latency_ms"]["8"],
            images_per_second=evaluation.images_per_second,
            num_bytes=sum(file.stat().st_size for file in model_files(path)),
            peak_bytes=measured["peak_bytes"],
        )
        self._folder.keep(measurement, digest)
        logger.info(
            "%s: top-1 %.2f%%, %.1f ms, %.1f images/s",
            name,
            100 * evaluation.top1,
            measurement.latency_ms,
            measurement.images_per_second,
        )
        return measurement

    def _file(self, name: str, show: Any) -> Path:
        """Returns the file of a name; it is exported if that has not been done yet."""
        if name == KERAS:
            path = self._folder.path / _MODEL
            if not path.exists():
                save_checkpoint(self._model, path)
            return path
        if name not in EXPORTS:
            return Path(name)
        options = EXPORTS[name]
        suffix = FORMATS[options["format"]].suffix
        path = self._folder.path / "files" / f"{name}{suffix}"
        done = path.exists() if suffix else numbered_versions(path)
        if not done:  # a file exists only if its outputs were compared with the model's
            show("exporting")
            export(self._model, path, threads=self._threads, **options)
        return path


def read_logits(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the model's logits that were stored in a folder, which may come from someone else."""
    try:
        logits = np.load(path, mmap_mode="r")  # the header may declare more than the file holds
        if logits.shape != shape or logits.dtype.kind != "f":
            raise InvalidValueError(f"it has shape {logits.shape} and type {logits.dtype}, not floats of {shape}")
    except Exception as error:  # NumPy may raise anything, depending on where the file is broken
        raise InvalidValueError(f"'{path}' is damaged ({first_line(error)}); use another output.") from error
    return logits


def _require_export_or_file(name: str) -> None:
    if name in EXPORTS or Path(name).exists():
        return
    if Path(name).suffix or os.sep in name:
        raise MissingFileError(f"There is no model '{name}'; check the path.")
    require_known("format", name, EXPORTS)


def _single_label_files(dataset: ImageDataset, data: str | PathLike[str], model: CrossViT) -> FileSplit:
    """Returns the images to compare on."""
    if dataset.is_multi_label or model.config.num_classes == 1:
        raise InvalidValueError(
            f"'{data}' or '{model.name}' is not of one class per image, which compare needs for top-1 accuracy; use "
            "evaluate on each exported file."
        )
    split = dataset.training if dataset.validation is None else dataset.validation
    if not isinstance(split, FileSplit):
        raise InvalidValueError(f"'{data}' is not a folder of image files, which compare reads; pass such a folder.")
    return split


def _model_digest(model: CrossViT) -> str:
    digest = hashlib.sha256(metadata_of(model).to_json().encode())
    for name, tensor in sorted(state_dict(model).items()):
        digest.update(name.encode() + np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()
