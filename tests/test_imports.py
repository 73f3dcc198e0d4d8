"""The house: who may import whom, and what `import keras_crossvit` brings along."""

import ast

import pytest

from tests.helpers.processes import PROJECT, run_python

PACKAGE = PROJECT / "keras_crossvit"
FLOORS = (
    {
        "bicubic",
        "checks",
        "config",
        "errors",
        "files",
        "layers",
        "memory",
        "optimizers",
        "optional",
        "silence",
        "start",
        "suffixes",
        "training_variables",
        "variants",
        "version",
    },
    {"checkpoints", "describe", "graph"},
    {"crossvit", "derived", "models", "restored"},
    {"data", "demo", "export", "finetuning", "metadata", "pipeline", "runtimes", "serving"},
    {"benchmark", "training"},
    {"__init__", "__main__", "cli", "commands", "quickstart"},
)
# What runs on every backend of Keras has no business with one of them; PyTorch's own files are read by PyTorch.
BACKEND_NEUTRAL = FLOORS[0] | FLOORS[1] | FLOORS[2] | {"data"}
BACKENDS = {"tensorflow", "jax"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def _subpackage(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _imports(path):
    """Modules that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == "keras_crossvit":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _subpackages_imported(path):
    names = (name.split(".") for name in _imports(path))
    return {parts[1] for parts in names if parts[0] == "keras_crossvit" and len(parts) > 1}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_lead_downward(path):
    floor_of = {subpackage: floor for floor, subpackages in enumerate(FLOORS) for subpackage in subpackages}
    subpackage = _subpackage(path)
    assert subpackage in floor_of, f"{subpackage} has no floor; give it one in FLOORS and in ARCHITECTURE.md"
    for other in _subpackages_imported(path) - {subpackage}:
        assert floor_of[other] <= floor_of[subpackage], f"{subpackage} imports {other} from above"
    if subpackage == "layers":
        assert not _subpackages_imported(path) & {"config", "variants"}, "layers take scalars"
    if subpackage == "data":
        assert not _subpackages_imported(path) & FLOORS[3] - {subpackage}, "pictures know no model"
    if subpackage in BACKEND_NEUTRAL:
        assert not {name.split(".")[0] for name in _imports(path)} & BACKENDS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path):
    assert len(path.read_text().splitlines()) <= 250
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0].end_lineno + 1 if ast.get_docstring(node) else node.body[0].lineno
            assert node.end_lineno - first < 50, node.name  # lines without signature and docstring


def test_import_brings_no_optional_library():
    heavy = {
        "matplotlib",
        "sklearn",
        "torch",
        "jax",
        "huggingface_hub",
        "timm",
        "openvino",
        "onnxruntime",
        "ai_edge_litert",
    }
    program = "import sys, keras; before = set(sys.modules); import keras_crossvit; print(*set(sys.modules) - before)"
    brought = {name.split(".")[0] for name in run_python("-c", program, KERAS_BACKEND="tensorflow").stdout.split()}
    assert "keras_crossvit" in brought
    assert not brought & heavy
