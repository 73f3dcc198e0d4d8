"""A run published on a local hub over real HTTP, and loaded from there."""

import json

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pytest

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.training import get_recipe
from tests.demo.packages import small_packages
from tests.helpers import image_folders
from tests.helpers.hub import Hub, served
from tests.helpers.models import tiny
from tests.helpers.processes import PROJECT, run_python
from tests.helpers.shared import made_once

# The two programs of docs/publish.md that load the model, what they have loaded, and the error for another one.
LOADED_ELSEWHERE = r"""
import json, re, sys
import numpy as np
image, loaded = np.arange(50 * 70 * 3, dtype="uint8").reshape(50, 70, 3), []
for block in re.findall(r"```{code-block} python\n(.*?)```", open(sys.argv[1]).read(), re.DOTALL):
    exec(block)
    import keras_crossvit as kc
    loaded.append([list(model.class_names), model(kc.preprocess(image, model)).numpy().tolist()])
print(json.dumps(loaded))
try:
    kc.load_model("hf://me/nothing")
except FileNotFoundError as error:
    print(error)
"""
ODD = "odd|<b>[x]"  # a class whose name is markup


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    def train(folder):
        images = image_folders.write_plain(folder / "pets", 6)
        first = next(iter(image_folders.COLOURS))
        (images / first).rename(images / ODD)
        names = sorted(each.name for each in images.iterdir())
        recipe = get_recipe("finetune", epochs=1, batch_size=6, layer_decay=None)
        model = tiny(len(names), class_names=names)
        return kc.train(images, model=model, recipe=recipe, output=folder / "run", validation_split=0.34).folder

    return made_once(tmp_path_factory, "published-run", train)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A local hub that the real client uses, logged in, with an empty cache."""
    with served(Hub({})) as served_hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served_hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_token")
        yield served_hub


def environment(hub, tmp_path):
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}


def test_a_published_run_is_loaded_by_this_package_and_by_keras_and_another_is_missing(run, hub, tmp_path, capsys):
    command = ["publish", str(run), "hf://me/pets", "--license", "apache-2.0", "--private"]
    assert cli.main(command) == 0
    assert f"{hub.url}/me/pets" in capsys.readouterr().out
    assert hub.created["me/pets"]["visibility"] == "private"
    names = {name.removeprefix("me/pets/") for name in hub.files}
    assert names == {
        "README.md", "class_names.txt", "config.json", "confusion.png", "learning_curves.png", "metadata.json",
        "model.safetensors", "model.tflite", "model.tflite.export_report.json", "model.weights.h5", "reliability.png",
    }  # fmt: skip
    model = kc.load_model(run)
    image = np.arange(50 * 70 * 3, dtype="uint8").reshape(50, 70, 3)
    expected = np.asarray(model(kc.preprocess(image, model)))
    printed = run_python("-c", LOADED_ELSEWHERE, PROJECT / "docs" / "publish.md", **environment(hub, tmp_path))
    loaded, error = printed.stdout.splitlines()
    assert "does not have me/nothing/model.safetensors" in error
    assert len(json.loads(loaded)) == 2
    for class_names, logits in json.loads(loaded):
        assert tuple(class_names) == model.class_names
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-6)
    (tmp_path / "model.tflite").write_bytes(hub.files["me/pets/model.tflite"])
    runtime = kc.load_runtime(tmp_path / "model.tflite")
    np.testing.assert_allclose(runtime.logits(*kc.preprocess(image, runtime)), expected, rtol=0, atol=1e-4)


def test_the_card_is_read_by_the_library_of_the_hub(run):
    card = huggingface_hub.ModelCard.load(run / "model_card.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("keras", "image-classification")
    (result,) = (each for each in card.data.eval_results if each.metric_name == "top-1 accuracy")
    evaluation = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert result.metric_value == evaluation["top1"]
    assert result.dataset_name == "pets"
    (row,) = (line for line in card.text.splitlines() if line.startswith("| odd"))
    assert row.startswith(r"| odd\|\<b\>\[x\] | 2 |")
    assert str(run.parent) not in card.text.replace(str(run), "")  # paths of this machine, but for how to load it


def test_the_page_is_a_static_space(run, hub, monkeypatch, tmp_path):
    small_packages(monkeypatch, tmp_path)
    monkeypatch.setattr("keras_crossvit.publishing.publisher.write_demo", _with_packages(tmp_path))
    url = kc.publish(run, "hf://me/pets", demo=True)
    assert url == f"{hub.url}/me/pets"
    assert hub.created["spaces/me/pets"]["sdk"] == "static"
    assert hub.files["spaces/me/pets/model.tflite"] == hub.files["me/pets/model.tflite"]
    assert huggingface_hub.RepoCard(hub.files["spaces/me/pets/README.md"].decode()).data.sdk == "static"


def _with_packages(folder):
    from keras_crossvit.demo import write_demo

    return lambda model, page: write_demo(model, page, litertjs=folder)


@pytest.mark.parametrize("address", ["me/pets", "hf://pets", "hf://me/pets/more", "hf://me/../pets", "hf://me/"])
def test_an_address_of_another_form_is_refused(address, run, hub, capsys):
    assert cli.main(["publish", str(run), address]) == cli.EXIT_MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert address in line
    assert "hf://USER/NAME" in line
    assert not hub.requests


def test_a_refused_login_is_one_line_and_nothing_is_uploaded(run, hub, capsys):
    hub.refused_login = True
    assert cli.main(["publish", str(run), "hf://me/pets"]) == cli.EXIT_MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert "hf auth" in line
    assert not hub.files


def test_a_folder_that_is_no_run_is_refused(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        kc.publish(tmp_path, "hf://me/pets")
