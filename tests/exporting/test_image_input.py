"""Exports that take one image: they normalise it and make the second input themselves."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.explaining.runtime_explainer import RuntimeExplainer
from keras_crossvit.exporting import exporter
from keras_crossvit.runtimes.metadata import metadata_of
from tests.helpers.backends import call
from tests.helpers.exports import CLASSES, confident_model, require_one_partition, small_model, write_export
from tests.helpers.models import images

pytest.importorskip("openvino")
FILES = {"litert": "model.tflite", "openvino": "model.xml", "onnx": "model.onnx"}
OUTPUTS = ("logits", "explanation")


@pytest.fixture(scope="module")
def model():
    return confident_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """Files by format, written with all checks."""
    folder = tmp_path_factory.mktemp("exported")
    sizes = {"litert": "dynamic", "openvino": None, "onnx": 2}  # three images are not divisible by a batch size of 2
    return {name: kc.export(model, folder / FILES[name], inputs="image", batch_size=sizes[name]) for name in FILES}


def photos(count=3):
    return list(np.random.default_rng(0).integers(0, 256, (count, 60, 70, 3), dtype="uint8"))


@pytest.mark.parametrize("name", FILES)
def test_file_of_an_image_gives_the_logits_and_probabilities_of_keras(name, exported, model):
    runtime = kc.load_runtime(exported[name].path, threads=1)
    assert runtime.batch_size == (2 if name == "onnx" else None)
    inputs = kc.preprocess(photos(), runtime)
    assert [(each.shape, each.dtype) for each in inputs] == [((3, 48, 48, 3), "uint8")]
    wanted = call(model, kc.preprocess(photos(), model))
    found = runtime.outputs(*inputs)
    # float32 sums in another order, over logits of about 1
    np.testing.assert_allclose(found["logits"], wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], runtime.probabilities_of(wanted), rtol=0, atol=1e-5)
    assert exported[name].relative_rms <= 1e-5


@pytest.mark.parametrize(
    ("name", "options", "batch_size", "fraction"),
    [
        ("litert", {"precision": "float16"}, None, None),  # most of so small a file is the graph
        ("litert", {"quantize": "dynamic-int8"}, 1, None),
        ("openvino", {"precision": "float16"}, 2, 0.55),
        ("openvino", {"precision": "bfloat16"}, None, 0.55),
        ("openvino", {"quantize": "int8-weights"}, None, 0.4),
    ],
)
def test_each_precision_stays_within_its_tolerance(name, options, batch_size, fraction, model, tmp_path):
    wanted = call(model, kc.preprocess(photos(), model))
    errors = {}
    for kind in ("image", "tensors"):
        path = write_export(model, tmp_path / FILES[name], inputs=kind, batch_size=batch_size or "dynamic", **options)
        runtime = kc.load_runtime(path, threads=1)
        assert runtime.batch_size == batch_size
        # three images are not divisible by a batch size of 2
        errors[kind] = exporter.relative_rms(runtime.logits(*kc.preprocess(photos(), runtime)), wanted)
        if name == "litert":
            require_one_partition(path)
    assert max(errors.values()) <= exporter.resolve_options(path, **options).tolerance
    assert errors["tensors"] > 1e-5
    assert errors["image"] <= 2 * errors["tensors"] + 1e-5  # float16 also rounds what normalises and resizes
    if fraction is not None:
        assert path.with_suffix(".bin").stat().st_size < fraction * 4 * model.count_params()


def test_litert_file_is_one_partition_with_a_uint8_input(exported):
    path = exported["litert"].path
    require_one_partition(path)
    signature = Interpreter(str(path)).get_signature_runner()
    (details,) = signature.get_input_details().items()
    assert (details[0], details[1]["dtype"], details[1]["quantization"]) == ("image", np.uint8, (1.0, 0))
    assert set(signature.get_output_details()) == {"logits", "probabilities"}


def test_wrong_probabilities_are_not_exported(model, tmp_path, monkeypatch):
    def run(path, tensors):
        logits = call(model, kc.preprocess(list(tensors["image"]), model, crop_fraction=1.0))
        return {"logits": logits, "probabilities": np.full_like(logits, 0.2)}

    monkeypatch.setattr(exporter, "convert", lambda model, path, options: path.write_text("a file"))
    monkeypatch.setattr(exporter, "run_file", run)
    with pytest.raises(RuntimeError, match=r"probabilities of .*model\.onnx' .*1e-05"):
        kc.export(model, tmp_path / "model.onnx", inputs="image", images=photos())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "activation", "wrap"),
    [
        ("litert", None, kc.single_image),
        ("openvino", "sigmoid", lambda model: model),
        ("onnx", "softmax", kc.single_image),
    ],
)
def test_image_input_with_explanations_and_the_probabilities_of_the_model(name, activation, wrap, tmp_path):
    model = confident_model(classifier_activation=activation)
    result = kc.export(wrap(model), tmp_path / FILES[name], inputs="image", outputs=OUTPUTS, images=photos())
    runtime = kc.load_runtime(result.path)
    assert runtime.input_names == ("image",)
    inputs = kc.preprocess(photos(), runtime)
    found = runtime.explanations(*inputs)
    probabilities = runtime.outputs(*inputs)["probabilities"]
    np.testing.assert_allclose(probabilities, runtime.probabilities(*inputs), rtol=0, atol=1e-6)
    why = kc.explain(model, photos(), method="ablation")
    wanted = np.stack([each.small_patch for each in why])
    np.testing.assert_allclose(found["small_patch_explanation"], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    (drawn,) = RuntimeExplainer(runtime).explain(photos(1))
    np.testing.assert_allclose(drawn.heatmap, why[0].heatmap, rtol=0, atol=1e-4 * np.nanmax(np.abs(why[0].heatmap)))
    for curve, area in why[0].faithfulness.items():
        # Here the second input is made of the covered first one, so its cells have blurred edges.
        assert drawn.faithfulness[curve] == pytest.approx(area, abs=0.05)
    if name == "litert":
        require_one_partition(result.path)


@pytest.mark.parametrize("name", FILES)
def test_model_of_single_image_takes_the_first_input(name, model, tmp_path):
    kc.export(kc.single_image(model), tmp_path / FILES[name], images=photos())
    runtime = kc.load_runtime(tmp_path / FILES[name])
    assert (runtime.input_names, runtime.class_names) == (("small_patch_image",), CLASSES)
    inputs = kc.preprocess(photos(), runtime)
    np.testing.assert_allclose(runtime.logits(*inputs), call(kc.single_image(model), inputs[0]), rtol=0, atol=1e-5)
    if name == "litert":
        require_one_partition(tmp_path / FILES[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: [image.astype("float32")], "image has dtype float32.* uint8"),
        (lambda image: [image[:, 1:]], r"\(3, 47, 48, 3\).* 48, 48, 3\)"),
        (lambda image: [image[0]], r"shape \(48, 48, 3\)"),
        (lambda image: [image[:0]], "batch is empty"),
        (lambda image: images(small_model()), r"Got 2 inputs.*takes 1 \(image\)"),
    ],
)
def test_invalid_images_are_errors(change, message, exported):
    runtime = kc.load_runtime(exported["onnx"].path)
    with pytest.raises(ValueError, match=message) as error:
        runtime.logits(*change(*kc.preprocess(photos(), runtime)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda model: model, {"format": "saved_model", "inputs": "image"}, "signature single_image"),
        (lambda model: model, {"format": "saved_model", "inputs": "picture"}, "inputs 'picture'"),
        (kc.single_image, {"format": "saved_model"}, "signature single_image"),
    ],
)
def test_inputs_that_cannot_be_had_are_refused(make, options, message, model, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        kc.export(make(model), tmp_path / "model", **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_float_images_are_rounded_for_a_file_of_an_image(exported):
    runtime = kc.load_runtime(exported["onnx"].path)
    gray = [each // 4 + 96 for each in photos()]  # for which the bicubic stays within 0 to 255
    (rounded,) = kc.preprocess([each.astype("float32") for each in gray], runtime)
    (exact,) = kc.preprocess(gray, runtime)
    assert rounded.dtype == "uint8"
    assert np.abs(rounded.astype(int) - exact).max() <= 1  # Pillow rounds uint8 after each axis


def test_unknown_kind_of_inputs_is_refused(model):
    text = metadata_of(model, inputs="image").to_json()
    with pytest.raises(ValueError, match="does not describe"):
        kc.runtimes.metadata.Metadata.from_json(text.replace('"inputs": "image"', '"inputs": "sound"'), "file")


def test_commands_take_a_file_of_an_image(model, tmp_path, capsys):
    kc.save_checkpoint(model, tmp_path / "model.keras")
    words = ["export", str(tmp_path / "model.keras"), str(tmp_path / "model.tflite"), "--inputs", "image"]
    assert cli.main(words) == 0
    for number, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.fromarray(photos(5)[number]).save(tmp_path / "images" / name / "photo.png")
    capsys.readouterr()
    printed = []
    for file in ("model.keras", "model.tflite"):
        assert cli.main(["predict", str(tmp_path / file), str(tmp_path / "images"), "--output-format", "csv"]) == 0
        printed.append([line.split(",")[:4] for line in capsys.readouterr().out.splitlines()])
        assert cli.main(["evaluate", str(tmp_path / file), str(tmp_path / "images"), "--json"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[2]
    assert len(printed[0]) > len(CLASSES)
