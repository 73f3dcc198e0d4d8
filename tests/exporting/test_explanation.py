"""Exports with grids and calibration: every format gives the grids of `explain` and the model's probabilities."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.exporting import exporter
from keras_crossvit.exporting.options import resolve_options
from keras_crossvit.exporting.tracing import exported_model
from keras_crossvit.preprocessing.calibration import Calibration
from keras_crossvit.preprocessing.predictions import softmax
from tests.helpers.exports import CLASSES, confident_model, require_one_partition, small_model
from tests.helpers.processes import run_python

OUTPUTS = ("logits", "explanation")
CALIBRATION = Calibration(temperature=2.5, threshold=0.6)
FILES = {
    "litert": ("model.tflite", {"batch_size": 2}),
    "openvino": ("model.xml", {"precision": "float16"}),
    "onnx": ("model.onnx", {}),
    "saved_model": ("model", {"format": "saved_model"}),
}


@pytest.fixture(scope="module")
def model():
    return confident_model(calibration=CALIBRATION)


@pytest.fixture(scope="module")
def litert(model, tmp_path_factory):
    return _export("litert", model, tmp_path_factory.mktemp("litert"))


def _export(name, model, folder):
    file, options = FILES[name]
    return kc.export(model, folder / file, outputs=OUTPUTS, images=photos(), **options)


def photos():
    return list(np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype="uint8"))


@pytest.mark.parametrize("name", FILES)
def test_file_gives_the_logits_and_grids_of_explain_and_calibrated_probabilities(name, model, tmp_path, request):
    if name == "openvino":
        pytest.importorskip("openvino")
    result = request.getfixturevalue("litert") if name == "litert" else _export(name, model, tmp_path)
    # float16 rounds weights by 2 ** -11 of their size, over some five products in a row
    tolerance = 5e-3 if result.precision == "float16" else 1e-4
    assert result.explanation_rms <= tolerance
    assert f"explanation error    {result.explanation_rms:.2g}" in str(result)
    runtime = kc.load_runtime(result.path, threads=1)
    assert runtime.metadata.outputs == OUTPUTS
    inputs = kc.preprocess(photos(), runtime)
    found = runtime.explanations(*inputs)
    np.testing.assert_array_equal(found["logits"], runtime.logits(*inputs))
    wanted = softmax(found["logits"] / CALIBRATION.temperature)
    assert runtime.calibration == CALIBRATION
    np.testing.assert_allclose(runtime.probabilities(*inputs), wanted, rtol=0, atol=1e-6)
    if name == "saved_model":
        serve = tf.saved_model.load(str(result.path)).signatures["serving_default"]
        served = serve(**dict(zip(runtime.input_names, map(tf.constant, inputs), strict=True)))
        np.testing.assert_allclose(served["probabilities"], wanted, rtol=0, atol=1e-6)
    why = kc.explain(model, photos(), method="ablation")
    assert [CLASSES[i] for i in found["logits"].argmax(axis=1)] == [each.class_name for each in why]
    for scale in ("small_patch", "large_patch"):
        grids = found[f"{scale}_explanation"]
        assert (grids.dtype, grids.shape) == ("float32", (3, *getattr(why[0], scale).shape))
        wanted = np.stack([getattr(each, scale) for each in why])
        np.testing.assert_allclose(grids, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
    if name == "litert":
        require_one_partition(result.path)


def test_predict_writes_pictures_without_keras(litert, model, tmp_path):
    (tmp_path / "images").mkdir()
    for number, each in enumerate(photos()):
        Image.fromarray(each).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"broken")
    program = """
import sys
from keras_crossvit.cli import main as cli
code = cli.main(["predict", sys.argv[1], "images", "--explain", "why", "--top", "1", "--format", "csv"])
print(code, sorted({"keras", "matplotlib", "tensorflow"} & sys.modules.keys()))
"""
    for _ in range(2):  # the second keeps the pictures of the first
        done = run_python("-c", program, litert.path, cwd=tmp_path)
        _, *lines, end = done.stdout.splitlines()
        assert (len(lines), end) == (3, "2 []")
        assert "broken.png" in done.stderr
        pictures = sorted((tmp_path / "why").glob("?-*.jpg"))
        assert [each.name[:2] for each in pictures] == ["0-", "1-", "2-"]
    for line, picture, why in zip(lines, pictures, kc.explain(model, photos(), method="ablation"), strict=True):
        assert why.class_name in line
        with Image.open(picture) as found:
            assert np.abs(np.asarray(found, "float32") - np.asarray(why.plot(), "float32")).mean() < 4  # JPEG
    page = (tmp_path / "why" / "explanations.html").read_text()
    assert page.count("data:image/jpeg;base64,") == page.count('%, by ablation"') == 3


def test_wrong_grids_are_not_exported(model, tmp_path, monkeypatch):
    def run(path, tensors):
        images = [np.asarray(each) for each in tensors.values()]
        outputs = exported_model(model, resolve_options(tmp_path / "model.onnx", outputs=OUTPUTS))(images)
        outputs = {name: keras.ops.convert_to_numpy(each) for name, each in outputs.items()}
        return {**outputs, "large_patch_explanation": 1.1 * outputs["large_patch_explanation"]}

    monkeypatch.setattr(exporter, "convert", lambda model, path, options: path.write_text("a file"))
    monkeypatch.setattr(exporter, "run_file", run)
    with pytest.raises(RuntimeError, match=r"explanations of .*model\.onnx' .*0\.001"):
        kc.export(model, tmp_path / "model.onnx", outputs=OUTPUTS, images=photos())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": ("explanation",)}, r"\('explanation',\)"),
        ({"outputs": "logits"}, "'logits' is not supported"),
        ({"outputs": OUTPUTS, "quantize": "dynamic-int8"}, "dynamic-int8.*float32 or float16"),
    ],
)
def test_outputs_that_cannot_be_had_are_refused(arguments, message, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        kc.export(model, tmp_path / "model.tflite", **arguments)


def test_model_without_classes_has_nothing_to_explain(tmp_path):
    model = small_model(num_classes=0, class_names=None)
    with pytest.raises(ValueError, match="num_classes=0"):
        kc.export(model, tmp_path / "model", format="saved_model", outputs=OUTPUTS)


def test_wrapper_of_a_model_is_refused(model, tmp_path):
    with pytest.raises(TypeError, match="Expected a CrossViT"):
        kc.export(kc.feature_extractor(model), tmp_path / "model.onnx", outputs=OUTPUTS)
