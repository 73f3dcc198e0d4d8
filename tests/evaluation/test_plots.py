import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_crossvit._internal.figures import new_figure, save_figure, try_to_draw
from keras_crossvit.evaluation.plots import (
    draw_average_precision,
    draw_confusion,
    draw_learning_curves,
)
from keras_crossvit.preprocessing.images import read_image

NAMES = [
    *(
        "price $\\foo$",
        "from $5 to $10",
        "two\nlines",
        "caf\udce9",
        "\u202eright to left",
        "\x1b[2J",
        "_hidden",
        "a_b^c",
    ),
    *("long " * 50, "写真", "$\\frac$", "100%"),
]
SHOWN = {
    *("price $\\foo$", "from $5 to $10", r"two\nlines", r"caf\udce9", r"\u202eright to left", r"\x1b[2J", "_hidden"),
}


@pytest.fixture
def texts(monkeypatch):
    """Texts of the figures that are saved."""
    found, write = [], Figure.savefig

    def savefig(figure, *arguments, **keywords):
        write(figure, *arguments, **keywords)
        found.extend(text for text in figure.findobj(lambda each: hasattr(each, "get_parse_math")))

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found


def _confusion(path):
    draw_confusion(path, np.eye(len(NAMES), dtype=int), NAMES)


def _average_precision(path):
    rows = [{"class": name, "images": 3, "average_precision": 0.5} for name in NAMES]
    draw_average_precision(path, rows)


@pytest.mark.parametrize("draw", [_confusion, _average_precision])
def test_class_names_are_drawn_literally(tmp_path, texts, draw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns if axes have no space
        draw(tmp_path / "drawn.png")
    assert read_image(tmp_path / "drawn.png").std() > 10
    said = {text.get_text() for text in texts}
    assert said >= SHOWN
    assert not any(text.get_parse_math() or text.get_usetex() for text in texts)
    assert max(map(len, said)) < 60


@pytest.mark.parametrize("num_classes", [1, 2, 30, 31])
def test_long_names_leave_space_for_the_plot(tmp_path, monkeypatch, num_classes):
    figures, write = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *all_, **named: (write(figure, *all_, **named), figures.append(figure))
    )
    draw_confusion(tmp_path / "drawn.png", np.eye(num_classes, dtype=int), ["W" * 250] * num_classes)
    width, height = figures[0].axes[0].get_window_extent().size / figures[0].dpi
    assert min(width, height) > 1  # inch


def test_a_plot_that_fails_gives_the_reason_and_removes_the_old_file(tmp_path):
    (tmp_path / "drawn.png").touch()

    def fail(path):
        raise RuntimeError("no such font\nat all")

    assert try_to_draw(fail, tmp_path / "drawn.png") == {"drawn.png": "RuntimeError: no such font"}
    assert not (tmp_path / "drawn.png").exists()
    with pytest.raises(KeyboardInterrupt):
        try_to_draw(lambda path: (_ for _ in ()).throw(KeyboardInterrupt), tmp_path / "drawn.png")


def test_all_texts_of_a_figure_are_literal(tmp_path, texts):
    figure, axes = new_figure(1, 1, (3, 3))
    axes.plot([0, 1], label="$\\foo$")
    axes.set_title("$\\foo$")
    axes.legend()
    save_figure(figure, tmp_path / "drawn.png")
    assert [text.get_text() for text in texts].count("$\\foo$") == 2


def test_titles_of_learning_curves_are_literal_short_lines(tmp_path, texts):
    draw_learning_curves(tmp_path / "drawn.png", [{"epoch": 1, "loss": 0.5, "\u202e$\\foo$\n": 0.5, "m" * 300: 0.5}])
    said = {text.get_text() for text in texts}
    assert r"\u202e$\foo$\n" in said
    assert max(map(len, said)) < 60
    assert not any(text.get_parse_math() for text in texts)
