"""The formats: their suffixes, what one may ask of each, and how far its answers may be from the model's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.checks import require_integer, require_known
from keras_crossvit._internal.errors import ExistingFileError, InvalidValueError
from keras_crossvit._internal.optional import require_library

DYNAMIC = "dynamic"
FULL_INT8 = (
    "Full int8 is not offered: LayerNorm, softmax and the products of attention have to stay float, and what is left "
    "takes twice as long as float32, at a relative rms error of 0.09; use dynamic-int8, of the same size."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """A format of exported models.

    Args:
        name: Its name, which is that of the module that writes it.
        suffix: What its files end in; "" for a folder.
        tolerances: For each precision on offer (None is float32), the largest relative rms difference of the logits
            that a file may have from the Keras model.
        companions: What other files end in that lie beside one of this format, under its name. Defaults to none.
        default_batch_size: Pictures at once, or None for any number. Defaults to None.
        libraries: What writing and running it takes besides the package's own requirements. Defaults to none.
    """

    name: str
    suffix: str
    tolerances: Mapping[str | None, float]
    companions: tuple[str, ...] = ()
    default_batch_size: int | None = None
    libraries: tuple[str, ...] = ()

    def require_place(self, path: Path, *, overwrite: bool) -> None:
        """Raises FileExistsError where a file to write is a folder, or is there already and not to be replaced."""
        for each in (path, *(path.with_suffix(suffix) for suffix in self.companions)):
            if each.is_dir():
                raise ExistingFileError(f"'{each}' is a folder, where a file is to be written; choose another name.")
            if each.exists() and not overwrite:
                raise ExistingFileError(
                    f"'{each}' is there already; choose another name, or overwrite it (--overwrite)."
                )

    def require_libraries(self) -> None:
        """Raises ModuleNotFoundError for a library that is missing; its extra has the format's name."""
        for library in self.libraries:
            require_library(library, self.name)

    def require_precision(self, quantize: str | None) -> None:
        """Raises ValueError unless the format has this precision."""
        if quantize in self.tolerances:
            return
        if quantize in ("int8", "full-int8") and self.name == "litert":
            raise InvalidValueError(FULL_INT8)
        known = ", ".join(filter(None, self.tolerances))
        remedy = f"use one of {known}, or leave it out" if known else "leave it out: it writes float32 alone"
        raise InvalidValueError(f"quantize '{quantize}' is nothing for {self.name}; {remedy}.")

    def resolve_batch_size(self, batch_size: int | str | None) -> int | None:
        """The number of pictures at once, where None is any number.

        Raises:
            ValueError: it is neither "dynamic" nor a positive integer, or the format takes no fixed one.
        """
        if batch_size is None:
            return self.default_batch_size
        if batch_size == DYNAMIC:
            return None
        if not self.suffix:
            raise InvalidValueError(
                f"batch_size {batch_size} is nothing for {self.name}, which takes any number; leave it out."
            )
        return require_integer("batch_size", batch_size, minimum=1)


# Tolerances: float32 leaves the rounding of sums in another order, the halves that of every weight, and bfloat16 that
# of every activation too. Weights rounded to int8 are off by 0.7 % in every product; with weights that were drawn this
# grows to 3 % over the depth of crossvit_9_dagger, and with int4 to 24 %. Trained ones are off by 0.7 % and 3.4 %.
_FORMATS = (
    Format(name="saved_model", suffix="", tolerances={None: 1e-5}),
    Format(
        name="litert",
        suffix=".tflite",
        tolerances={None: 1e-5, "float16": 5e-3, "dynamic-int8": 0.05, "dynamic-int4": 0.4},
        default_batch_size=1,
        libraries=("ai_edge_litert",),
    ),
    Format(
        name="openvino",
        suffix=".xml",
        companions=(".bin",),
        tolerances={None: 1e-5, "float16": 5e-3, "bfloat16": 0.05, "int8-weights": 0.05},
        libraries=("openvino",),
    ),
    Format(name="onnx", suffix=".onnx", tolerances={None: 1e-5}, libraries=("onnx", "onnxruntime", "tf2onnx")),
)
FORMATS = {each.name: each for each in _FORMATS}


def find_format(name: str | None, path: str | PathLike) -> Format:
    """The format of this name, or without one, that which the suffix of the path tells.

    Raises:
        ValueError: there is no such format, the path has another suffix than it, or none that tells.
    """
    suffix = Path(path).suffix
    if name is None:
        for each in _FORMATS:
            if each.suffix and each.suffix == suffix:
                return each
        suffixes = ", ".join(each.suffix for each in _FORMATS if each.suffix)
        raise InvalidValueError(
            f"'{path}' does not tell its format; end it in {suffixes}, or name the format (--format): "
            f"{', '.join(FORMATS)}."
        )
    require_known("format", name, FORMATS)
    found = FORMATS[name]
    if found.suffix and suffix != found.suffix:
        raise InvalidValueError(f"'{path}' does not end in {found.suffix}, as files for {name} do; name it so.")
    return found
