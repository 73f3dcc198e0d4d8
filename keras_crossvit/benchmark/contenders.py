"""Who takes part: each contender's runtime, the work that it can do, and what it needs."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence

from keras_crossvit.benchmark.work import Work
from keras_crossvit.checks import require_known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do the work, in a process of its own.

    Args:
        name: Its name on the command line and in tables.
        module: File beside this one that prepares it, without ".py".
        modes: Modes that it takes part in.
        precisions: Precisions that it takes part in.
        libraries: What has to be installed. Defaults to none.
        backend: Backend of Keras, or None where Keras is not used.
        options: What `module` is told of this contender. Defaults to nothing.
    """

    name: str
    module: str
    modes: tuple[str, ...]
    precisions: tuple[str, ...] = ("float32",)
    libraries: tuple[str, ...] = ()
    backend: str | None = None
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def takes_part(self, work: Work) -> bool:
        """Whether the contender can do this work."""
        return work.mode in self.modes and work.precision in self.precisions

    def missing_libraries(self) -> list[str]:
        """Names of libraries that are not installed."""
        return [library for library in self.libraries if importlib.util.find_spec(library) is None]


_HALVES = ("float32", "bfloat16")
_MODEL_MODES = ("inference", "training", "load", "build")


def _keras(name: str, backend: str, library: str, *modes: str, **options: str) -> Contender:
    return Contender(
        name=name,
        module="keras_contender",
        modes=modes or _MODEL_MODES,
        precisions=_HALVES,
        libraries=(library,),
        backend=backend,
        options=options,
    )


def _exported(name: str, library: str, *precisions: str) -> Contender:
    return Contender(
        name=name,
        module="exported_contender",
        modes=("inference",),
        precisions=("float32", *precisions),
        libraries=(library, "tensorflow"),
        backend="tensorflow",
    )


def _timm(name: str, *modes: str, precisions: tuple[str, ...] = _HALVES, runtime: str, library: str) -> Contender:
    return Contender(
        name=name,
        module="timm_contender",
        modes=modes,
        precisions=precisions,
        libraries=("timm", "torch", library),
        options={"runtime": runtime},
    )


_CONTENDERS = (
    _keras("keras-tensorflow", "tensorflow", "tensorflow", compiler="graph"),
    _keras("keras-tensorflow-xla", "tensorflow", "tensorflow", "inference", "training", compiler="xla"),
    _keras("keras-jax", "jax", "jax", compiler="xla"),
    _keras("keras-torch", "torch", "torch", "inference", "training", compiler="eager"),
    _exported("litert", "ai_edge_litert", "int8"),
    _exported("openvino", "openvino", "bfloat16", "int8"),
    _exported("onnxruntime", "onnxruntime"),
    _timm("timm-eager", *_MODEL_MODES, runtime="eager", library="torch"),
    _timm("timm-compiled", "inference", "training", runtime="compiled", library="torch"),
    _timm("timm-onnxruntime", "inference", precisions=("float32",), runtime="onnxruntime", library="onnxruntime"),
    _timm("timm-openvino", "inference", runtime="openvino", library="openvino"),
    Contender(name="keras-crossvit-pipeline", module="pipeline_contender", modes=("pipeline",), backend="tensorflow"),
    Contender(
        name="pillow-timm-loader",
        module="loader_contender",
        modes=("pipeline",),
        libraries=("timm", "torch"),
    ),
    Contender(name="import-keras", module="import_contender", modes=("import",), options={"imports": "keras"}),
    Contender(
        name="import-keras-crossvit",
        module="import_contender",
        modes=("import",),
        options={"imports": "keras, keras_crossvit"},
    ),
    *(
        Contender(
            name=f"export-{name}",
            module="export_contender",
            modes=("export",),
            backend="tensorflow",
            options={"format": name, "suffix": suffix},
        )
        for name, suffix in (("saved_model", ""), ("litert", ".tflite"), ("openvino", ".xml"), ("onnx", ".onnx"))
    ),
)
CONTENDERS = {each.name: each for each in _CONTENDERS}


def choose(names: Sequence[str] | None, work: Sequence[Work]) -> list[Contender]:
    """The contenders of these names, or by default all that can do some of the work and are installed.

    Raises:
        ValueError: a name is unknown, or none of them can do the work.
        ModuleNotFoundError: a contender that was named lacks a library.
    """
    if names is None:
        chosen = [each for each in _CONTENDERS if not each.missing_libraries()]
    else:
        chosen = [_find(name) for name in names]
        for each in chosen:
            if missing := each.missing_libraries():
                raise ModuleNotFoundError(
                    f"{each.name} needs {', '.join(missing)}, which is not installed; install it, or leave "
                    f"{each.name} out of --contenders.",
                    name=missing[0],
                )
    chosen = [each for each in chosen if any(each.takes_part(piece) for piece in work)]
    if not chosen:
        asked = f"{work[0].mode} in {', '.join(sorted({piece.precision for piece in work}))}"
        raise ValueError(f"No chosen contender does {asked}; see keras-crossvit benchmark --help.")
    return chosen


def _find(name: str) -> Contender:
    require_known("contender", name, CONTENDERS)
    return CONTENDERS[name]
