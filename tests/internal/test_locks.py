import contextlib
import shutil
import subprocess
import sys

import pytest

from keras_crossvit._internal.errors import FileError, OperationError
from keras_crossvit._internal.files import atomic_write, remove_unfinished
from keras_crossvit._internal.locks import LOCK_FILE, FolderLock
from tests.helpers.processes import PROJECT

pytest.importorskip("fcntl", reason="Windows has no such locks")


def test_a_folder_is_locked_once_and_can_be_locked_again(tmp_path):
    with FolderLock(tmp_path), pytest.raises(OperationError, match=tmp_path.name), FolderLock(tmp_path):
        pytest.fail("locked twice")
    with FolderLock(tmp_path):
        pass


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "target")
    with pytest.raises(FileError), FolderLock(tmp_path):
        pytest.fail("followed the link")
    assert (tmp_path / "target").read_text() == "precious"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_ends_with_its_folder(tmp_path, replaced):
    folder = tmp_path / "run"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(FolderLock(folder))
        lock.require_held()
        shutil.rmtree(folder)
        if replaced:
            folder.mkdir()
            stack.enter_context(FolderLock(folder)).require_held()
        with pytest.raises(OperationError, match="removed or replaced"):
            lock.require_held()


def test_unfinished_files_are_only_removed_when_nobody_writes_them(tmp_path):
    (tmp_path / ".unfinished-left").mkdir()
    with atomic_write(tmp_path / "model.tflite") as unfinished:
        unfinished.write_text("new")
        remove_unfinished(tmp_path)
        assert not (tmp_path / ".unfinished-left").exists()
    assert (tmp_path / "model.tflite").read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["model.tflite"]


def test_a_lock_of_another_process_ends_when_that_is_killed(tmp_path):
    program = "import sys, time; from pathlib import Path; from keras_crossvit._internal.locks import FolderLock\n"
    program += "with FolderLock(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, cwd=PROJECT) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(OperationError, match=tmp_path.name), FolderLock(tmp_path):
            pytest.fail("locked twice")
        other.kill()
    assert (tmp_path / LOCK_FILE).exists()  # which says nothing
    with FolderLock(tmp_path):
        pass
