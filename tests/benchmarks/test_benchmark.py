"""Real benchmarks: processes, turns, agreement of outputs, files, and resuming."""

import csv
import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import benchmark, results, runners, workload
from benchmarks.__main__ import main
from benchmarks.environment import describe_environment
from benchmarks.gemm_peak import random_matrix
from benchmarks.process import RunnerError, RunnerProcess
from benchmarks.results import Row, read_rows, to_table
from benchmarks.runners import GEMM_PEAK, RUNNERS, Runner
from benchmarks.workload import Workload
from tests.helpers import timm_reference
from tests.helpers.processes import PROJECT, compiled_once, run_python

MODEL = "crossvit_9"  # which has the fewest blocks
WORKLOAD = Workload(model=MODEL, image_size=120, threads=1)
ROW = Row(workload=WORKLOAD, runner="keras-jax", seconds=(0.1,), first_step_seconds=1.0, peak_bytes=10**8)
# One runner per family; timm itself and JAX run in the test without TensorFlow.
MEASURED = ["keras-tensorflow", "openvino", *(["timm-openvino"] if timm_reference.is_installed() else [])]
BROKEN = Runner("broken", {"inference": "no_such_module:Inference"}, ())
needs_timm = pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder and rows of a runner per family, and of one that cannot start."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runners.RUNNERS, "broken", BROKEN)
        rows = benchmark.run_benchmark(
            [WORKLOAD],
            folder,
            runners=[*MEASURED, "broken"],
            baseline="keras-tensorflow",
            repetitions=2,
            steps_per_turn=1,
        )
    return folder, {row.runner: row for row in rows}


@pytest.mark.parametrize("name", MEASURED)
def test_runners_of_every_family_give_the_same_output(measured, name):
    _, rows = measured
    assert rows[name].problem is None
    assert len(rows[name].seconds) == 2
    assert rows[name].relative_rms < 1e-5
    assert rows[name].peak_bytes > 5e7
    assert rows[name].milliseconds_at_gemm_peak < rows[name].milliseconds


@needs_timm
def test_the_memory_of_a_converter_is_not_measured(measured):
    _, rows = measured
    # PyTorch and timm take 400 MB, OpenVINO with the model 250.
    assert rows["timm-openvino"].peak_bytes < 1.5 * rows["openvino"].peak_bytes


def test_a_runner_that_fails_is_named_and_the_others_continue(measured):
    _, rows = measured
    assert "no_such_module" in rows["broken"].problem
    assert not rows["broken"].seconds


def test_results_are_written_as_tables_and_a_plot(measured):
    folder, _ = measured
    contents = json.loads((folder / "results.json").read_text())
    assert {"machine", "versions", "date", "command", "rows"} <= contents.keys()
    with (folder / "results.csv").open() as file:
        lines = {line["runner"]: line for line in csv.DictReader(file)}
    assert lines["keras-tensorflow"]["ratio_to_baseline"] == "1.0"
    assert "| broken | no result:" in (folder / "results.md").read_text()
    with Image.open(folder / "results.png") as image:
        assert min(image.size) > 300


def test_existing_results_are_not_measured_again(measured, monkeypatch):
    folder, _ = measured
    monkeypatch.setattr(benchmark, "_measure", lambda *arguments: pytest.fail("measured again"))
    monkeypatch.setitem(runners.RUNNERS, "broken", BROKEN)
    rows = benchmark.run_benchmark([WORKLOAD], folder, runners=[*MEASURED, "broken"])
    assert {row.runner for row in rows} == {*MEASURED, "broken"}


def test_results_of_other_sessions_are_not_mixed_with_these(measured, tmp_path):
    folder, _ = measured
    with pytest.raises(ValueError, match="broken, keras-tensorflow"):
        benchmark.run_benchmark([WORKLOAD], folder, runners=["litert"])
    stored = json.loads((folder / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**stored, "versions": "keras 2.0"}))
    with pytest.raises(ValueError, match=r"keras 2\.0"):
        benchmark.run_benchmark([WORKLOAD], tmp_path, runners=["keras-jax"])


@pytest.mark.parametrize("ask", [lambda process: process.time_steps(1), RunnerProcess.finish], ids=["steps", "finish"])
def test_a_killed_process_is_a_failed_runner(ask, tmp_path):
    process = RunnerProcess(GEMM_PEAK, WORKLOAD, tmp_path)
    assert process.time_steps(1)[0] > 0
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.wait()
    with pytest.raises(RunnerError, match="exit code -9"):
        ask(process)


def test_gemm_peak_of_a_gpu_has_the_precision_of_the_workload():
    assert str(random_matrix("cpu", 64, "bfloat16").dtype) == "torch.bfloat16"


def test_runners_import_nothing_from_the_current_folder(tmp_path, monkeypatch):
    for name in ("json", "numpy", "keras_crossvit", "benchmarks", "encodings", "site"):
        (tmp_path / f"{name}.py").write_text("import pathlib; pathlib.Path('ran').touch(); raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    process = RunnerProcess(GEMM_PEAK, WORKLOAD, tmp_path)
    assert process.macs == 1024**3
    process.kill()
    assert not (tmp_path / "ran").exists()


def test_an_interrupt_ends_a_runner_and_its_converter(tmp_path, monkeypatch):
    children = []

    def interrupt(process, message):
        process._connection.send(message)
        tasks = Path(f"/proc/{process._process.pid}/task")
        _wait_until(lambda: _children(tasks))
        children.extend(_children(tasks))
        raise KeyboardInterrupt

    monkeypatch.setattr(RunnerProcess, "_ask", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RunnerProcess(RUNNERS["openvino"], WORKLOAD, tmp_path)
    _wait_until(lambda: not any(map(_is_running, children)))


def _children(tasks):
    return [int(number) for file in tasks.glob("*/children") for number in file.read_text().split()]


def _is_running(number):
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_tables_that_an_interrupt_prevented_are_written_later(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "_measure", lambda *arguments: [ROW])
    with monkeypatch.context() as patch:
        patch.setattr(results, "plot", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            benchmark.run_benchmark([WORKLOAD], tmp_path, runners=["keras-jax"])
    monkeypatch.setattr(benchmark, "_measure", lambda *arguments: pytest.fail("measured again"))
    assert benchmark.run_benchmark([WORKLOAD], tmp_path, runners=["keras-jax"]) == [ROW]
    assert {each.name for each in tmp_path.iterdir()} == {f"results.{end}" for end in ("json", "csv", "md", "png")}


@pytest.mark.parity
@needs_timm
def test_training_is_measured_where_tensorflow_is_not_installed(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, tests.helpers.lean.sitecustomize; sys.modules['tensorflow'] = None"
    )
    paths = os.pathsep.join(map(str, (PROJECT, tmp_path)))
    environment = {"KERAS_BACKEND": "jax", "PYTHONPATH": paths, **compiled_once(tmp_path / "compiled")}
    words = ["--model", MODEL, "--image-size", "120", "--batch-size", "2", "--threads", "1"]
    words += ["--runners", "timm-eager", "keras-jax", "--repetitions", "1", "--output", tmp_path / "results"]
    done = run_python("-m", "benchmarks", "--mode", "training", *words, **environment)
    assert f"**training, {MODEL}, 120 pixels" in done.stdout
    assert "no result" not in done.stdout
    with (tmp_path / "results" / "results.csv").open() as file:
        rows = {line["runner"]: line for line in csv.DictReader(file)}
    assert float(rows["keras-jax"]["relative_rms"]) < 1e-5  # the losses before the first update
    assert 0 < float(rows["keras-jax"]["fraction_of_gemm_peak"]) < 1
    assert float(rows["keras-jax"]["ratio_to_baseline"]) > 0


@needs_timm
def test_both_input_pipelines_read_the_images(tmp_path, monkeypatch):
    monkeypatch.setitem(workload.EPOCH_IMAGES, "pipeline", 32)
    (planned,) = workload.plan(mode="pipeline", models=["crossvit_tiny"], batch_sizes=[16])
    rows = benchmark.run_benchmark([planned], tmp_path, repetitions=1, steps_per_turn=1)
    names = ["keras-crossvit-pipeline", "pillow-timm-loader"]
    assert [(row.runner, row.problem) for row in rows] == [(name, None) for name in names]
    for line in to_table(rows, "pillow-timm-loader"):
        assert line["milliseconds_per_image"] == pytest.approx(line["milliseconds"] / 32, abs=0.01)


@needs_timm
def test_files_give_the_same_logits_through_both_readers_and_one_beyond_the_tolerance_has_no_times(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(workload.EPOCH_IMAGES, "files", 8)
    monkeypatch.setitem(benchmark.TOLERANCES, "float32", 0.0)
    planned = Workload(mode="files", model=MODEL, batch_size=4, image_size=120, threads=1)
    rows = benchmark.run_benchmark(
        [planned], tmp_path, runners=["openvino", "timm-eager"], repetitions=1, steps_per_turn=1
    )
    own, other = rows
    assert (own.runner, own.problem, len(own.seconds)) == ("openvino", None, 1)
    assert other.relative_rms < 1e-5  # the same pixels: Pillow resizes in both
    assert "differs" in other.problem
    assert other.seconds == ()
    assert read_rows(tmp_path, describe_environment()) == rows
    assert planned.macs == 2 * Workload(model=MODEL, batch_size=4, image_size=120).macs


def test_every_runner_has_its_class():
    for runner in (*RUNNERS.values(), GEMM_PEAK):
        for mode in runner.classes:
            assert callable(runner.import_class(mode).step)


def test_the_command_prints_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "_measure", lambda planned, *_: [dataclasses.replace(ROW, workload=planned)])
    words = ["--model", "crossvit_9", "--batch-size", "2", "8", "--runners", "keras-jax", "--output", str(tmp_path)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "inference, crossvit_9, 240 pixels, batch 8, float32" in printed
    assert printed.count("| keras-jax | 100.0") == 2


def test_the_command_reports_a_mistake_in_one_line(capsys):
    assert main(["--model", "crossvit_10"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "crossvit_10" in error
    with pytest.raises(SystemExit, match="2"):
        main(["--baseline", "timm-eagre"])


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "_measure", lambda *arguments: pytest.fail("measured"))
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", "/sys/kernel"):  # the second exists, and accepts no files
        with pytest.raises(OSError, match=str(folder)):
            benchmark.run_benchmark([WORKLOAD], folder, runners=["keras-jax"])
