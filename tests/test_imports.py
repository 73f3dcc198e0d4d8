"""Who may import whom, and what an import of the package brings along."""

import ast

import pytest

from tests.helpers.processes import PROJECT

PACKAGE = PROJECT / "keras_crossvit"
# From the top down; a subpackage imports from its own line and from those below.
ORDER = (
    {"__init__", "__main__", "cli"},
    {"publishing"},
    {"comparing", "demo", "quickstart"},
    {"training", "exporting", "explaining"},
    {"serving", "evaluation"},
    {"runtimes", "pipeline"},
    {"checkpoints", "models"},
    {"preprocessing", "layers"},
    {"_internal"},
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# Imports against that order, each with its reason.
EXCEPTIONS = {
    ("layers.image_preprocessing", "models.config"): "image sizes are in the configuration, which is plain data",
    ("preprocessing.transforms", "models.config"): "image sizes are in the configuration, which is plain data",
}
BACKEND_NEUTRAL = {"layers", "models", "checkpoints", "preprocessing"}
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(path):
    """Modules that a file imports, at its top or inside a function, but for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def module_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_lead_downward(path):
    importer = module_of(path)
    for name in imported_modules(path):
        package, _, imported = name.partition(".")
        if package == PACKAGE.name and imported and (importer, imported) not in EXCEPTIONS:
            above, below = importer.partition(".")[0], imported.partition(".")[0]
            assert LEVEL[above] <= LEVEL[below], f"{importer} imports {imported}"
            assert (above, below) != ("exporting", "serving"), "a server is not needed to write a file"


def test_nothing_is_timed_by_a_clock_that_may_be_set():
    for path in SOURCES:
        assert not {"time.time", "datetime.now"} & {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }, path


def test_every_exception_is_needed():
    for importer, imported in EXCEPTIONS:
        path = PACKAGE / f"{importer.replace('.', '/')}.py"
        assert f"{PACKAGE.name}.{imported}" in imported_modules(path)


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if module_of(path).partition(".")[0] in BACKEND_NEUTRAL], ids=module_of
)
def test_the_model_imports_no_backend(path):
    assert not {name.partition(".")[0] for name in imported_modules(path)} & {"tensorflow", "jax"}
