"""Who takes part: each contender's runtime, the work that it can do, and what it needs."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence

from benchmarks.workload import Workload
from keras_crossvit._internal.checks import require_known
from keras_crossvit._internal.errors import InvalidValueError, MissingLibraryError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runner:
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

    def supports(self, work: Workload) -> bool:
        """Whether the contender can do this work; what is not computed with has no other precision than float32."""
        precisions = self.precisions if work.mode in ("inference", "training") else ("float32",)
        return work.mode in self.modes and work.precision in precisions

    def missing_libraries(self) -> list[str]:
        """Names of libraries that are not installed."""
        return [library for library in self.libraries if importlib.util.find_spec(library) is None]


# Suffix of each format that is exported to, and what writing and running it takes. The room of exports has both, and
# takes Keras to be looked at, which the command's help does without.
EXPORTED = {
    "saved_model": ("", ()),
    "litert": (".tflite", ("ai_edge_litert", "ai_edge_quantizer")),
    "openvino": (".xml", ("openvino", "nncf")),
    "onnx": (".onnx", ("onnx", "onnxruntime", "tf2onnx")),
}
_HALVES = ("float32", "bfloat16")
_MODEL_MODES = ("inference", "training", "load", "build")


def _keras(name: str, backend: str, library: str, *modes: str, **options: str) -> Runner:
    return Runner(
        name=name,
        module="keras_contender",
        modes=modes or _MODEL_MODES,
        precisions=_HALVES,
        libraries=(library,),
        backend=backend,
        options=options,
    )


def _exported(name: str, format: str, *precisions: str) -> Runner:  # noqa: A002
    suffix, libraries = EXPORTED[format]
    return Runner(
        name=name,
        module="exported_contender",
        modes=("inference",),
        precisions=("float32", *precisions),
        libraries=(*libraries, "tensorflow"),
        backend="tensorflow",
        options={"format": format, "suffix": suffix},
    )


def _timm(
    name: str,
    *modes: str,
    precisions: tuple[str, ...] = _HALVES,
    module: str = "timm_contender",
    runtime: str,
    libraries: tuple[str, ...] = (),
) -> Runner:
    return Runner(
        name=name,
        module=module,
        modes=modes,
        precisions=precisions,
        libraries=("timm", "torch", *libraries),
        options={"runtime": runtime},
    )


_RUNNERS = (
    _keras("keras-tensorflow", "tensorflow", "tensorflow", compiler="graph"),
    _keras("keras-tensorflow-xla", "tensorflow", "tensorflow", "inference", "training", compiler="xla"),
    _keras("keras-jax", "jax", "jax", compiler="xla"),
    _keras("keras-torch", "torch", "torch", "inference", "training", compiler="eager"),
    _exported("litert", "litert", "int8"),
    _exported("openvino", "openvino", "bfloat16", "int8"),
    _exported("onnxruntime", "onnx"),
    _timm("timm-eager", *_MODEL_MODES, runtime="eager"),
    _timm("timm-compiled", "inference", "training", runtime="compiled"),
    _timm(
        "timm-onnxruntime",
        "inference",
        precisions=("float32",),
        module="timm_exported_contender",
        runtime="onnxruntime",
        libraries=("onnx", "onnxruntime"),
    ),
    _timm(
        "timm-openvino",
        "inference",
        module="timm_exported_contender",
        runtime="openvino",
        libraries=("openvino",),
    ),
    Runner(
        name="keras-crossvit-pipeline",
        module="pipeline_contender",
        modes=("pipeline",),
        libraries=("tensorflow",),
        backend="tensorflow",
    ),
    Runner(
        name="pillow-timm-loader",
        module="loader_contender",
        modes=("pipeline",),
        libraries=("timm", "torch"),
    ),
    Runner(name="import-keras", module="import_contender", modes=("import",), options={"imports": "keras"}),
    Runner(
        name="import-keras-crossvit",
        module="import_contender",
        modes=("import",),
        options={"imports": "keras, keras_crossvit"},
    ),
    *(
        Runner(
            name=f"export-{name}",
            module="export_contender",
            modes=("export",),
            libraries=(*libraries, "tensorflow"),
            backend="tensorflow",
            options={"format": name, "suffix": suffix},
        )
        for name, (suffix, libraries) in EXPORTED.items()
    ),
)
RUNNERS = {each.name: each for each in _RUNNERS}


def select(names: Sequence[str] | None, work: Sequence[Workload]) -> list[Runner]:
    """The contenders of these names, or by default all that can do some of the work and are installed.

    Raises:
        ValueError: a name is unknown, a contender that was named can do none of the work, or some of the work is
            for none of them.
        ModuleNotFoundError: a contender that was named lacks a library.
    """
    if names is None:
        chosen = [each for each in _RUNNERS if not each.missing_libraries()]
    else:
        chosen = [_find(name) for name in dict.fromkeys(names)]
        for each in chosen:
            if missing := each.missing_libraries():
                raise MissingLibraryError(
                    f"{each.name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
                    f"installed; install {'it' if len(missing) == 1 else 'them'}, or leave {each.name} out of "
                    "--contenders.",
                    name=missing[0],
                )
    for workload in work:
        if not any(each.supports(workload) for each in chosen):
            raise InvalidValueError(
                f"No chosen contender does {workload.mode} in {workload.precision}; see keras-crossvit benchmark --help."
            )
    able = [each for each in chosen if any(each.supports(workload) for workload in work)]
    if names is not None and len(able) < len(chosen):
        idle = ", ".join(each.name for each in chosen if each not in able)
        raise InvalidValueError(f"None of this work is for {idle}; leave it out of --contenders, or see --help.")
    return able


def _find(name: str) -> Runner:
    require_known("runner", name, RUNNERS)
    return RUNNERS[name]
