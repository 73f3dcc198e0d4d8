"""Code blocks of the documents run, and the documents agree with the code."""

import re
import runpy

import pytest

from keras_crossvit.models.variants import VARIANTS
from tests.helpers.processes import PROJECT, run_python

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCKS = {
    document: re.findall(r"^```python\n(.*?)^```", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for document in DOCUMENTS
}


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if BLOCKS[each]], ids=lambda path: path.name)
def test_code_blocks_run(document, tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text("\n".join(BLOCKS[document]))
    (tmp_path / "folder").mkdir()
    if document.name == "README.md":  # the first program of a new user, in a process of its own
        run_python(program, cwd=tmp_path / "folder", KERAS_BACKEND="tensorflow")
    else:
        monkeypatch.chdir(tmp_path / "folder")
        runpy.run_path(str(program))


def test_table_of_models_agrees_with_the_code():
    readme = (PROJECT / "README.md").read_text()
    for name, variant in VARIANTS.items():
        sizes = ", ".join(map(str, variant.config.img_size))
        row = f"| `{name}` | {sizes} | {variant.parameters:,} | {variant.gmacs:.2f} | {variant.paper_top1} "
        assert f"{row}| {variant.timm_top1:.3f} / {variant.timm_top5:.3f} |" in readme


def test_readme_commands_are_makefile_targets():
    commands = re.findall(r"^make (\w+)", (PROJECT / "README.md").read_text(), flags=re.MULTILINE)
    assert commands == ["quickstart", "test"]
    makefile = (PROJECT / "Makefile").read_text()
    assert all(re.search(rf"^{command}:", makefile, flags=re.MULTILINE) for command in commands)


def test_api_reference_is_up_to_date():
    generate = runpy.run_path(str(PROJECT / "docs" / "generate_api.py"))["generate"]
    assert generate() == (PROJECT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_point_to_existing_sections(document):
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for path, section in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = (document.parent / path) if path else document
        assert target.is_file(), path
        assert not section or section in _anchors(target.read_text()), f"{path}#{section}"


def _anchors(text):
    """Anchors as GitHub derives them from headings."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
