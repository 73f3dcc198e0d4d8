"""Which file a comparison recommends, and why."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_crossvit._internal.errors import InvalidValueError
from keras_crossvit.comparing import Comparison, Measurement
from keras_crossvit.comparing.comparison import _Folder, read_logits
from keras_crossvit.comparing.results import draw_comparison

COMMON = {"agreement": 0.9, "calibration_error": 0.1, "latency_of_8_ms": 80.0, "images_per_second": 9.0}


def row(name, top1, latency_ms, megabytes):
    sizes = {"num_bytes": int(1e6 * megabytes), "peak_bytes": 10**8}
    return Measurement(name=name, path=name, top1=top1, latency_ms=latency_ms, **sizes, **COMMON)


def comparison(*rows, images=1000, max_loss=0.5):
    rows = (row("keras", 0.9, 36.0, 36), *rows)
    return Comparison(model="pets", images=images, threads=2, machine="Linux", max_loss=max_loss, measurements=rows)


FLOAT32, INT8, HALF = row("litert", 0.9, 22, 35), row("litert-int8", 0.85, 11, 9.5), row("openvino-16", 0.895, 25, 19)


def test_files_within_the_loss_are_recommended():
    result = comparison(FLOAT32, INT8, HALF)
    assert result.fastest == FLOAT32
    assert result.smallest == HALF  # whose loss is exactly 0.5 points
    fastest, smallest = result.recommendation.splitlines()
    assert "litert, 22.0 ms" in fastest
    assert "litert-int8 is faster, but loses 5.00 points" in fastest
    assert "openvino-16, 25.0 ms, 19.00 MB" in smallest
    assert "litert-int8 is smaller, but loses 5.00 points" in smallest


def test_a_larger_accepted_loss_changes_the_choice():
    result = comparison(FLOAT32, INT8, HALF, max_loss=5)
    assert result.fastest == result.smallest == INT8
    assert "but loses" not in result.recommendation


def test_no_file_within_the_loss_names_the_closest():
    result = comparison(INT8, row("worse", 0.5, 1, 1))
    assert result.fastest is None
    assert result.smallest is None
    assert result.to_dict()["fastest"] is None
    assert "No file is within 0.5 points" in result.recommendation
    assert "the closest is litert-int8" in result.recommendation


def test_files_without_a_result_are_never_recommended():
    result = comparison(Measurement(name="onnx", problem="tf2onnx is not installed."))
    assert result.fastest is None
    assert result.recommendation == "No file is within 0.5 points of Keras' top-1 accuracy (90.00%)."


@pytest.mark.parametrize(("images", "too_few"), [(199, True), (200, False)])
def test_too_few_images_to_tell_are_said(images, too_few):
    assert ("too few images" in comparison(FLOAT32, images=images).recommendation) == too_few


def test_names_cannot_break_the_markdown_or_the_terminal():
    result = comparison(row("a|b\x1b[2J.tflite", 0.9, 1, 1))
    assert "\x1b" not in str(result) + result.to_markdown()
    assert "a\\|b\\x1b[2J.tflite" in result.to_markdown()


def test_the_chart_has_accuracy_over_latency_and_area_by_size(tmp_path, monkeypatch):
    saved = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (saved.append(figure), save(figure, *a, **k)))
    draw_comparison(tmp_path / "chart.png", comparison(FLOAT32, INT8, HALF))
    (axis,) = saved[0].axes
    dots = axis.collections
    assert [tuple(each.get_offsets()[0]) for each in dots] == [(36, 90), (22, 90), (11, 85), (25, 89.5)]
    sizes = [each.get_sizes()[0] for each in dots]
    assert [size / sizes[0] for size in sizes] == pytest.approx([each / 36 for each in (36, 35, 9.5, 19)])
    labels = [text.get_text() for text in saved[0].legends[0].get_texts()]
    assert "fastest" in labels[1]
    assert "smallest" in labels[3]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00\x05\x00{((((", b"PK\x03\x04", b"text"])
def test_damaged_logits_of_an_earlier_comparison_are_named(content, tmp_path):
    (tmp_path / "keras_logits.npy").write_bytes(content)
    with pytest.raises(InvalidValueError, match=r"keras_logits\.npy' is damaged"):
        read_logits(tmp_path / "keras_logits.npy", (2, 3))


def test_logits_of_other_images_are_not_compared(tmp_path):
    np.save(tmp_path / "keras_logits.npy", np.zeros((4, 3), "float32"))
    assert read_logits(tmp_path / "keras_logits.npy", (4, 3)).shape == (4, 3)
    with pytest.raises(InvalidValueError, match=r"\(4, 3\)"):
        read_logits(tmp_path / "keras_logits.npy", (2, 3))


def test_unfinished_exports_of_a_killed_comparison_are_removed(tmp_path):
    with _Folder(tmp_path / "out", {}):
        pass
    (tmp_path / "out" / "files" / ".unfinished-export").mkdir(parents=True)
    with _Folder(tmp_path / "out", {}):
        assert not list((tmp_path / "out" / "files").iterdir())
