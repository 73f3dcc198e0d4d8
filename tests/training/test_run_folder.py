import pytest

from keras_crossvit.training.run_folder import RunFolder
from tests.helpers.processes import run_python


def test_a_full_disk_is_one_line_with_a_remedy(tmp_path):
    program = """
import resource, signal, sys
from pathlib import Path
from keras_crossvit.files import written_whole
from keras_crossvit.training.run_folder import RunFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with RunFolder(sys.argv[1]) as folder, written_whole(folder.best) as unfinished:
        unfinished.write_bytes(bytes(5000))
except OSError as error:
    print(error)
"""
    (line,) = run_python("-c", program, tmp_path / "run").stdout.splitlines()
    assert f"'{tmp_path / 'run'}' has no room left" in line
    assert "run the same command to go on" in line
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_place_that_can_hold_no_run_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file' cannot hold a run \(File exists\)"), RunFolder(tmp_path / "file"):
        pytest.fail("there is a folder")


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), RunFolder(tmp_path / "run"):
        raise FileNotFoundError(2, "nowhere")
