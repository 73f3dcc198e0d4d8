"""A benchmark that really runs: processes, turns, agreement, files, and going on after an interrupt."""

import csv
import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import benchmark, data, runners, workload
from benchmarks.environment import describe_environment
from benchmarks.gemm_peak_runner import ProductOnDevice
from benchmarks.process import Process, RunnerError
from benchmarks.results import Row, columns_of, read_rows
from benchmarks.runners import RUNNERS, Runner
from benchmarks.workload import Workload
from keras_crossvit.cli import main as cli
from tests.helpers import timm_reference
from tests.helpers.processes import PROJECT, compiled_once, run_python

WORK = Workload(model="crossvit_tiny", image_size=120, threads=1)
STARTED = ["keras-tensorflow", "keras-tensorflow-xla", "keras-jax", "keras-torch", "openvino"]
STARTED += ["timm-openvino", "timm-onnxruntime"] if timm_reference.is_installed() else []
BROKEN = Runner(name="broken", module="no_such_file", modes=("inference",))


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(tmp_path_factory):
    """What one process has compiled on JAX, the next takes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in compiled_once(tmp_path_factory.mktemp("compiled")).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder and rows of some contenders, and of one that cannot start."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runners.RUNNERS, "broken", BROKEN)
        names = [*STARTED, "broken"]
        rows = benchmark.run_benchmark([WORK], folder, runners=names, peer="keras-jax", repetitions=2, steps_per_turn=1)
    return folder, {row.runner: row for row in rows}


@pytest.mark.parametrize("name", STARTED)
def test_every_contender_gives_the_same_answer_and_its_times(measured, name):
    _, rows = measured
    assert rows[name].problem is None
    assert len(rows[name].seconds) == 2
    assert rows[name].difference < 1e-5
    assert rows[name].peak_bytes > 5e7
    assert 0 < rows[name].fraction_of_gemm_peak < 1


@pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}")
def test_a_converted_peer_is_measured_without_what_converts_it(measured):
    _, rows = measured
    # PyTorch and timm take 400 MB, OpenVINO with the model 250.
    assert rows["timm-openvino"].peak_bytes < 1.5 * rows["openvino"].peak_bytes


def test_a_contender_that_fails_is_named_and_the_others_go_on(measured):
    _, rows = measured
    assert "no_such_file" in rows["broken"].problem
    assert not rows["broken"].seconds


def test_results_are_written_as_tables_and_a_image(measured):
    folder, _ = measured
    contents = json.loads((folder / "results.json").read_text())
    assert {"machine", "versions", "date", "command", "rows"} <= contents.keys()
    with (folder / "results.csv").open() as file:
        lines = {line["runner"]: line for line in csv.DictReader(file)}
    assert lines["keras-jax"]["ratio_to_peer"] == "1.0"
    assert "| broken | no result:" in (folder / "results.md").read_text()
    with Image.open(folder / "results.png") as image:
        assert min(image.size) > 400


def test_what_is_there_is_not_measured_again(measured, monkeypatch, capsys):
    folder, _ = measured
    monkeypatch.setattr(benchmark, "_measure", lambda *arguments: pytest.fail("measured again"))
    monkeypatch.setitem(runners.RUNNERS, "broken", BROKEN)
    rows = benchmark.run_benchmark([WORK], folder, runners=[*STARTED, "broken"])
    assert {row.runner for row in rows} == {*STARTED, "broken"}
    assert "give another --output to measure anew" in capsys.readouterr().err


def test_results_of_other_runs_are_not_mixed_with_these(measured, tmp_path):
    folder, _ = measured
    with pytest.raises(ValueError, match=r"has results of broken, keras-jax, .* for .*; name those too"):
        benchmark.run_benchmark([WORK], folder, runners=["litert"])
    stored = json.loads((folder / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**stored, "versions": "keras 2.0"}))
    with pytest.raises(ValueError, match=r"has results of other versions \(keras 2\.0\); give another --output"):
        benchmark.run_benchmark([WORK], tmp_path, runners=["keras-jax"])


@pytest.mark.parametrize("end", [lambda process: process.steps(1), Process.finish], ids=["steps", "finish"])
def test_a_process_that_is_killed_is_a_contender_that_failed(end, tmp_path):
    process = Process(benchmark._GEMM_PEAK, WORK, tmp_path)
    assert process.steps(2)[1] > 0
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.wait()
    with pytest.raises(RunnerError, match="ended with exit code -9"):
        end(process)
    process.kill()


def test_ceiling_of_a_card_is_a_product_in_the_precision_of_the_work():
    product = ProductOnDevice("cpu", 64, "bfloat16")
    product.step()
    assert product.macs == 64**3
    assert str(product._matrix.dtype) == "torch.bfloat16"


def test_a_fast_wrong_answer_is_no_result(tmp_path, monkeypatch):
    monkeypatch.setitem(benchmark.AGREEMENT, "float32", -1.0)
    (row,) = benchmark.run_benchmark([WORK], tmp_path, runners=["keras-jax"], repetitions=1, steps_per_turn=1)
    assert row.seconds == ()
    assert "its answer is off by" in row.problem
    assert read_rows(tmp_path, describe_environment()) == [row]


@pytest.mark.parity
@pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}")
def test_a_whole_run_where_tensorflow_is_not_installed(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['tensorflow'] = None")
    paths = os.pathsep.join(map(str, (PROJECT, tmp_path)))
    environment = {"KERAS_BACKEND": "jax", "PYTHONPATH": paths}
    words = ["--model", "crossvit_tiny", "--image-size", "120", "--batch-size", "2", "--threads", "1"]
    words += ["--contenders", "timm-eager", "keras-jax", "--repetitions", "1", "--output", tmp_path / "results"]
    for mode in ("training", "build", "load"):
        done = run_python("-m", "keras_crossvit", "benchmark", "--mode", mode, *words, **environment)
        assert f"**{mode}, crossvit_tiny, 120 pixels" in done.stdout
        assert "no result" not in done.stdout
    with (tmp_path / "results" / "results.csv").open() as file:
        rows = {(line["mode"], line["runner"]): line for line in csv.DictReader(file)}
    training = rows["training", "keras-jax"]
    assert float(training["difference"]) < 1e-5  # both begin at the same loss
    assert 0 < float(training["fraction_of_gemm_peak"]) < 1
    assert all(float(rows[mode, "keras-jax"]["ratio_to_peer"]) > 0 for mode in ("build", "load"))
    assert (tmp_path / "results" / "results.png").stat().st_size > 10_000


@pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}")
def test_both_input_pipelines_go_through_the_images(tmp_path, monkeypatch):
    for module in (data, workload):
        monkeypatch.setattr(module, "EPOCH_PICTURES", 32)
    (planned,) = workload.plan(mode="pipeline", models=["crossvit_tiny"], batch_sizes=[16])
    rows = benchmark.run_benchmark([planned], tmp_path, repetitions=1, steps_per_turn=1)
    assert [(row.runner, row.problem) for row in rows] == [
        ("keras-crossvit-pipeline", None),
        ("pillow-timm-loader", None),
    ]
    for row in columns_of(rows, "pillow-timm-loader"):
        assert row["milliseconds_per_picture"] == pytest.approx(row["milliseconds"] / 32, abs=0.01)


def test_the_memory_of_an_import_is_that_of_the_process_that_imports(tmp_path, monkeypatch):
    importing = dataclasses.replace(RUNNERS["import-keras"], options={"imports": "sys; held = bytearray(3 * 10**8)"})
    monkeypatch.setitem(RUNNERS, "import-keras", importing)
    planned = dataclasses.replace(WORK, mode="import")
    (row,) = benchmark.run_benchmark([planned], tmp_path, runners=["import-keras"], repetitions=1, steps_per_turn=1)
    assert 3e8 < row.peak_bytes < 4e8


def test_an_interrupt_ends_a_contender_and_what_it_has_started(tmp_path, monkeypatch):
    number = tmp_path / "number"
    program = f"os, pathlib, time; pathlib.Path({str(number)!r}).write_text(str(os.getpid())); time.sleep(60)"
    sleeping = dataclasses.replace(RUNNERS["import-keras"], options={"imports": program})

    def interrupt(process):
        _wait_until(lambda: number.is_file() and number.read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(Process, "_read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Process(sleeping, WORK, tmp_path)
    _wait_until(lambda: not _is_running(int(number.read_text())))


def _wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_running(number):
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, though nobody has asked how


def test_what_an_interrupt_kept_from_the_tables_is_measured_again(tmp_path, monkeypatch):
    row = Row(work=WORK, runner="keras-jax", seconds=(0.1,), first_step_seconds=1.0, peak_bytes=10**8)
    monkeypatch.setattr(benchmark, "_measure", lambda *arguments: [row])
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "draw_results", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            benchmark.run_benchmark([WORK], tmp_path, runners=["keras-jax"])
    assert benchmark.run_benchmark([WORK], tmp_path, runners=["keras-jax"]) == [row]
    assert {each.name for each in tmp_path.iterdir()} == {f"results.{end}" for end in ("json", "csv", "md", "png")}


def test_every_contender_has_its_file():
    for each in RUNNERS.values():
        assert Path(benchmark.__file__).with_name(f"{each.module}.py").is_file()


def test_the_command_prints_the_table(tmp_path, monkeypatch, capsys):
    row = Row(work=WORK, runner="keras-jax", seconds=(0.1,), first_step_seconds=1.0, peak_bytes=10**8)
    monkeypatch.setattr(benchmark, "_measure", lambda work, *arguments: [dataclasses.replace(row, work=work)])
    words = ["--model", "crossvit_9", "--batch-size", "2", "8", "--contenders", "keras-jax", "--output", str(tmp_path)]
    assert cli.main(["benchmark", *words]) == 0
    printed = capsys.readouterr().out
    assert "inference, crossvit_9, batch 8, float32" in printed
    assert printed.count("| keras-jax | 100.0") == 2


def test_the_command_answers_a_mistake_in_one_line(capsys):
    assert cli.main(["benchmark", "--contenders", "timm-eagre"]) == cli.EXIT_MISTAKE
    assert "did you mean 'timm-eager'?" in capsys.readouterr().err
    assert cli.main(["benchmark", "--peer", "timm-eagre"]) == cli.EXIT_MISTAKE
    assert "did you mean 'timm-eager'?" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "_measure", lambda *arguments: pytest.fail("measured"))
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", "/sys/kernel"):  # the second is there, and takes no file
        with pytest.raises(OSError, match=f"'{folder}' cannot hold results .*; give another --output"):
            benchmark.run_benchmark([WORK], folder, runners=["keras-jax"])
