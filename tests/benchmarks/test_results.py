"""Results of a benchmark: rows, tables, the plot and the environment."""

import dataclasses
import os

import pytest
from matplotlib.figure import Figure

from benchmarks.environment import describe_environment
from benchmarks.results import Row, plot, read_rows, to_markdown, to_table, write_results
from benchmarks.workload import Workload
from keras_crossvit._internal.log import log_to_stdout

WORKLOAD = Workload(model="crossvit_tiny", image_size=120, threads=1)


def test_rows_can_be_read_again_and_give_ratios(tmp_path):
    environment = describe_environment()
    rows = [
        Row(workload=WORKLOAD, runner="theirs", seconds=(0.2, 0.2, 0.4), first_step_seconds=1.0, peak_bytes=10**8),
        Row(workload=WORKLOAD, runner="ours", seconds=(0.1, 0.1, 0.1), first_step_seconds=1.0, gemm_peak=20),
    ]
    write_results(tmp_path, rows, environment, "theirs")
    assert read_rows(tmp_path, environment) == rows
    theirs, ours = to_table(rows, "theirs")
    assert (theirs["milliseconds"], ours["milliseconds"], ours["ratio_to_baseline"]) == (200.0, 100.0, 0.5)
    lines = to_markdown(rows, "theirs").splitlines()
    assert lines[4].startswith("| ours | 100.0 (100.0 to 100.0) | 0.50 |")  # the fastest first


def test_a_ratio_to_the_baseline_in_float32_is_named_so():
    in_bfloat16 = dataclasses.replace(WORKLOAD, precision="bfloat16")
    rows = [
        Row(workload=WORKLOAD, runner="theirs", seconds=(0.1,)),
        Row(workload=in_bfloat16, runner="ours", seconds=(0.1,)),
    ]
    headers = [line for line in to_markdown(rows, "theirs").splitlines() if "ratio to" in line]
    assert ["ratio to theirs |" in line for line in headers] == [True, False]
    assert ["ratio to theirs in float32 |" in line for line in headers] == [False, True]


def test_a_plot_of_a_single_point_shows_the_gemm_peak(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: figures.append(figure) or path.touch())
    rate = WORKLOAD.macs / 0.05 / 1e9
    plot(tmp_path / "results.png", [Row(workload=WORKLOAD, runner="ours", seconds=(0.1,), gemm_peak=rate)])
    axes = figures[0].axes[0]
    assert axes.get_title(loc="left").startswith("ms per image\n")
    line = axes.get_lines()[0]
    assert len(set(line.get_xdata())) == 2  # from side to side, where one point would be invisible
    assert line.get_ydata() == pytest.approx([50.0, 50.0])


@pytest.mark.parametrize("contents", ["no JSON", "[1]", '{"hello": 1}'])
def test_a_file_without_results_is_refused(contents, tmp_path):
    (tmp_path / "results.json").write_text(contents)
    with pytest.raises(ValueError, match=r"results\.json"):
        read_rows(tmp_path, describe_environment())


def test_environment_names_the_gpus(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA H200; echo NVIDIA H200\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert ", 2 NVIDIA H200, " in describe_environment()["machine"]


NAME = "$\\foo$|\u202ea\nb"


def test_names_and_problems_stay_in_their_cells():
    rows = [Row(workload=WORKLOAD, runner=NAME, problem="a|b\n| c")]
    (line,) = to_markdown(rows, None).splitlines()[4:5]
    assert line == r"| $\foo$\|\u202ea\nb | no result: a\|b\n\| c | | | | |"


def test_names_are_drawn_literally(tmp_path, monkeypatch):
    figures, write = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *_, **options: (figures.append(figure), write(figure, *_, **options))
    )
    plot(tmp_path / "results.png", [Row(workload=WORKLOAD, runner=NAME, seconds=(0.1,))])
    (figure,) = figures
    assert r"$\foo$|\u202ea\nb" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_plot_that_fails_does_not_cost_the_tables(tmp_path, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise ValueError("no font")

    monkeypatch.setattr(Figure, "savefig", fail)
    with log_to_stdout():
        write_results(tmp_path, [Row(workload=WORKLOAD, runner="ours", seconds=(0.1,))], describe_environment(), None)
    assert {each.name for each in tmp_path.iterdir()} == {"results.json", "results.csv", "results.md"}
    assert "'results.png' could not be drawn (ValueError: no font)" in capsys.readouterr().out
