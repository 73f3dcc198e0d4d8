import os

import numpy as np
import pytest
import safetensors.numpy

from keras_crossvit._internal.errors import OperationError
from keras_crossvit._internal.files import remove_unfinished
from keras_crossvit.training.state import Position, StateFolder
from tests.helpers.full_disk import limited_files

ARRAYS = {"model/00000": np.arange(6, dtype="float32"), "optimizer/00000": np.array(3, "int64")}


@pytest.fixture
def folder(tmp_path):
    states = StateFolder(tmp_path / "resume")
    for batch in (1, 2, 3):
        states.write(Position(0, batch), {**ARRAYS, "metrics/00000": np.float32([batch])}, {"note": batch})
    return states


def test_the_newest_state_is_read_and_two_are_kept(folder):
    position, arrays, metadata = folder.newest()
    assert position == Position(0, 3)
    assert metadata == {"note": 3}
    np.testing.assert_array_equal(arrays["model/00000"], ARRAYS["model/00000"])
    assert arrays["optimizer/00000"].dtype == "int64"
    assert len(folder.files()) == 2
    folder.write(Position(1, 0), ARRAYS, {})
    assert folder.newest().position == Position(1, 0)


def test_the_newest_state_is_that_of_the_last_step_whatever_the_clock_says(folder):
    for year, path in zip((2040, 1990), folder.files(), strict=True):  # the clock was set back in between
        os.utime(path, ((year - 1970) * 31_556_952,) * 2)
    assert folder.newest().position == Position(0, 3)
    folder.write(Position(0, 4), ARRAYS, {})
    assert [path.stem for path in folder.files()] == ["epoch-000000-batch-00000003", "epoch-000000-batch-00000004"]


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_truncated_state_is_skipped(folder, kept):
    newest = folder.files()[-1]
    newest.write_bytes(newest.read_bytes()[:kept])
    assert folder.newest().position == Position(0, 2)


def test_a_state_with_damaged_metadata_is_skipped(folder):
    texts = ("[" * 200_000, "[]", "5", "null", '"epoch"', "{", "{}", '{"epoch": NaN, "batch": 0}')
    for metadata in (*({"training_state": text} for text in texts), {"other": "{}"}, None):
        safetensors.numpy.save_file({"model/00000": np.zeros(1)}, folder.files()[-1], metadata)
        assert folder.newest().position == Position(0, 2)


def test_a_folder_without_intact_state_is_an_error_and_an_empty_one_is_not(folder, tmp_path):
    assert StateFolder(tmp_path / "empty").newest() is None
    for path in folder.files():
        path.write_bytes(b"broken")
    with pytest.raises(ValueError, match="epoch-000000-batch-00000002"):
        folder.newest()


def test_a_full_disk_is_one_line_and_keeps_the_last_state(folder):
    with pytest.raises(OSError, match=r"\(File too large\)") as raised, limited_files(100_000):
        folder.write(Position(5), {"model/00000": np.zeros(100_000)}, {})
    assert "\n" not in str(raised.value)
    assert "epoch-000000-batch-00000003.safetensors', is intact" in str(raised.value)
    assert folder.newest().position == Position(0, 3)
    assert not list(folder.path.glob(".unfinished-*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "resume").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=str(tmp_path / "resume")):
        StateFolder(tmp_path / "resume").write(Position(), ARRAYS, {})


def test_nothing_is_written_to_a_folder_that_is_not_ones_own_any_more(folder):
    def refuse():
        raise OperationError("removed or replaced")

    before = folder.files()
    folder.guard = refuse
    with pytest.raises(OperationError):
        folder.write(Position(9), {}, {})
    assert folder.files() == before


def test_unfinished_files_of_a_killed_process_are_removed(folder):
    (folder.path / ".unfinished-abc").mkdir()
    (folder.path / ".unfinished-abc" / "half.safetensors").write_bytes(b"half")
    remove_unfinished(folder.path)
    assert {path.suffix for path in folder.path.iterdir()} == {".safetensors"}
