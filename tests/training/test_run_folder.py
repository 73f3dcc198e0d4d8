import pytest

from keras_crossvit.training.run_folder import RunFolder, read_settings
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


def test_a_run_that_never_began_gives_way_to_another(tmp_path):
    with RunFolder(tmp_path) as folder:
        assert not folder.claim({"classes": ["a", "b"], "weights": "wrong.safetensors"})
        folder.contact_sheet.touch()
        assert not folder.claim({"classes": ["c"], "weights": "right.safetensors"})
        assert read_settings(tmp_path)["weights"] == "right.safetensors"
        assert folder.classes.read_text() == "c\n"
        assert not folder.contact_sheet.exists()


@pytest.mark.parametrize("trace", ["resume/epoch-000000-batch-00000001.safetensors", "metrics.csv"])
def test_a_run_that_has_begun_is_gone_on_with_alone(tmp_path, trace):
    settings = {"classes": ["a", "b"], "seed": 0, "pictures": {"sha256": "1f"}}
    with RunFolder(tmp_path) as folder:
        folder.claim(settings)
        (tmp_path / trace).parent.mkdir(exist_ok=True)
        (tmp_path / trace).touch()
        assert folder.claim(settings)
        with pytest.raises(ValueError, match=r"another run, which differs in seed \(there 0, here 1\)"):
            folder.claim({**settings, "seed": 1})
        with pytest.raises(ValueError, match=r"which differs in names, labels or split of the pictures\. Give"):
            folder.claim({**settings, "pictures": {"sha256": "2e"}})


def test_other_errors_pass_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), RunFolder(tmp_path / "run"):
        raise FileNotFoundError(2, "nowhere")
