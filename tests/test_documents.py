"""Code blocks of the documents run, and the documents agree with the code."""

import operator
import re
import runpy
import shlex
import sys

import pytest
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli.main import _parser
from keras_crossvit.models.variants import VARIANTS
from tests.helpers.hub import Hub, served
from tests.helpers.image_folders import textured
from tests.helpers.processes import PROJECT, run_python

README = PROJECT / "README.md"
DOCUMENTS = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
BLOCKS = {
    document: re.findall(r"^```python\n(.*?)^```", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for document in DOCUMENTS
}
ON_IMAGES = [README, PROJECT / "docs" / "first_steps.md"]  # these read images/<class>/<n>.jpg
PROGRAMS = [each for each in DOCUMENTS if BLOCKS[each] and each.name != "notebook.md"]  # which test_notebook.py runs


@pytest.mark.parametrize("document", PROGRAMS, ids=lambda path: path.name)
def test_code_blocks_run(document, tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text("\n".join(BLOCKS[document]))
    folder = tmp_path / "folder"
    folder.mkdir()
    if document in ON_IMAGES:
        for i, name in enumerate(2 * ["cat", "dog", "owl"]):
            path = folder / "images" / name / f"{i // 3 + 1}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(textured((80 * (i % 3), 90, 90), seed=i)).save(path)
    if document == README:  # the first program of a new user, in a process of its own that downloads the weights
        weights = tmp_path / "model.safetensors"
        kc.save_checkpoint(kc.crossvit_9_dagger(), weights)
        with served(Hub({"timm/crossvit_9_dagger_240.in1k/model.safetensors": weights.read_bytes()})) as hub:
            environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub")}
            run_python(program, cwd=folder, KERAS_BACKEND="tensorflow", **environment)
        assert (folder / "crossvit.tflite").is_file()
    else:
        monkeypatch.chdir(folder)
        runpy.run_path(str(program))


def test_tables_of_models_agree_with_the_code():
    readme, models, measured = (
        (PROJECT / name).read_text() for name in ("README.md", "docs/models.md", "docs/performance.md")
    )
    for name, variant in VARIANTS.items():
        sizes = ", ".join(map(str, variant.config.img_size))
        row = f"| `{name}` | {sizes} | {variant.parameters:,} | {variant.gmacs:.2f} | {variant.paper_top1} "
        assert f"{row}| {variant.timm_top1:.3f} / {variant.timm_top5:.3f} |" in models
        row = re.search(
            rf"^\| `{name}` \| {variant.parameters:,} \| {variant.paper_top1} \| (.*)\|$", readme, re.MULTILINE
        )
        assert row, name
        assert not row[1] or f"| litert | {row[1]}(" in measured


def test_readme_is_short():
    assert len(README.read_text().split()) <= 700


def test_readme_commands_are_makefile_targets():
    commands = re.findall(r"^make (\w+)", README.read_text(), flags=re.MULTILINE)
    assert commands == ["quickstart", "test"]
    makefile = (PROJECT / "Makefile").read_text()
    assert all(re.search(rf"^{command}:", makefile, flags=re.MULTILINE) for command in commands)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_names_exist(document):
    for name in set(re.findall(r"\bkc\.([a-zA-Z_]\w*(?:\.[a-zA-Z_]\w*)?)", document.read_text())):
        operator.attrgetter(name)(kc)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_have_known_options(document):
    blocks = re.findall(r"^```sh\n(.*?)^```", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", "")
    for command in re.findall(r"^(?:\w+=\S+ )*keras-crossvit (.*)", lines, flags=re.MULTILINE):
        words, _, _ = command.partition(" >")
        _parser().parse_args(shlex.split(words, comments=True))


@pytest.mark.parametrize("page", ["api", "cli"])
def test_reference_is_up_to_date(page):
    if page == "cli" and sys.version_info >= (3, 13):
        pytest.skip("argparse prints options in another form")
    generate = runpy.run_path(str(PROJECT / "docs" / f"generate_{page}.py"))["generate"]
    assert generate() == (PROJECT / "docs" / f"{page}.md").read_text()


def test_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx")  # of the extra docs
    run_python("-m", "sphinx", "--quiet", "--fail-on-warning", "-c", "docs", ".", tmp_path)
    assert (tmp_path / "docs" / "api.html").is_file()


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
