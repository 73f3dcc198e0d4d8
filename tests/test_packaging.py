"""What `pip install .` brings: the package with all that it needs at run time, and nothing else."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

import keras_crossvit
from tests.helpers.processes import PROJECT

METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    for name in ("keras_crossvit", "tests"):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", source / "dist", source]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (path,) = (source / "dist").glob("*.whl")
    return path


def test_wheel_holds_the_package_and_its_data_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"keras_crossvit"}
    sources = {str(path.relative_to(PROJECT)) for path in (PROJECT / "keras_crossvit").rglob("*.py")}
    assert sources <= set(names)
    assert {"keras_crossvit/py.typed", "keras_crossvit/data/imagenet_classes.txt"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_type_checkers_find_every_public_name():
    """By imports alone: to a checker, a module's `__getattr__` has any name, those that are not there too."""
    statements = list(ast.walk(ast.parse((PROJECT / "keras_crossvit" / "__init__.py").read_text())))
    imported = {alias.name for each in statements if isinstance(each, ast.ImportFrom) for alias in each.names}
    assert set(keras_crossvit.__all__) <= imported
    assert all(hasattr(keras_crossvit, name) for name in keras_crossvit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = keras_crossvit.no_such_name


def test_wheel_brings_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "keras-crossvit = keras_crossvit.cli.main:run_and_exit" in archive.read(entry_points).decode()


def test_no_extra_pulls_a_second_tensorflow():
    extras = METADATA["optional-dependencies"].values()
    every = [*METADATA["dependencies"], *(requirement for extra in extras for requirement in extra)]
    names = {re.match(r"[\w-]+", requirement)[0].replace("_", "-").lower() for requirement in every}
    # tensorflow-serving-api asks for the one TensorFlow of its own version, tensorflow-datasets for none.
    others = {"tensorflow-datasets", "tensorflow-serving-api"}
    assert {name for name in names if name.startswith("tensorflow")} - others == {"tensorflow"}
    assert all(re.search(r"[<~=]", requirement) for requirement in every if "keras_crossvit[" not in requirement)
