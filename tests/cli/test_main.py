import os
import subprocess
import sys

import pytest

from keras_crossvit import __version__, list_models
from keras_crossvit.cli import main as cli
from tests.helpers.processes import PROJECT, run_python


def test_every_command_has_help(capsys):
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as end:
            cli.main([name, "--help"])
        assert end.value.code == 0
        assert f"keras-crossvit {name}" in capsys.readouterr().out


def test_version_is_shown(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert __version__ in capsys.readouterr().out


def test_list_shows_every_model(capsys):
    assert cli.main(["list"]) == 0
    output = capsys.readouterr().out
    assert [line.split()[0] for line in output.splitlines()[2:]] == list_models()
    assert "8,776,592" in output


def test_summary_shows_architecture_and_layers(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.main(["summary", "crossvit_9_dagger", "--num-classes", "7"]) == 0
    output = capsys.readouterr().out
    assert "7 classes" in output
    assert "stage_2_large_patch_block_2" in output


def test_commands_accept_timm_names(capsys):
    assert cli.main(["summary", "timm/crossvit_9_dagger_240.in1k"]) == 0
    assert "crossvit_9_dagger:" in capsys.readouterr().out.replace('"', ":")
    assert cli.main(["export", "timm/crossvit_9_dagger_240.in1k", "out.tflite"]) == cli.EXIT_MISTAKE
    assert "has no weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "crossvit_9_dager"], "did you mean 'crossvit_9_dagger'?"),
        (["summary", "crossvit_9", "--num-classes", "-3"], "num_classes -3 is too small"),
        (["quickstart", "--epochs", "0"], "epochs 0 is too small"),
        (["quickstart", "--output", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert cli.main(arguments) == cli.EXIT_MISTAKE
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith(f"keras-crossvit {arguments[0]}: ")
    assert len(errors.splitlines()) == 1


def test_a_missing_library_is_named_with_the_command_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert cli.main(["quickstart", "--output", str(tmp_path)]) == cli.EXIT_MISTAKE
    assert "sklearn is not installed" in (line := capsys.readouterr().err)
    assert 'pip install "' in line
    assert '"scikit-learn' in line


@pytest.mark.parametrize(
    ("option", "value"), [("--recipe", "imagnet"), ("--distribute", "horovod"), ("--precision", "16")]
)
def test_options_with_a_closed_set_list_it(option, value, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "images", option, value])
    assert end.value.code == cli.EXIT_MISTAKE
    errors = capsys.readouterr().err
    assert f"'{value}' (choose from" in errors


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_not_an_error(unbuffered):
    command = f"{sys.executable} -m keras_crossvit list | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert "BrokenPipe" not in done.stderr


WITHOUT_KERAS = """
import contextlib, sys
sys.argv = ["keras-crossvit", *sys.argv[1:]]
from keras_crossvit.cli.main import main
with contextlib.suppress(SystemExit):
    main()
print(sorted({"keras", "tensorflow", "jax", "torch"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["--version"], ["list"], ["tarin"]], ids=" ".join
)
def test_commands_without_a_model_import_neither_keras_nor_tensorflow(arguments):
    done = run_python("-c", WITHOUT_KERAS, *arguments)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("keras_crossvit.models.variants.VARIANTS", None)
    with pytest.raises(AttributeError, match="NoneType"):
        cli.main(["list"])


def test_traceback_of_a_mistake_is_shown_on_request():
    with pytest.raises(ValueError, match="crossvit_9_dager"):
        cli.main(["summary", "crossvit_9_dager", "--traceback"])
