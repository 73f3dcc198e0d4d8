"""What is written of a benchmark: rows, tables, the picture, and where it ran."""

import dataclasses
import json
import os

import pytest
from matplotlib.figure import Figure

from benchmarks.environment import describe_environment
from benchmarks.plot import draw_results
from benchmarks.results import Row, columns_of, markdown, read_rows
from benchmarks.workload import Workload

WORK = Workload(model="crossvit_tiny", image_size=120, threads=1)


def test_rows_survive_json_and_give_ratios():
    rows = [
        Row(work=WORK, runner="peer", seconds=(0.2, 0.2, 0.4), first_step_seconds=1.0, peak_bytes=10**8, gmacs=1.0),
        Row(work=WORK, runner="ours", seconds=(0.1, 0.1, 0.1), first_step_seconds=1.0, peak_bytes=10**8, gemm_peak=20),
    ]
    assert [Row.from_json(json.loads(json.dumps(row.to_json()))) for row in rows] == rows
    peer, ours = columns_of(rows, "peer")
    assert (peer["milliseconds"], ours["milliseconds"], ours["ratio_to_peer"]) == (200.0, 100.0, 0.5)
    lines = markdown(rows, "peer").splitlines()
    assert lines[4].startswith("| ours | 100.0 (100.0 to 100.0) | 0.50 |")  # the quickest first


def test_a_ratio_to_the_peer_s_float32_is_called_that():
    halves = dataclasses.replace(WORK, precision="bfloat16")
    rows = [Row(work=work, runner=name, seconds=(0.1,)) for work, name in ((WORK, "peer"), (halves, "ours"))]
    in_float32, in_halves = (line for line in markdown(rows, "peer").splitlines() if "ratio to" in line)
    assert "ratio to peer |" in in_float32
    assert "ratio to peer in float32 |" in in_halves


@pytest.mark.parametrize(("mode", "title"), [("inference", "ms per picture\n"), ("build", "ms\n")])
def test_a_image_of_a_single_point_shows_the_floor_and_its_unit(mode, title, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: figures.append(figure) or path.touch())
    workload = dataclasses.replace(WORK, mode=mode)
    draw_results(
        tmp_path / "results.png",
        [Row(work=workload, runner="ours", seconds=(0.1,), peak_bytes=1, gmacs=1.0, gemm_peak=20.0)],
    )
    axes = figures[0].axes[0]
    assert axes.get_title(loc="left").startswith(title)
    floor = axes.get_lines()[0]
    assert len(set(floor.get_xdata())) == 2  # from side to side, where one point would be invisible
    assert set(floor.get_ydata()) == {50.0}


@pytest.mark.parametrize("contents", ["no JSON", "[1]", '{"hello": 1}'])
def test_a_folder_of_something_else_is_refused(contents, tmp_path):
    (tmp_path / "results.json").write_text(contents)
    with pytest.raises(ValueError, match=r"results.json' holds no results of a benchmark; give another --output"):
        read_rows(tmp_path, describe_environment())


def test_surroundings_name_the_cards(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA H200; echo NVIDIA H200\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert ", 2 NVIDIA H200, " in describe_environment()["machine"]
