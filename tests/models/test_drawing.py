"""The drawing of an architecture: its numbers, any configuration, and the figure of docs/design.md."""

import re
from xml.etree import ElementTree

import pytest

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.models.costs import count_macs, count_parameters
from keras_crossvit.models.drawing import architecture_svg
from tests.helpers.models import tiny
from tests.helpers.processes import PROJECT

FIGURE = PROJECT / "docs" / "pictures" / "crossvit_9_dagger.svg"
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [each.text for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    "arguments", [{}, {"depth": ((1, 1, 0), (2, 1, 3))}, {"multi_conv": False, "qkv_bias": False}, {"num_classes": 0}]
)
def test_parameters_of_layers_are_those_of_the_model(arguments):
    model = tiny(**arguments)
    counted = count_parameters(model.config)
    assert counted == {each.name: each.count_params() for each in model.layers if each.weights}
    assert set(count_macs(model.config)) - set(counted) <= {"small_patch_head", "large_patch_head"}


def test_the_figure_of_the_documents_is_what_the_command_draws(tmp_path):
    assert cli.main(["summary", "crossvit_9_dagger", "--svg", str(tmp_path / "model.svg")]) == 0
    assert (tmp_path / "model.svg").read_text(encoding="utf-8") == FIGURE.read_text(encoding="utf-8")
    assert "pictures/crossvit_9_dagger.svg" in (PROJECT / "docs" / "design.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", kc.list_models())
def test_published_models_are_drawn_with_equal_stages_together(name):
    config = kc.variant_config(name)
    drawn = texts(architecture_svg(config, name=name))
    assert drawn[0] == name
    assert drawn.count("stages 0 to 2, each") == 1
    for rows, columns in config.patch_grids:
        assert f"1 + {rows * columns:,} tokens" in drawn


def test_other_depths_sizes_and_outputs_are_drawn():
    config = kc.variant_config(
        "crossvit_9_dagger",
        depth=((1, 1, 0), (70, 2, 2)),
        img_size=((1200, 240), (224, 112)),
        num_classes=0,
    )
    svg = architecture_svg(config, name="<b>&\n" * 40, average_patches=True)
    drawn = texts(svg)
    assert {"stage 0", "stage 1", "70 transformer blocks", "2 rounds of", "mean of patches", "384"} <= set(drawn)
    assert "<b>" not in svg
    view = re.search(r'viewBox="0 0 (\S+) (\S+)"', svg)
    right = max(
        float(each.get("x")) + float(each.get("width")) for each in ElementTree.fromstring(svg).iter(f"{SVG}rect")
    )
    assert right <= float(view[1])


def test_a_file_can_be_drawn_and_a_wrapper_is_refused(tmp_path, capsys):
    tiny(7, name="own").save(tmp_path / "own.keras")
    command = ["summary", str(tmp_path / "own.keras"), "--svg", str(tmp_path / "own.svg")]
    assert cli.main(command) == 0
    assert {"own", "7", "logits"} <= set(texts((tmp_path / "own.svg").read_text(encoding="utf-8")))
    assert cli.main([*command, "--num-classes", "3"]) == cli.EXIT_MISTAKE
    assert "--num-classes 3" in capsys.readouterr().err
    with pytest.raises(TypeError, match="Pass the original model"):
        kc.draw_architecture(kc.single_image(tiny()), tmp_path / "wrapper.svg")
