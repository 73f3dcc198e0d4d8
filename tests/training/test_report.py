import os

import keras
import numpy as np
import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.evaluation import results
from keras_crossvit.training import get_recipe
from tests.helpers.models import tiny

NAMES = ["price $\\foo$", "two\nlines <b>", os.fsdecode(b"caf\xe9")]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / os.fsdecode(b"caf\xe9s")
    for label, name in enumerate(NAMES):
        for split, count in (("Training", 4), ("val", 2)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (50, 40), (80 * label, 10 * i, 0)).save(folder / split / name / f"{i}.png")
    return folder


def test_no_name_and_no_failing_drawing_costs_the_report(images, tmp_path, monkeypatch, capsys):
    def fail(path, *arguments):
        raise ValueError("no <font>")

    monkeypatch.setattr(results, "draw_reliability", fail)
    keras.utils.set_random_seed(0)
    model = tiny(3, depth=((1, 1, 0),), class_names=sorted(["price $\\foo$", "two\nlines <b>", "caf\\udce9"]))
    recipe = get_recipe("finetune", epochs=1, batch_size=4, layer_decay=None, rand_augment_ops=0)
    result = kc.train(images, model=model, recipe=recipe, output=tmp_path / "run")
    page = result.report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "reliability.png could not be drawn (ValueError: no &lt;font&gt;)" in page
    assert "price $\\foo$" in page
    assert "caf\\udce9" in page
    assert (tmp_path / "run" / "evaluation" / "confusion.png").is_file()
    printed = capsys.readouterr().out
    assert "'reliability.png' could not be drawn" in printed
    assert "3 classes: caf\\udce9, price $\\foo$, two\\nlines <b>" in printed
    assert np.isfinite(result.evaluation.loss)
    lines = []
    kc.evaluate(result.folder, images, output=tmp_path / "metrics", report=lines.append)
    assert "'reliability.png' could not be drawn (ValueError: no <font>)" in lines
