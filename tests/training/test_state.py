import os
import subprocess
import sys

import numpy as np
import pytest

from keras_crossvit.training.state import Position, StateFolder
from tests.helpers.processes import PROJECT

ARRAYS = {"model/00000": np.arange(6, dtype="float32"), "optimizer/00000": np.array(3, "int64")}


@pytest.fixture
def folder(tmp_path):
    states = StateFolder(tmp_path / "resume")
    for batch in (1, 2, 3):
        states.write(Position(0, batch), {**ARRAYS, "metrics/00000": np.float32([batch])}, {"note": batch})
    return states


def test_newest_state_comes_back_whole_and_two_are_kept(folder):
    position, arrays, facts = folder.newest()
    assert position == Position(0, 3)
    assert facts == {"note": 3}
    np.testing.assert_array_equal(arrays["model/00000"], ARRAYS["model/00000"])
    assert arrays["optimizer/00000"].dtype == "int64"
    assert len(folder.files()) == 2


def test_positions_are_ordered_by_epoch_first(folder):
    folder.write(Position(1, 0), ARRAYS, {})
    assert folder.newest()[0] == Position(1, 0)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_damaged_state_is_passed_over(folder, kept):
    newest = folder.files()[-1]
    newest.write_bytes(newest.read_bytes()[:kept])
    assert folder.newest()[0] == Position(0, 2)


def test_damaged_states_alone_are_an_error_that_says_what_to_do(folder):
    for path in folder.files():
        path.write_bytes(b"broken")
    with pytest.raises(ValueError, match="to begin anew"):
        folder.newest()


def test_no_state_is_none(tmp_path):
    assert StateFolder(tmp_path).newest() is None


def test_a_full_disk_is_one_line_and_leaves_the_last_state(folder):
    program = f"""
import resource, signal, numpy as np
from keras_crossvit.training.state import Position, StateFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    StateFolder({str(folder.path)!r}).write(Position(5), {{"model/00000": np.zeros(100_000)}}, {{}})
except OSError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "could not be written" in done.stdout
    assert "(File too large)" in done.stdout
    assert "is intact" in done.stdout
    assert folder.newest()[0] == Position(0, 3)
    assert not list(folder.path.glob(".unfinished-*"))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "resume").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="could not be written"):
        StateFolder(tmp_path / "resume").write(Position(), ARRAYS, {})


def test_what_a_killed_process_began_is_removed(folder):
    (folder.path / ".unfinished-abc").mkdir()
    (folder.path / ".unfinished-abc" / "half.safetensors").write_bytes(b"half")
    folder.remove_unfinished()
    assert {path.suffix for path in folder.path.iterdir()} == {".safetensors"}
