"""Wheel and sdist hold the package with its data, the same bytes each time; the metadata declare what it imports."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

import keras_crossvit
from tests.helpers.processes import PROJECT
from tests.test_imports import imported_modules

METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def build(folder, umask, modified):
    """Builds wheel and sdist in `folder`, of sources with this umask and time."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    shutil.copytree(PROJECT / "keras_crossvit", folder / "keras_crossvit", ignore=shutil.ignore_patterns("__pycache__"))
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (modified, modified))
    command = [sys.executable, "-m", "build", str(folder)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, check=True, capture_output=True, umask=umask, env=environment)
    return folder / "dist"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    return build(tmp_path_factory.mktemp("source"), umask=0o022, modified=1_600_000_000)


@pytest.fixture(scope="module")
def wheel(distributions):
    (path,) = distributions.glob("*.whl")
    return path


def test_sdist_holds_only_the_package(distributions):
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/")[1] for name in archive.getnames()}
    assert names == {"LICENSE", "PKG-INFO", "README.md", "keras_crossvit", "pyproject.toml"}


def test_two_builds_are_the_same_bytes(distributions, tmp_path):
    again = build(tmp_path, umask=0o077, modified=1_650_000_000)
    for name in ("keras_crossvit-*.whl", "keras_crossvit-*.tar.gz"):
        (first,), (second,) = distributions.glob(name), again.glob(name)
        assert first.read_bytes() == second.read_bytes()


def test_wheel_holds_only_the_package_and_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"keras_crossvit"}
    sources = {str(path.relative_to(PROJECT)) for path in (PROJECT / "keras_crossvit").rglob("*.py")}
    assert sources <= set(names)
    assert {"keras_crossvit/py.typed", "keras_crossvit/preprocessing/imagenet_classes.txt"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_type_checkers_and_the_table_of_public_names_agree():
    tree = ast.parse((PROJECT / "keras_crossvit" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imported = {alias.name: node.module for node in block.body for alias in node.names}
    assert {*imported, "__version__"} == set(keras_crossvit.__all__)
    for name in keras_crossvit.__all__:
        assert hasattr(keras_crossvit, name)
        if name in keras_crossvit._MODULES:
            assert imported[name] == f"keras_crossvit.{keras_crossvit._MODULES[name]}"


def test_completion_lists_public_names_and_subpackages():
    assert {*keras_crossvit.__all__, "training", "pipeline"} <= set(dir(keras_crossvit))
    assert keras_crossvit.training.get_recipe("finetune").epochs > 0
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = keras_crossvit.no_such_name


DISTRIBUTIONS = {  # of modules whose distribution has another name
    "PIL": "pillow",
    "flatbuffers": "ai-edge-litert",
    "google": "tensorflow",
    "grpc": "tensorflow-serving-api",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
}


def test_every_imported_library_is_declared():
    extras = METADATA["optional-dependencies"].values()
    requirements = [*METADATA["dependencies"], *(each for extra in extras for each in extra)]
    declared = {re.match(r"[\w-]+", each)[0].replace("_", "-").lower() for each in requirements}
    for path in (PROJECT / "keras_crossvit").rglob("*.py"):
        for module in {name.partition(".")[0] for name in imported_modules(path)} - sys.stdlib_module_names:
            name = DISTRIBUTIONS.get(module, module).replace("_", "-").lower()
            assert name in {*declared, "keras-crossvit"}, f"{path.name} imports {module}"


def test_wheel_installs_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "keras-crossvit=keras_crossvit.cli.main:run_and_exit" in archive.read(entry_points).decode()


def test_no_extra_pulls_a_second_tensorflow():
    extras = METADATA["optional-dependencies"].values()
    every = [*METADATA["dependencies"], *(requirement for extra in extras for requirement in extra)]
    names = {re.match(r"[\w-]+", requirement)[0].replace("_", "-").lower() for requirement in every}
    # tensorflow-serving-api asks for the one TensorFlow of its own version, tensorflow-datasets for none.
    others = {"tensorflow-datasets", "tensorflow-serving-api"}
    assert {name for name in names if name.startswith("tensorflow")} - others == {"tensorflow"}
    assert all(re.search(r"[<~=]", requirement) for requirement in every if "keras_crossvit[" not in requirement)
