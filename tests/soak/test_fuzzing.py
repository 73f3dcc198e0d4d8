"""The soak notices what it is there to notice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from keras_crossvit._internal.errors import InvalidValueError
from tests.soak import fuzzing, mutations
from tests.soak.readers import KINDS, Kind

FILES = {"notes.json": json.dumps({"a": [1, 2], "b": {"c": "text"}}).encode()}


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    return fuzzing._Watch(tmp_path_factory.mktemp("worker"))


def outcome_of(read, folder, watch):
    kind = Kind(make=None, read=read)
    return fuzzing._run_case(kind, FILES, 60, 0, folder / "worker" / "case", watch)[0]


def refuse(folder):
    raise InvalidValueError("it is damaged; get it again.")


def test_results_and_clear_errors_are_told_from_others(tmp_path, watch):
    assert outcome_of(lambda folder: None, tmp_path, watch) == "read"
    assert outcome_of(refuse, tmp_path, watch) == "refused"
    assert outcome_of(lambda folder: Path(folder, "missing").read_bytes(), tmp_path, watch) == "refused"
    assert outcome_of(lambda folder: {}["name"], tmp_path, watch).startswith("KeyError")


def test_programs_and_files_elsewhere_are_noticed(tmp_path, watch):
    program = [sys.executable, "-c", ""]
    assert "subprocess.Popen" in outcome_of(lambda folder: subprocess.run(program, check=True), tmp_path, watch)
    assert "elsewhere" in outcome_of(lambda folder: (tmp_path / "elsewhere").write_text(""), tmp_path, watch)


def test_a_case_is_the_same_whenever_it_is_made():
    kind = Kind(make=None, read=None)
    cases = [kind.case(FILES, number, seed=3) for number in range(2 * mutations.PARTS + 40)]
    assert cases == [kind.case(FILES, number, seed=3) for number in range(len(cases))]
    lengths = {len(next(iter(case.values()))) for case in cases[: 2 * mutations.PARTS + 2 : 2]}
    assert lengths == {len(FILES["notes.json"]) * part // mutations.PARTS for part in range(mutations.PARTS + 1)}
    assert len({json.dumps(sorted(case)) + str(list(case.values())) for case in cases}) > mutations.PARTS


def test_every_kind_has_a_reader():
    assert all(callable(kind.make) and callable(kind.read) for kind in KINDS.values())
