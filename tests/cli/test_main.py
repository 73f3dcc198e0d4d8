import json
import os
import subprocess
import sys
import types

import pytest
from safetensors.numpy import load_file

from keras_crossvit import __version__, evaluation, list_models, save_checkpoint
from keras_crossvit.cli import main as cli
from tests.helpers.exports import write_export
from tests.helpers.models import tiny
from tests.helpers.processes import run_python


def test_every_command_has_help(capsys):
    for name in cli.COMMANDS:
        with pytest.raises(SystemExit) as end:
            cli.main([name, "--help"])
        assert end.value.code == 0
        text = capsys.readouterr().out
        assert f"keras-crossvit {name}" in text
        examples = text.partition("examples:\n")[2].splitlines()
        assert len(examples) == 2
        assert all(line.startswith(f"  keras-crossvit {name}") for line in examples)


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


def test_list_prints_json(capsys):
    assert cli.main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list_models()
    assert next(row for row in rows if row["name"] == "crossvit_9_dagger")["parameters"] == 8_776_592


def test_summary_takes_model_files_runs_and_exports(tmp_path, capsys):
    model = tiny(3, class_names=["a", "b", "c"])
    (tmp_path / "run").mkdir()
    save_checkpoint(model, tmp_path / "run" / "best.keras")
    write_export(model, tmp_path / "model.tflite")
    assert cli.main(["summary", str(tmp_path / "run")]) == 0
    assert "3 classes" in capsys.readouterr().out
    facts = {}
    for name in ("run", "model.tflite"):
        assert cli.main(["summary", str(tmp_path / name), "--json"]) == 0
        facts[name] = json.loads(capsys.readouterr().out)
    assert facts["run"]["parameters"] == model.count_params()
    assert facts["model.tflite"]["bytes"] == (tmp_path / "model.tflite").stat().st_size
    for field in ("name", "config", "class_names", "preprocessing"):
        assert facts["run"][field] == facts["model.tflite"][field]
    assert cli.main(["summary", str(tmp_path / "model.tflite")]) == 0
    assert "class names             a, b, c" in capsys.readouterr().out
    assert cli.main(["summary", str(tmp_path / "run"), "--num-classes", "3"]) == cli.EXIT_MISTAKE
    assert cli.main(["summary", str(tmp_path / "other.tflite")]) == cli.EXIT_MISTAKE
    assert "There is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "model.keras", "data", "-b", "2", "--output", "out"],
        ["evaluate", "model.keras", "--batch-size", "2", "data", "-o", "out"],
        ["evaluate", "-o", "out", "model.keras", "-b", "2", "data"],
    ],
)
def test_arguments_may_be_anywhere_between_options(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.keras", "data"):
        (tmp_path / name).touch()
    given = []
    monkeypatch.setattr(
        evaluation, "evaluate_splits", lambda *arguments, **options: given.append((arguments, options)) or {}
    )
    assert cli.main(words) == 0
    ((arguments, options),) = given
    assert arguments == ("model.keras", "data")
    assert (options["batch_size"], options["output"]) == (2, "out")


def test_the_output_is_an_argument_or_an_option(tmp_path, capsys):
    save_checkpoint(tiny(3), tmp_path / "model.keras")
    convert = ["convert", str(tmp_path / "model.keras")]
    assert cli.main([*convert, str(tmp_path / "a.safetensors")]) == 0
    assert cli.main([*convert, "-o", str(tmp_path / "b.safetensors")]) == 0
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    capsys.readouterr()
    assert cli.main([*convert, "a.safetensors", "-o", "b.safetensors"]) == cli.EXIT_MISTAKE
    assert cli.main(convert) == cli.EXIT_MISTAKE
    both, missing = capsys.readouterr().err.splitlines()
    assert "give one" in both
    assert "OUT is missing" in missing


def test_completion_is_printed_or_its_library_named(monkeypatch, capsys):
    printed = types.SimpleNamespace(complete=lambda parser, shell: f"{parser.prog} in {shell}")
    monkeypatch.setitem(sys.modules, "shtab", printed)
    with pytest.raises(SystemExit) as end:
        cli.main(["--print-completion", "zsh"])
    assert (end.value.code, capsys.readouterr().out) == (0, "keras-crossvit in zsh\n")
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as end:
        cli.main(["--print-completion", "zsh"])
    assert end.value.code == cli.EXIT_MISTAKE
    assert "shtab is not installed" in capsys.readouterr().err


def test_completion_knows_commands_options_and_choices(capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        cli.main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    assert all(word in script for word in ("quickstart", "--quantize", "dynamic-int8"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "DATA is missing"),
        (["train", ".", "--recipe", "imagnet"], "did you mean 'imagenet'?"),
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


@pytest.mark.parametrize("command", ["evaluate", "prepare"])
def test_names_in_an_error_have_no_control_characters(command, tmp_path, capsys):
    name = str(tmp_path / "\u202egnp\x1b]0;title\x07\x9b  two\nlines")
    arguments = [command, "nowhere.keras", name] if command == "evaluate" else [command, name, "--check"]
    (tmp_path / "nowhere.keras").touch()
    assert cli.main(arguments) == cli.EXIT_MISTAKE
    shown = capsys.readouterr()
    assert (shown.out + shown.err).rstrip("\n").isprintable()
    if command == "prepare":
        assert r"\u202egnp\x1b]0;title\x07\x9b  two\nlines" in shown.err


def test_a_file_name_that_looks_like_an_option_has_no_control_characters(capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "model.keras", "--\x1b[2J\u202e"])
    assert capsys.readouterr().err.replace("\n", "").isprintable()


def test_an_error_of_the_system_has_no_control_characters(monkeypatch, capsys):
    def fail(arguments):
        raise OSError("\u202ea\x1b[2J\nb")

    monkeypatch.setattr("keras_crossvit.cli.list.run", fail)
    assert cli.main(["list"]) == cli.EXIT_MISTAKE
    assert capsys.readouterr().err == "keras-crossvit list: \\u202ea\\x1b[2J b\n"


def test_a_missing_library_is_named_with_the_command_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert cli.main(["quickstart", "--output", str(tmp_path)]) == cli.EXIT_MISTAKE
    assert "sklearn is not installed" in (line := capsys.readouterr().err)
    assert 'pip install "' in line
    assert '"scikit-learn' in line


@pytest.mark.parametrize(("option", "value"), [("--distribute", "horovod"), ("--precision", "16")])
def test_options_with_a_closed_set_list_it(option, value, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "images", option, value])
    assert end.value.code == cli.EXIT_MISTAKE
    errors = capsys.readouterr().err
    assert f"'{value}' (choose from" in errors


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_not_an_error(unbuffered):
    command = f"{sys.executable} -m keras_crossvit list | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
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


@pytest.mark.parametrize(
    ("arguments", "command", "found"),
    [
        (["tarin"], "", "did you mean train?"),
        (["train", "images", "--batch_size", "4"], " train", "did you mean --batch-size?"),
        (["train", "images", "--epohcs=3"], " train", "did you mean --epochs?"),
        (["predict", "model.keras", "a.png", "--format", "csvv"], " predict", "did you mean csv?"),
        (["predict", "model.keras", "a.png", "--formt", "csv"], " predict", "did you mean --format?"),
        (["list", "everything"], " list", "unrecognized arguments: everything"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest_and_the_usage_of_its_command(arguments, command, found, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == cli.EXIT_MISTAKE
    errors = capsys.readouterr().err
    assert errors.startswith(f"usage: keras-crossvit{command} [")
    assert found in errors.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        ["train", "nowhere"],
        ["train", ".", "--weights", "nowhere.pth"],
        ["evaluate", "nowhere.keras"],
        ["prepare", "nowhere", "--check"],
        ["export", "nowhere.keras", "a.tflite"],
        ["convert", "nowhere.pth", "a.keras"],
        ["explain", "nowhere.keras", "a.jpg", "--output", "why"],
    ],
)
def test_a_missing_file_is_found_before_libraries_are_imported(words, monkeypatch, capsys):
    monkeypatch.setattr(cli, "import_quietly", lambda modules: pytest.fail("imported"))
    assert cli.main(words) == cli.EXIT_MISTAKE
    assert "'nowhere" in capsys.readouterr().err
