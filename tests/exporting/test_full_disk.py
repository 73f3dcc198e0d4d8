"""A disk that is full, stood in for by the largest size that a process may write: one line, and nothing left behind."""

import resource
import signal

import pytest

from keras_crossvit import save_checkpoint
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting import litert_writer
from keras_crossvit.exporting.tracing import in_float32
from keras_crossvit.runtimes.metadata import metadata_of
from tests.demo.packages import small_packages
from tests.helpers.exports import small_model

ENOUGH_TO_BEGIN = 20_000  # bytes; every artefact has more


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    save_checkpoint(small_model(), path)
    return path


@pytest.fixture
def small_files_alone():
    """Lets this process and its children write no large file; Python lets such writing fail instead of end it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ENOUGH_TO_BEGIN, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    "words",
    [["model.tflite"], ["model.xml"], ["model.onnx"], ["model", "--format", "saved_model"]],
    ids=lambda words: words[-1],
)
def test_export_says_so_and_leaves_nothing(words, file, tmp_path, capfd, small_files_alone):
    name, *options = words
    assert cli.main(["export", str(file), str(tmp_path / name), *options]) == cli.EXIT_MISTAKE
    (line,) = capfd.readouterr().err.splitlines()
    assert "make room on the disk" in line
    assert not [each for each in tmp_path.rglob("*") if not each.is_dir()]


def test_page_says_so_and_leaves_nothing(tmp_path, tmp_path_factory, monkeypatch, capfd, request):
    packages = tmp_path_factory.mktemp("npm")
    small_packages(monkeypatch, packages)
    litert_file = tmp_path_factory.mktemp("litert") / "model.tflite"
    model = small_model()
    litert_writer.write(in_float32(model), litert_file, metadata_of(model), quantize=None, batch_size=1)
    capfd.readouterr()
    request.getfixturevalue("small_files_alone")
    arguments = ["demo", str(litert_file), str(tmp_path / "page"), "--litertjs", str(packages)]
    assert cli.main(arguments) == cli.EXIT_MISTAKE
    assert f"'{tmp_path / 'page'}' cannot be written (File too large); make room" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
