"""The pictures of the documents, and the script that makes them."""

import re

import numpy as np
from PIL import Image

from docs import make_pictures
from tests.helpers.exports import confident_model
from tests.helpers.image_folders import textured
from tests.helpers.processes import PROJECT

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def test_documents_show_every_picture_with_a_text_for_those_who_cannot_see_it():
    found = [each for path in DOCUMENTS for each in re.findall(r"!\[(.*?)\]\((\S+)\)", path.read_text())]
    assert all(text for text, _ in found)
    assert {path.name for path in make_pictures.PICTURES.iterdir()} == {path.rpartition("/")[2] for _, path in found}


def test_pictures_are_small():
    files = list(make_pictures.PICTURES.iterdir())
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert all(
        Image.open(path).width <= make_pictures.WIDTH
        for path in files
        if path.suffix == ".png" and not path.name.startswith("cost_by_")
    )


def test_overview_of_another_model_and_photograph(tmp_path, monkeypatch):
    model = confident_model(class_names=["cat", "dog", "owl", "a class with a long name", "fifth"])
    model.save(tmp_path / "model.keras")
    Image.fromarray(textured((80, 90, 90))).save(tmp_path / "photo.jpg")
    monkeypatch.setattr(make_pictures, "PICTURES", tmp_path)
    make_pictures.main(["--overview", str(tmp_path / "model.keras"), str(tmp_path / "photo.jpg")])
    drawn = Image.open(tmp_path / "overview.png")
    assert drawn.width <= make_pictures.WIDTH
    assert len(drawn.getcolors()) > 20


def test_a_terminal_has_every_line(tmp_path):
    make_pictures.draw_terminal(tmp_path / "long.png", "keras-crossvit quickstart", "word " * 60 + "\n\nend\n")
    make_pictures.draw_terminal(tmp_path / "short.png", "keras-crossvit quickstart", "end\n")
    long, short = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) for name in ("long", "short"))
    assert long.shape[1] == short.shape[1] == make_pictures.WIDTH
    lines = (long.shape[0] - short.shape[0]) / 18
    assert lines == 4  # 300 characters are three lines of at most 104
    assert (long[-34:] == short[-34:]).all()
