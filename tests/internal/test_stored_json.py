"""Every reader of stored JSON refuses damaged and hostile files with a line that names the file."""

import json

import numpy as np
import pytest
import safetensors.numpy

from benchmarks.environment import describe_environment
from benchmarks.results import read_rows
from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit._internal.model_paths import read_run_settings
from keras_crossvit._internal.stored_json import OrNone, parse_json, read_json
from keras_crossvit.checkpoints.reading import load_checkpoint
from keras_crossvit.pipeline import survey
from keras_crossvit.pipeline.shards import parse_manifest
from keras_crossvit.runtimes.metadata import Metadata, metadata_of
from keras_crossvit.training.state import Position, StateFolder
from tests.helpers import tiny

DAMAGES = {
    "nothing": b"",
    "half": b'{"format": 2, "cla',
    "not UTF-8": b'{"a": "\xff"}',
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested keys": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "digits": b'{"format": ' + b"9" * 10_000 + b"}",
    "no keys": b"{}",
}


def read_state(folder, content):
    metadata = {"training_state": content.decode(errors="replace")}
    file = folder / "epoch-000001-batch-00000000.safetensors"
    safetensors.numpy.save_file({"model/00000": np.zeros(2, "float32")}, file, metadata=metadata)
    return StateFolder(folder).newest()


def read_safetensors(folder, content):
    metadata = {"keras_crossvit": content.decode(errors="replace")}
    safetensors.numpy.save_file(tiny.reference_weights(), folder / "model.safetensors", metadata=metadata)
    return load_checkpoint(tiny.fresh_model(), folder / "model.safetensors")


def reader_of(name, read):
    def write_and_read(folder, content):
        (folder / name).write_bytes(content)
        return read(folder)

    return write_and_read


READERS = {
    "state": read_state,
    "safetensors": read_safetensors,
    "manifest": reader_of("manifest.json", parse_manifest),
    "results": reader_of("results.json", lambda folder: read_rows(folder, describe_environment())),
    "export": lambda folder, content: Metadata.from_json(content.decode(errors="replace"), folder / "model.tflite"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_refused_in_one_short_line(reader, damage, tmp_path):
    with pytest.raises(InvalidValueError) as raised:
        READERS[reader](tmp_path, DAMAGES[damage])
    line = str(raised.value)
    assert str(tmp_path) in line
    assert "\n" not in line
    assert len(line) < 1000


@pytest.mark.parametrize("damage", [each for each in DAMAGES if each != "no keys"])
def test_damaged_settings_of_a_run_are_refused(damage, tmp_path):
    (tmp_path / "config.json").write_bytes(DAMAGES[damage])
    with pytest.raises(InvalidValueError) as raised:
        read_run_settings(tmp_path)
    assert str(tmp_path / "config.json") in str(raised.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_of_a_survey_is_ignored(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = survey._cache_of(tmp_path)
    cache.parent.mkdir(parents=True)
    cache.write_bytes(DAMAGES[damage])
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert survey.survey_files(tmp_path, [str(tmp_path / "a.jpg")], None).unreadable


@pytest.mark.parametrize(
    "entry", [[], None, 3, "text", [1, 2], [1, 2, 3, 4, 9, ""], [1, 2, 3, 4, 0, None], {"a": 1}, [[], 1, 2, 3, 4, 5]]
)
def test_damaged_entries_of_a_survey_are_made_again(entry, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no image")
    if isinstance(entry, list) and len(entry) == 6 and entry[0] == 1:
        entry[:2] = survey._stamp(str(path))
    cache = survey._cache_of(tmp_path)
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({"format": survey._FORMAT, "files": {str(path): entry}}))
    assert survey.survey_files(tmp_path, [str(path)], None).unreadable == [(str(path), "not an image")]


FORM = {"name": str, "sizes": [int], "pair": (float, str), "of": {str: {"a": bool}}, "rest": OrNone(int)}
VALID = {"name": "a", "sizes": [1, 2], "pair": [1, "b"], "of": {"x": {"a": True}}, "rest": None, "more": 1}


def test_values_of_the_form_are_returned():
    assert parse_json(json.dumps(VALID), FORM) == VALID


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("name", 1, "name"),
        ("sizes", [1, True], "sizes[1]"),
        ("sizes", {"0": 1}, "sizes"),
        ("pair", [1], "pair"),
        ("pair", [True, "b"], "pair[0]"),
        ("of", {"x": {}}, "of.x has no a"),
        ("of", {"x": {"a": 1}}, "of.x.a"),
        ("rest", "1", "rest"),
    ],
)
def test_another_form_is_named_by_its_place(key, value, place):
    with pytest.raises(InvalidValueError) as raised:
        parse_json(json.dumps({**VALID, key: value}), FORM)
    assert place in str(raised.value)


def test_a_file_that_is_too_large_is_not_parsed(tmp_path):
    (tmp_path / "a.json").write_text("{}" + " " * 999)
    with pytest.raises(InvalidValueError, match="1000 bytes"):
        read_json(tmp_path / "a.json", {}, "write it again", max_bytes=1000)
    assert read_json(tmp_path / "a.json", {}, "write it again", max_bytes=1001) == {}


def test_metadata_survives_its_text():
    described = metadata_of(tiny.fresh_model(class_names=tuple("abcdefg")))
    assert Metadata.from_json(described.to_json(), "model.tflite") == described


def test_position_of_a_state_is_that_of_its_name(tmp_path):
    StateFolder(tmp_path).write(Position(1, 0), {"model/0": np.zeros(1)}, {})
    (tmp_path / "epoch-000001-batch-00000000.safetensors").rename(tmp_path / "epoch-000002-batch-00000000.safetensors")
    with pytest.raises(InvalidValueError, match="epoch-000002"):
        StateFolder(tmp_path).newest()


@pytest.mark.parametrize("form", [int, float])
def test_integers_that_no_float_can_hold_are_refused(form):
    assert parse_json(b'{"bytes": 9223372036854775807}', {"bytes": form}) == {"bytes": 2**63 - 1}
    with pytest.raises(InvalidValueError, match="bytes cannot be 1000"):
        parse_json(b'{"bytes": 1' + b"0" * 400 + b"}", {"bytes": form})
