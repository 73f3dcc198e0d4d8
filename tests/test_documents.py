"""Code blocks of the documents run, and their figures are those of the code."""

import re

import pytest

from keras_crossvit.variants import VARIANTS
from tests.helpers.processes import PROJECT, run_python

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_code_blocks_run(document, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    program = tmp_path / "program.py"
    program.write_text("\n".join(blocks))
    (tmp_path / "folder").mkdir()
    run_python(program, cwd=tmp_path / "folder", KERAS_BACKEND="tensorflow")


def test_table_of_models_says_what_the_code_says():
    readme = (PROJECT / "README.md").read_text()
    for name, variant in VARIANTS.items():
        sizes = ", ".join(map(str, variant.config.img_size))
        row = f"| `{name}` | {sizes} | {variant.parameters:,} | {variant.gmacs:.2f} | {variant.paper_top1} "
        assert f"{row}| {variant.timm_top1:.3f} / {variant.timm_top5:.3f} |" in readme


def test_commands_of_the_readme_are_targets_of_the_makefile():
    commands = re.findall(r"^make (\w+)", (PROJECT / "README.md").read_text(), flags=re.MULTILINE)
    assert commands == ["quickstart", "test"]
    makefile = (PROJECT / "Makefile").read_text()
    assert all(re.search(rf"^{command}:", makefile, flags=re.MULTILINE) for command in commands)
