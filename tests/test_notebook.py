"""docs/notebook.md runs as the cells of a notebook, with fewer and smaller images and a smaller model."""

import json

import pytest

from tests.helpers.processes import PROJECT

SIZE = "img_size=(48, 32)"
MODEL = f'model=kc.crossvit_9_dagger(2, {SIZE}, depth=((1, 1, 0),), class_names=["flower", "temple"])'
REPLACED = {
    "img_size=(144, 128)": SIZE,
    'kc.train("photographs"': f'kc.train("photographs", {MODEL}',
    "border, 100)": "border, 60)",
    "scene.width, 30)": "scene.width, 20)",
}


def test_every_cell_of_the_notebook_runs(tmp_path):
    jupytext, nbclient = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")  # of the extra docs
    pytest.importorskip("ipykernel")
    text = (PROJECT / "docs" / "notebook.md").read_text()
    for old, new in REPLACED.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    notebook = jupytext.reads(text, "md")
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", resources=folder, timeout=None).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(shown) == 5  # learning curves, contact sheet, confusion matrix, explanation, comparison
    evaluation = json.loads((tmp_path / "runs" / "photographs" / "evaluation" / "evaluation.json").read_text())
    assert evaluation["top1"] > 0.8  # 100 % are usual
