"""Code blocks of the documents run, and their figures are those of the code."""

import importlib
import re

import pytest

import keras_crossvit
from keras_crossvit.models.variants import VARIANTS
from tests.helpers.processes import PROJECT, run_python

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCKS = {
    document: re.findall(r"^```python\n(.*?)^```", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for document in DOCUMENTS
}


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if BLOCKS[each]], ids=lambda path: path.name)
def test_code_blocks_run(document, tmp_path):
    blocks = BLOCKS[document]
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


def test_list_of_names_has_all_that_is_public_and_nothing_else():
    listed = re.findall(r"`(kc|keras_crossvit(?:\.\w+)?)\.(\w+)`", (PROJECT / "docs" / "api.md").read_text())
    modules = {module: importlib.import_module(module.replace("kc", "keras_crossvit")) for module, _ in listed}
    assert [f"{module}.{name}" for module, name in listed if name not in modules[module].__all__] == []
    assert {name for module, name in listed if module == "kc"} == {*keras_crossvit.__all__} - {"__version__"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_documents_and_their_sections(document):
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for path, section in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = (document.parent / path) if path else document
        assert target.is_file(), path
        assert not section or section in _anchors(target.read_text()), f"{path}#{section}"


def _anchors(text):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
