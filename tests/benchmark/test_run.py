"""A benchmark that really runs: processes, turns, agreement, files, and going on after an interrupt."""

import csv
import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from keras_crossvit import cli
from keras_crossvit.benchmark import contenders, run
from keras_crossvit.benchmark.ceiling_contender import ProductOnDevice
from keras_crossvit.benchmark.contenders import CONTENDERS, Contender
from keras_crossvit.benchmark.process import ContenderError, Process
from keras_crossvit.benchmark.results import Row, columns_of, markdown, read_rows
from keras_crossvit.benchmark.surroundings import describe_surroundings
from keras_crossvit.benchmark.work import Work
from tests.helpers import timm_reference
from tests.helpers.processes import QUICK_COMPILATION, run_python

WORK = Work(model="crossvit_tiny", image_size=120, threads=1)
BROKEN = Contender(name="broken", module="no_such_file", modes=("inference",))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder and rows of two backends and a contender that cannot start."""
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(contenders.CONTENDERS, "broken", BROKEN)
        names = ["keras-tensorflow", "keras-jax", "broken"]
        rows = run.run_benchmark([WORK], folder, contenders=names, peer="keras-jax", repetitions=2, steps_per_turn=1)
    return folder, {row.contender: row for row in rows}


def test_every_contender_gives_the_same_answer_and_its_times(measured):
    _, rows = measured
    for name in ("keras-tensorflow", "keras-jax"):
        assert len(rows[name].seconds) == 2
        assert rows[name].difference < 1e-5
        assert rows[name].peak_bytes > 1e8
        assert 0 < rows[name].share_of_ceiling < 1


def test_a_contender_that_fails_is_named_and_the_others_go_on(measured):
    _, rows = measured
    assert "no_such_file" in rows["broken"].problem
    assert not rows["broken"].seconds


def test_results_are_written_as_tables_and_a_picture(measured):
    folder, _ = measured
    contents = json.loads((folder / "results.json").read_text())
    assert {"machine", "versions", "date", "command", "rows"} <= contents.keys()
    with (folder / "results.csv").open() as file:
        lines = {line["contender"]: line for line in csv.DictReader(file)}
    assert lines["keras-jax"]["ratio_to_peer"] == "1.0"
    assert "| broken | no result:" in (folder / "results.md").read_text()
    with Image.open(folder / "results.png") as picture:
        assert min(picture.size) > 400


def test_what_is_there_is_not_measured_again(measured, monkeypatch, capsys):
    folder, _ = measured
    monkeypatch.setattr(run, "_measure", lambda *arguments: pytest.fail("measured again"))
    monkeypatch.setitem(contenders.CONTENDERS, "broken", BROKEN)
    rows = run.run_benchmark([WORK], folder, contenders=["keras-tensorflow", "keras-jax", "broken"])
    assert {row.contender for row in rows} == {"keras-tensorflow", "keras-jax", "broken"}
    assert "give another --output to measure anew" in capsys.readouterr().err


def test_results_of_other_runs_are_not_mixed_with_these(measured, tmp_path):
    folder, _ = measured
    with pytest.raises(ValueError, match=r"has results of broken, keras-jax, keras-tensorflow for .*; name those too"):
        run.run_benchmark([WORK], folder, contenders=["keras-tensorflow-xla"])
    stored = json.loads((folder / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**stored, "versions": "keras 2.0"}))
    with pytest.raises(ValueError, match=r"has results of other versions \(keras 2\.0\); give another --output"):
        run.run_benchmark([WORK], tmp_path, contenders=["keras-jax"])


@pytest.mark.parametrize("end", [lambda process: process.steps(1), Process.finish], ids=["steps", "finish"])
def test_a_process_that_is_killed_is_a_contender_that_failed(end, tmp_path):
    process = Process(run._CEILING, WORK, tmp_path)
    assert process.steps(2)[1] > 0
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.wait()
    with pytest.raises(ContenderError, match="ended with exit code -9"):
        end(process)
    process.kill()


def test_ceiling_of_a_card_is_a_product_in_the_precision_of_the_work():
    product = ProductOnDevice("cpu", 64, "bfloat16")
    product.step()
    assert product.macs == 64**3
    assert str(product._matrix.dtype) == "torch.bfloat16"


@pytest.mark.parity
@pytest.mark.skipif(not timm_reference.is_installed(), reason=f"needs timm: {timm_reference.INSTALLATION}")
def test_a_training_step_begins_at_the_loss_of_the_peer(tmp_path):
    work = dataclasses.replace(WORK, mode="training", batch_size=2)
    names = ["timm-eager", "keras-tensorflow"]
    rows = run.run_benchmark([work], tmp_path, contenders=names, repetitions=1, steps_per_turn=1)
    assert [row.problem for row in rows] == [None, None]
    assert rows[1].difference < 1e-5


def test_a_fast_wrong_answer_is_no_result(tmp_path, monkeypatch):
    monkeypatch.setitem(run.AGREEMENT, "float32", -1.0)
    (row,) = run.run_benchmark([WORK], tmp_path, contenders=["keras-jax"], repetitions=1, steps_per_turn=1)
    assert row.seconds == ()
    assert "its answer is off by" in row.problem
    assert read_rows(tmp_path, describe_surroundings()) == [row]


def test_the_jax_backend_takes_part_where_tensorflow_is_not_installed(tmp_path):
    program = f"""
import sys
sys.modules["tensorflow"] = None
from keras_crossvit.benchmark import plan
from keras_crossvit.benchmark.data import write_data
from pathlib import Path
import dataclasses
for mode in ("inference", "training"):
    work = plan(mode=mode, models=["crossvit_tiny"], image_sizes=[120])[0]
    folder = Path({str(tmp_path)!r})
    write_data(work, folder)
    from keras_crossvit.benchmark import keras_contender
    task = {{"work": dataclasses.asdict(work), "folder": str(folder), "options": {{"compiler": "xla"}}}}
    print(keras_contender.prepare(task).step().shape)
"""
    done = run_python("-c", program, KERAS_BACKEND="jax", XLA_FLAGS=QUICK_COMPILATION)
    assert done.stdout.split("\n")[:2] == ["(1, 1000)", "(1,)"]


def test_rows_survive_json_and_give_ratios():
    rows = [
        Row(work=WORK, contender="peer", seconds=(0.2, 0.2, 0.4), first_step_seconds=1.0, peak_bytes=10**8, gmacs=1.0),
        Row(work=WORK, contender="ours", seconds=(0.1, 0.1, 0.1), first_step_seconds=1.0, peak_bytes=10**8, ceiling=20),
    ]
    assert [Row.from_json(json.loads(json.dumps(row.to_json()))) for row in rows] == rows
    peer, ours = columns_of(rows, "peer")
    assert (peer["milliseconds"], ours["milliseconds"], ours["ratio_to_peer"]) == (200.0, 100.0, 0.5)
    lines = markdown(rows, "peer").splitlines()
    assert lines[4].startswith("| ours | 100.0 (100.0 to 100.0) | 0.50 |")  # the quickest first


def test_every_contender_has_its_file():
    for each in CONTENDERS.values():
        assert Path(run.__file__).with_name(f"{each.module}.py").is_file()


def test_the_command_prints_the_table(tmp_path, monkeypatch, capsys):
    row = Row(work=WORK, contender="keras-jax", seconds=(0.1,), first_step_seconds=1.0, peak_bytes=10**8)
    monkeypatch.setattr(run, "_measure", lambda work, *arguments: [dataclasses.replace(row, work=work)])
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
