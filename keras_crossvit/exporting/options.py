"""Checks what an export is asked for, before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_crossvit._internal.checks import require_integer, require_known
from keras_crossvit._internal.errors import ExistingFileError, InvalidValueError
from keras_crossvit.preprocessing.transforms import IMAGE, TENSORS
from keras_crossvit.runtimes.formats import FLOAT32, FORMAT_OF_SUFFIX, FORMATS, ModelFormat
from keras_crossvit.runtimes.runtime import EXPLANATION, OUTPUT_NAME, OUTPUTS

DYNAMIC = "dynamic"  # batch size
CHOSEN_INPUTS = (TENSORS, IMAGE)
# Largest relative rms error of the grids, which are small differences of logits.
EXPLAINED_PRECISIONS = {FLOAT32: 1e-3, "float16": 0.05}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Arguments of `export` with defaults filled in; `batch_size` None is any, `version` None is the next one."""

    format: ModelFormat
    precision: str
    quantize: str | None
    batch_size: int | None
    version: int | None
    outputs: tuple[str, ...]
    inputs: str

    @property
    def tolerance(self) -> float:
        """Largest relative rms error of the logits."""
        if self.quantize is not None:
            return self.format.quantizations[self.quantize]
        return self.format.precisions[self.precision]


def resolve_options(
    path: Path,
    *,
    format: str | None = None,  # noqa: A002
    precision: str = FLOAT32,
    quantize: str | None = None,
    batch_size: int | str | None = None,
    version: int | None = None,
    outputs: Sequence[str] = (OUTPUT_NAME,),
    inputs: str = TENSORS,
) -> ExportOptions:
    """Returns the options of an export with defaults filled in; see `export` for the arguments and errors."""
    found = _find_format(format, path)
    _require_supported(found, "precision", precision, found.precisions)
    if quantize is not None:
        _require_supported(found, "quantize", quantize, found.quantizations)
        if precision != FLOAT32:
            raise InvalidValueError(
                f"precision '{precision}' cannot be combined with quantize '{quantize}'; leave one of them out."
            )
    if found.suffix and version is not None:
        raise InvalidValueError(f"version {version} is only for a SavedModel; leave it out for {found.name}.")
    require_known("inputs", inputs, CHOSEN_INPUTS)
    if inputs == IMAGE and not found.suffix:
        raise InvalidValueError(
            f"{found.name} does not support inputs '{inputs}'; leave inputs out, since it always has a signature "
            "single_image."
        )
    return ExportOptions(
        format=found,
        precision=precision,
        quantize=quantize,
        batch_size=_resolve_batch_size(found, batch_size),
        version=None if version is None else require_integer("version", version, minimum=0),
        outputs=_resolve_outputs(outputs, precision, quantize),
        inputs=inputs,
    )


def require_place(path: Path, options: ExportOptions, *, overwrite: bool) -> None:
    """Raises FileExistsError if a file to write is a folder, or exists and is not to be replaced."""
    for each in (path, *(path.with_suffix(suffix) for suffix in options.format.companions)):
        if each.is_dir():
            raise ExistingFileError(f"'{each}' is a folder, but a file is to be written; choose another name.")
        if each.exists() and not overwrite:
            raise ExistingFileError(f"'{each}' already exists; choose another name, or pass overwrite (--overwrite).")


def _resolve_outputs(outputs: Sequence[str], precision: str, quantize: str | None) -> tuple[str, ...]:
    if sorted(outputs) not in ([OUTPUT_NAME], sorted(OUTPUTS)):
        raise InvalidValueError(f"outputs {outputs!r} is not supported; use ('{OUTPUT_NAME}',) or {OUTPUTS}.")
    if EXPLANATION in outputs and (quantize or precision not in EXPLAINED_PRECISIONS):
        raise InvalidValueError(
            f"outputs with '{EXPLANATION}' cannot be combined with '{quantize or precision}', whose rounding is larger "
            f"than what one patch contributes; use precision {' or '.join(EXPLAINED_PRECISIONS)}."
        )
    return tuple(name for name in OUTPUTS if name in outputs)


def _find_format(name: str | None, path: Path) -> ModelFormat:
    if name is None:
        if path.suffix in FORMAT_OF_SUFFIX:
            return FORMAT_OF_SUFFIX[path.suffix]
        raise InvalidValueError(
            f"The suffix of '{path}' names no format; use {', '.join(FORMAT_OF_SUFFIX)}, or pass format (--format): "
            f"{', '.join(FORMATS)}."
        )
    require_known("format", name, FORMATS)
    suffix = FORMATS[name].suffix
    if suffix and path.suffix != suffix:
        raise InvalidValueError(f"'{path}' does not end in {suffix}, as {name} files must; rename it.")
    return FORMATS[name]


def _require_supported(found: ModelFormat, label: str, value: str, supported: Mapping[str, float]) -> None:
    if value in supported:
        return
    if not supported:
        remedy = f"leave {label} out"
    elif len(supported) == 1 and label == "precision":
        remedy = f"it only writes {FLOAT32}"
    else:
        remedy = f"use {' or '.join(supported)}"
    raise InvalidValueError(f"{found.name} does not support {label} '{value}'; {remedy}.")


def _resolve_batch_size(found: ModelFormat, batch_size: int | str | None) -> int | None:
    if batch_size is None:
        return found.default_batch_size
    if batch_size == DYNAMIC:
        return None
    if not found.suffix:
        raise InvalidValueError(f"{found.name} does not support batch_size {batch_size}; it takes any batch size.")
    return require_integer("batch_size", batch_size, minimum=1)
