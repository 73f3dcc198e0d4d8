"""A small file that describes a vast model is refused before anything is built."""

import json
import zipfile

import keras
import pytest
import safetensors.numpy

from keras_crossvit import CrossViT, load_model, variant_config
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.checkpoints import keras_files
from tests.helpers import tiny
from tests.helpers.weights import assert_refused

VAST = {
    "embed_dim": [100_000, 100_000],
    "num_classes": 2 * 10**9,
    "depth": [[3000, 3000, 0]],
    "depth without end": [[10**12, 1, 0]],
    "rounds without end": [[1, 1, 10**12]],
    "img_size": [8_064, 8_064],
    "in_channels": 10**9,
    "mlp_ratio": [1e9, 1e9],
}


@pytest.fixture
def nothing_is_built(monkeypatch):
    monkeypatch.setattr(CrossViT, "__init__", lambda *arguments, **keywords: pytest.fail("built a model"))


def described(model, case):
    fields = json.loads(json.dumps(model.get_config()))
    fields["config"][{"depth without end": "depth", "rounds without end": "depth"}.get(case, case)] = VAST[case]
    return fields


def rewrite(path, new_path, member, content):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new_path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, content(old.read(name)) if name == member else old.read(name))
    return new_path


@pytest.fixture(scope="module")
def model():
    return tiny.reference_model()


@pytest.fixture(scope="module")
def keras_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return path


@pytest.mark.parametrize("case", VAST)
def test_safetensors(case, model, tmp_path, nothing_is_built):
    path = tmp_path / "model.safetensors"
    metadata = {"keras_crossvit": json.dumps(described(model, case))}
    safetensors.numpy.save_file(tiny.reference_weights(), path, metadata=metadata)
    with pytest.raises(InvalidValueError, match=r"model\.safetensors") as raised:
        load_model(path)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("case", VAST)
def test_keras_files(case, model, keras_file, tmp_path, nothing_is_built):
    def vast(content):
        return json.dumps({**json.loads(content), "config": described(model, case)}).encode()

    path = rewrite(keras_file, tmp_path / "vast.keras", "config.json", vast)
    with pytest.raises(InvalidValueError, match=r"vast\.keras") as raised:
        load_model(path)
    assert len(str(raised.value)) < 1000


def test_a_config_that_is_too_large_is_not_parsed(keras_file, tmp_path, monkeypatch, nothing_is_built):
    monkeypatch.setattr(keras_files, "MAX_BYTES", 10_000)
    monkeypatch.setattr(json, "loads", lambda text: pytest.fail("parsed it"))
    padded = rewrite(keras_file, tmp_path / "padded.keras", "config.json", lambda content: content + b" " * 10_000)
    with pytest.raises(InvalidValueError, match=r"padded\.keras"):
        load_model(padded)


def test_another_model_is_named_before_keras_builds_it(keras_file, tmp_path, nothing_is_built):
    other = rewrite(
        keras_file,
        tmp_path / "other.keras",
        "config.json",
        lambda content: json.dumps({**json.loads(content), "class_name": "Functional"}).encode(),
    )
    with pytest.raises(InvalidValueError, match="Functional"):
        load_model(other)


@pytest.mark.parametrize("registered_name", ["keras>Functional", "CrossViT", None])
def test_a_class_that_keras_would_not_take_for_a_crossvit_is_not_built(registered_name, keras_file, tmp_path):
    other = rewrite(
        keras_file,
        tmp_path / "other.keras",
        "config.json",
        lambda content: json.dumps({**json.loads(content), "registered_name": registered_name}).encode(),
    )
    with pytest.raises(InvalidValueError, match=r"other\.keras"):
        load_model(other)


@keras.saving.register_keras_serializable("tests")
class Subclass(CrossViT):
    """As users make it for a training step of their own."""


def test_a_registered_subclass_is_loaded(tmp_path):
    Subclass(variant_config("crossvit_9", num_classes=2, img_size=(48, 32), depth=((1, 1, 0),))).save(
        tmp_path / "model.keras"
    )
    assert type(load_model(tmp_path / "model.keras")) is Subclass


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "float99"),
        ("dtype", {"class_name": "DTypePolicy", "config": 1, "module": "keras", "registered_name": None}),
        ("frozen_layers", ["no_such_layer"]),
        ("frozen_layers", 5),
        ("name", []),
        ("class_names", 5),
        ("class_names", ["a"]),
        ("calibration", {"temperature": -1}),
        ("pool", None),
    ],
)
def test_a_description_with_one_impossible_value_is_an_error_that_names_the_file(field, value, model, tmp_path):
    path = tmp_path / "model.safetensors"
    metadata = {"keras_crossvit": json.dumps({**model.get_config(), field: value})}
    safetensors.numpy.save_file(tiny.reference_weights(), path, metadata)
    with pytest.raises(InvalidValueError, match=r"model\.safetensors"):
        load_model(path)


def test_a_wrong_description_of_classes_changes_no_model(model, tmp_path):
    path = tmp_path / "model.safetensors"
    for field, value in (("class_names", ["a"]), ("class_names", True), ("calibration", {"temperature": "hot"})):
        metadata = {"keras_crossvit": json.dumps({**model.get_config(), field: value})}
        safetensors.numpy.save_file(tiny.reference_weights(), path, metadata)
        assert_refused(path)
