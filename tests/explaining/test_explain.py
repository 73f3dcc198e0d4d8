"""`kc.explain` and its command: methods, heatmaps on the image, faithfulness, pictures and mistakes."""

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.explaining import METHODS, Explanation
from keras_crossvit.explaining.explainer import Explainer
from keras_crossvit.explaining.gallery import Gallery
from keras_crossvit.explaining.propagation import _opened_model, _with_gradients, propagate
from keras_crossvit.models.graph import fusion_name
from keras_crossvit.training.finetuning import enable_lora
from tests.helpers.backends import call
from tests.helpers.explanations import photo, require_explanations
from tests.helpers.models import images, tiny

NAMES = ("ant", "bee", "cat", "dog", "emu")


def randomized(**arguments):
    model = tiny(5, **{"depth": ((1, 1, 0), (1, 2, 0)), "class_names": NAMES, **arguments})
    for weight in model.weights:
        weight.assign(np.random.default_rng(len(weight.path)).normal(0, 0.3, weight.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return randomized()


@pytest.mark.backends
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_both_grids_and_a_heatmap_of_the_image(method, model):
    why = kc.explain(model, photo(), method=method)
    assert isinstance(why, Explanation)
    assert (why.small_patch.shape, why.large_patch.shape) == model.config.patch_grids
    assert why.heatmap.shape == (60, 90)
    total = float(why.small_patch.sum() + why.large_patch.sum())
    scale = float(np.abs(why.small_patch).sum() + np.abs(why.large_patch).sum())
    assert float(np.nansum(why.heatmap)) == pytest.approx(total, abs=0.05 * scale)  # smoothed between cells
    # The middle 0.875 of the shorter side is seen, 52.5 of 60 pixels, and as much of the longer.
    assert np.isfinite(why.heatmap).sum() == pytest.approx(52.5**2, rel=0.05)
    assert np.isfinite(why.heatmap[30, 45])
    assert np.isnan(why.heatmap[:, :17]).all()
    assert why.method == method


@pytest.mark.backends
def test_gradients_for_offsets_are_those_of_the_attention_weights():
    model = randomized(depth=((1, 1, 0), (1, 1, 2)))
    opened, shapes = _opened_model(model)
    inputs = images(model, batch=1)
    steps = [np.zeros((len(shapes) + 1, *shape), "float32") for shape in shapes.values()]  # the last is none
    for number, each in enumerate(steps):
        each[number, -1, 0, 2] = 1e-2
    repeated = [np.repeat(each, len(shapes) + 1, axis=0) for each in inputs]
    *changed, unchanged = call(opened, [*repeated, *steps])["logits"]
    np.testing.assert_allclose(unchanged, call(model, inputs)[0], rtol=0, atol=1e-5)

    def score(offsets, images):
        outputs = opened([*images, *offsets])
        return ops.sum(outputs.pop("logits")[:, 1]), outputs

    given = (list(map(ops.convert_to_tensor, each)) for each in ([each[-1:] for each in steps], inputs))
    weights, gradients = _with_gradients(score)(*given)
    assert set(weights) == set(shapes)
    for logits, gradient in zip(changed, gradients, strict=True):
        slope = (logits - unchanged)[1] / 1e-2
        assert slope == pytest.approx(float(gradient[0, -1, 0, 2]), rel=0.05, abs=2e-3)


def test_rollout_is_the_product_of_the_matrices_over_all_tokens():
    config = tiny(5, depth=((1, 1, 0), (1, 1, 0))).config
    random = np.random.default_rng(0)
    tokens = [1 + rows * columns for rows, columns in config.patch_grids]
    maps, wanted = {}, np.eye(sum(tokens))

    def rows_of(count, columns):
        rows = random.random((count, columns))
        return rows / rows.sum(axis=1, keepdims=True)

    starts = (0, tokens[0])
    for stage in range(2):
        for branch, name in enumerate(("small_patch", "large_patch")):
            maps[f"stage_{stage}_{name}_block_0"] = rows_of(tokens[branch], tokens[branch])
            block, span = np.eye(sum(tokens)), slice(starts[branch], starts[branch] + tokens[branch])
            block[span, span] = (np.eye(tokens[branch]) + maps[f"stage_{stage}_{name}_block_0"]) / 2
            wanted = block @ wanted
        fusion = np.eye(sum(tokens))
        for branch in range(2):
            row = maps[fusion_name(stage, branch)] = rows_of(1, tokens[1 - branch])[0]
            fusion[starts[branch], starts[branch]] = (1 + row[0]) / 2
            partner = starts[1 - branch] + 1
            fusion[starts[branch], partner : partner + len(row) - 1] = row[1:] / 2
        wanted = fusion @ wanted
    small, large = propagate(config, {name: each[None] for name, each in maps.items()}, keep=0.5)
    np.testing.assert_allclose(np.concatenate([small[0], large[0]]), wanted[list(starts)].sum(axis=0), atol=1e-6)


@pytest.mark.parametrize("method", ["ablation", "relevance", "occlusion"])
def test_classes_have_different_maps_and_a_pair_is_their_difference(method, model):
    image = photo()
    ant, bee = (kc.explain(model, image, classes=name, method=method) for name in ("ant", 1))
    assert (ant.class_name, bee.class_name) == ("ant", "bee")
    assert np.corrcoef(ant.small_patch.ravel(), bee.small_patch.ravel())[0, 1] < 0.9
    pair = kc.explain(model, image, classes=("ant", "bee"), method=method)
    assert (pair.class_name, pair.against) == ("ant", "bee")
    if method != "relevance":  # which keeps only positive products
        np.testing.assert_allclose(pair.small_patch, ant.small_patch - bee.small_patch, atol=1e-4)


@pytest.mark.parametrize("method", ["ablation", "relevance", "attention", "occlusion"])
def test_other_weights_of_the_last_stage_change_the_map(method):
    model, photos = randomized(img_size=(96, 96)), [photo(96, 96, seed=seed) for seed in range(4)]

    def maps():
        return [each.small_patch.ravel() for each in kc.explain(model, photos, classes=0, method=method)]

    before, random = maps(), np.random.default_rng(5)
    for weight in model.weights:
        if weight.path.startswith("stage_1"):
            weight.assign(random.normal(0, 0.3, weight.shape))
    ranks = [[np.argsort(np.argsort(each)) for each in pair] for pair in zip(before, maps(), strict=True)]
    assert np.abs(np.mean([np.corrcoef(*pair)[0, 1] for pair in ranks])) < 0.3


def test_a_list_or_a_batch_gives_a_list_with_the_same_explanations(model):
    photos = [photo(seed=1), photo(80, 50, seed=2), photo(seed=3)] * 3
    listed = kc.explain(model, photos, method="ablation")
    assert [each.image.shape for each in listed] == [each.shape for each in photos]
    wanted = kc.explain(model, photos[1], method="ablation").small_patch
    (traced,) = Explainer(model, method="ablation").explain(photos[1:2])  # traces, as for a longer list
    for found in (listed[1], traced):
        np.testing.assert_allclose(found.small_patch, wanted, atol=1e-5)
    assert len(kc.explain(model, np.stack([photos[0]] * 2), method="ablation")) == 2


def test_faithfulness_is_that_of_covering_the_cells(model):
    found = kc.explain(model, photo(), method="occlusion").faithfulness
    assert found["deletion"] < found["random_deletion"]
    assert found["insertion"] > found["random_insertion"]
    assert all(0 <= each <= 1 for each in found.values())


def test_half_precision_models_are_explained_in_float32(model):
    half = randomized(dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    wanted, found = (kc.explain(each, photo(), classes=0, method="ablation").small_patch for each in (model, half))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_model_with_lora_can_be_explained():
    model = randomized()
    enable_lora(model, 2)
    require_explanations(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "bea"}, "no class 'bea'; did you mean 'bee'"),
        ({"classes": 5}, "no class 5; use 0 to 4"),
        ({"classes": -1}, "no class -1"),
        ({"classes": ("ant", "ant")}, "neither a class nor a pair"),
        ({"classes": ("ant", "bee", "cat")}, "neither a class nor a pair"),
        ({"method": "ablatoin"}, "did you mean 'ablation'"),
        ({"crop_fraction": 2.0}, "crop_fraction 2"),
    ],
)
def test_mistakes_are_named(arguments, message, model):
    with pytest.raises(kc.CrossViTError, match=message):
        kc.explain(model, photo(), **arguments)


def test_what_is_not_a_model_with_classes_is_refused(model):
    with pytest.raises(ValueError, match="num_classes=0"):
        kc.explain(tiny(0), photo())
    with pytest.raises(TypeError, match="Pass the original model, not a clone"):
        kc.explain(keras.models.clone_model(kc.models.features.single_image(model)), photo())
    with pytest.raises(TypeError, match="Expected a CrossViT, got str"):
        kc.attention_maps("model.keras")


def test_the_picture_shows_both_scales(model, tmp_path):
    why = kc.explain(model, photo(), classes=("ant", "bee"), method="ablation")
    why.save(tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.width > 4 * 300
        colors = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert np.ptp(colors, axis=1).max() > 60  # not only gray


@pytest.fixture
def command(model, tmp_path):
    """A command for two images and a file that is none, by ablation."""
    model.save(tmp_path / "model.keras")
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(photo(seed=i)).save(folder / f"<b>{i}.png")
    (folder / "broken.png").write_bytes(b"broken")
    arguments = ["explain", str(tmp_path / "model.keras"), str(folder), "--output", str(tmp_path / "why")]
    return [*arguments, "--method", "ablation"]


def test_the_command_writes_pictures_and_a_page_and_reports_unreadable_files(command, model, tmp_path, capsys):
    assert cli.main([*command, "--class", "bee", "--against", "cat"]) == 2
    printed = capsys.readouterr()
    assert "broken.png" in printed.out
    assert "Explained 2 of 3 images" in printed.err
    page = (tmp_path / "why" / "explanations.html").read_text()
    assert page.count("data:image/jpeg;base64,") == page.count('alt="bee rather than cat, ') == 2
    assert "&lt;b&gt;0.png" in page
    assert "<b>" not in page
    with Image.open(tmp_path / "why" / "contact_sheet.jpg") as sheet:
        assert sheet.width > 2 * 400 > sheet.height
    for number, picture in enumerate(sorted((tmp_path / "why").glob("_b_*.jpg"))):
        assert picture.name.startswith(f"_b_{number}-")
        wanted = kc.explain(model, photo(seed=number), classes=("bee", "cat"), method="ablation").plot()
        with Image.open(picture) as found:
            assert np.abs(np.asarray(found, "float32") - np.asarray(wanted, "float32")).mean() < 4  # JPEG


def test_an_interrupted_command_resumes_with_the_images_that_have_no_picture(command, tmp_path, monkeypatch, capsys):
    write, images = Gallery.write, tmp_path / "images"

    def write_one(gallery, path, explanation):
        if any(gallery.has(str(each)) for each in images.iterdir()):
            raise KeyboardInterrupt
        write(gallery, path, explanation)

    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "write", write_one)
        assert cli.main(command) == cli.EXIT_INTERRUPTED
    assert "run the same command to resume" in capsys.readouterr().err
    (first,) = (tmp_path / "why").glob("*.jpg")
    written = first.stat().st_mtime_ns
    (images / "broken.png").unlink()
    assert cli.main(command) == 0
    assert "Explained 2 of 2 images" in capsys.readouterr().err
    assert first.stat().st_mtime_ns == written
    assert len(list((tmp_path / "why").glob("_b_*.jpg"))) == 2

    explained = []
    monkeypatch.setattr(Gallery, "write", lambda self, path, explanation: explained.append(path))
    assert cli.main(command) == 0
    assert not explained
    Image.fromarray(photo(seed=9)).save(images / "<b>1.png")
    assert cli.main(command) == 0
    assert explained == [str(images / "<b>1.png")]


def test_a_folder_holds_explanations_of_one_model_and_one_class(command, model, tmp_path, capsys):
    cli.main(command)
    for more, name in ((["--class", "bee"], "classes"), (["--method", "attention"], "method")):
        assert cli.main([*command, *more]) == 2
        assert f"explanations with another {name}" in capsys.readouterr().err
    randomized(name="other").save(tmp_path / "model.keras")
    assert cli.main(command) == 2
    assert "another model sha256" in capsys.readouterr().err
    (tmp_path / "why" / "settings.json").unlink()
    assert cli.main(command) == 2
    assert "already exists" in capsys.readouterr().err


def test_the_command_names_mistakes_in_one_line(model, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    common = ["explain", str(tmp_path / "model.keras"), str(tmp_path / "photo.png"), "--output", str(tmp_path / "why")]
    for more, message in ((["--against", "cat"], "needs --class"), (["--class", "bea"], "did you mean 'bee'")):
        assert cli.main([*common, *more]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "why").exists()
