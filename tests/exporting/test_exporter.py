"""The export of every format: what lies there afterwards, what runs it, and what it refuses."""

import errno
import importlib
import json
import re
import shutil

import keras
import numpy as np
import onnx
import openvino
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import keras_crossvit as kc
from keras_crossvit import export
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting import exporter, litert_writer
from keras_crossvit.exporting import openvino as openvino_writer
from keras_crossvit.exporting.formats import FORMATS
from keras_crossvit.exporting.tracing import in_float32
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.runtimes.metadata import metadata_of
from tests.helpers.backends import call
from tests.helpers.exports import (
    CLASSES,
    FILES,
    export_all,
    overflowing_model,
    require_one_partition,
    small_model,
    stored_report,
)
from tests.helpers.models import images
from tests.helpers.processes import run_python

INPUTS = {"small_patch_image", "large_patch_image"}


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export_all(model, tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize("name", FILES)
def test_artefact_lies_there_with_its_report_alone(name, exported):
    report = exported[name]
    files = {each.name for each in report.path.parent.iterdir()}
    companions = {"model.bin"} if name == "openvino" else set()
    assert files == {report.path.name, f"{report.path.name}.export_report.json"} | companions
    stored = stored_report(report)
    assert stored["relative_rms"] == report.relative_rms <= FORMATS[name].tolerances[None]
    assert stored["agreeing"] == stored["compared"] == 14
    assert stored["milliseconds"] > 0 < stored["keras_milliseconds"]
    assert all(figure in str(report) for figure in ("relative rms", "14 of 14", "MB", "latency"))


@pytest.mark.parametrize("name", FILES)
def test_runtime_gives_the_logits_of_any_batch_size(name, exported, model):
    runtime = kc.load_runtime(exported[name].path, threads=1)
    assert runtime.batch_size == FILES[name][1]
    assert (runtime.config, runtime.class_names) == (model.config, CLASSES)
    for batch in (3, 1):
        inputs = images(model, batch=batch, seed=batch)
        # float32 sums in another order, over logits of at most 0.3
        np.testing.assert_allclose(runtime.logits(*inputs), call(model, inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_predict_command_says_what_keras_says(name, exported, model, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype="uint8")).save(tmp_path / "noise.png")
    assert cli.main(["predict", str(exported[name].path), str(tmp_path / "noise.png"), "--format", "csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    logits = call(model, kc.preprocess(read_image(tmp_path / "noise.png"), model))
    probabilities = np.exp(logits) / np.exp(logits).sum()
    ((*expected,),) = kc.decode_predictions(probabilities, class_names=CLASSES)
    assert [row[3] for row in rows] == [label for _, label, _ in expected]
    assert [float(row[4]) for row in rows] == pytest.approx([each for *_, each in expected], abs=1e-6)


@pytest.mark.parametrize("batch_size", [FILES["litert"][1], None])
def test_litert_file_is_one_partition_of_xnnpack_with_no_operation_left_over(batch_size, exported, model, tmp_path):
    path = exported["litert"].path
    if batch_size is None:
        path = tmp_path / "dynamic.tflite"
        litert_writer.write(in_float32(model), path, metadata_of(model), quantize=None, batch_size=None)
    require_one_partition(path)


def test_litert_signature_has_our_names(exported):
    (signature,) = Interpreter(str(exported["litert"].path)).get_signature_list().items()
    assert signature[0] == "serving_default"
    assert (set(signature[1]["inputs"]), signature[1]["outputs"]) == (INPUTS, ["logits"])


def test_onnx_file_is_clean_and_has_our_names(exported):
    content = onnx.load(exported["onnx"].path)
    onnx.checker.check_model(content, full_check=True)
    assert {each.version for each in content.opset_import if not each.domain} == {18}
    assert {each.name for each in content.graph.input} == INPUTS
    assert [each.name for each in content.graph.output] == ["logits"]
    assert content.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "images"
    operations = [node.op_type for node in content.graph.node]
    assert "Erf" in operations
    assert "Erfc" not in operations


def test_openvino_model_has_our_names_and_takes_any_batch(exported):
    content = openvino.Core().read_model(exported["openvino"].path)
    assert {each.get_any_name() for each in content.inputs} == INPUTS
    assert [each.get_any_name() for each in content.outputs] == ["logits"]
    assert all(each.get_partial_shape()[0].is_dynamic for each in content.inputs)


def test_openvino_weights_of_another_export_are_told(model, tmp_path):
    paths = [tmp_path / name / "model.xml" for name in ("one", "other")]
    for path, class_names in zip(paths, (CLASSES, CLASSES[::-1]), strict=True):
        path.parent.mkdir()
        keras.utils.set_random_seed(len(path.parent.name))
        other = small_model(class_names=class_names)
        openvino_writer.write(in_float32(other), path, metadata_of(other), quantize=None, batch_size=None)
        assert kc.load_runtime(path).class_names == class_names
    shutil.copy(paths[1].with_suffix(".bin"), paths[0].with_suffix(".bin"))  # which fits: it is of equal shapes
    with pytest.raises(ValueError, match=r"one/model\.bin' is not the \.bin that 'model\.xml' was written with"):
        kc.load_runtime(paths[0])
    text = paths[0].read_text()
    (entry,) = re.findall(r"<keras_crossvit_weights_sha256 [^>]*>", text)
    paths[0].write_text(text.replace(entry, ""))  # as earlier versions have written it
    assert kc.load_runtime(paths[0]).class_names == CLASSES


@pytest.mark.parametrize(
    ("name", "libraries"), [("litert", ["ai_edge_litert"]), ("openvino", ["openvino"]), ("onnx", ["onnxruntime"])]
)
def test_file_is_run_where_nothing_but_its_runtime_numpy_and_pillow_is_found(name, libraries, exported, tmp_path):
    Image.new("RGB", (60, 70), "teal").save(tmp_path / "teal.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "program.py").write_text(PROGRAM_WITHOUT_KERAS)
    absent = {"keras", "tensorflow", "h5py", "safetensors", "sklearn", "onnx", *RUNTIME_LIBRARIES} - set(libraries)
    arguments = [",".join(absent), exported[name].path, "teal.png", "empty.png"]
    done = run_python(tmp_path / "program.py", *arguments, cwd=tmp_path)
    *lines, end = done.stdout.splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["teal.png"]
    assert end == "2 keras_crossvit.crossvit_9 needs keras, which is not installed; run: pip install keras_crossvit"
    assert "empty.png" in done.stderr
    assert "1 of 2 pictures could not be read" in done.stderr


RUNTIME_LIBRARIES = ("ai_edge_litert", "onnxruntime", "openvino")
PROGRAM_WITHOUT_KERAS = """
import sys
absent = sys.argv.pop(1).split(",")
for name in absent:
    sys.modules[name] = None
import keras_crossvit as kc
from keras_crossvit.cli import main as cli
code = cli.main(["predict", *sys.argv[1:], "--format", "jsonl"])
assert not [name for name, module in sys.modules.items() if module and name.split(".")[0] in absent]
try:
    kc.crossvit_9
except ModuleNotFoundError as error:
    print(code, error)
"""


@pytest.mark.parametrize("name", FILES)
def test_broken_and_foreign_files_are_one_clear_line(name, exported, tmp_path):
    source = exported[name].path
    shutil.copytree(source.parent, tmp_path / "copy")
    file = tmp_path / "copy" / source.name
    content = file.read_bytes()
    file.write_bytes(content.replace(b"keras_crossvit", b"keras_somewhat"))
    with pytest.raises(ValueError, match="does not say that it holds a CrossViT"):
        kc.load_runtime(file)
    for kept in (len(content) // 2, 0):
        file.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=f"'.*{source.name}'.* no whole .*; write"):
            kc.load_runtime(file)


@pytest.fixture
def quick(monkeypatch):
    """An export whose conversion and process are stood in for; returns what decides on their answers."""
    requests = {"error": None, "off_by": 0.0}

    def write(model, path, metadata, **options):
        path.write_text("half a file")
        if requests["error"] is not None:
            raise requests["error"]

    def run(script, path, inputs):
        return {"logits": call(requests["model"], list(inputs.values())) * (1 + requests["off_by"])}

    monkeypatch.setattr(importlib.import_module("keras_crossvit.exporting.onnx_writer"), "write", write)
    monkeypatch.setattr(exporter, "run_script", run)
    return requests


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        ({"off_by": 1e-3}, RuntimeError, r"'model.onnx' are off by 0.001 .*more than 1e-05.*nothing was written"),
        ({"off_by": float("nan")}, RuntimeError, "off by nan"),
        ({"error": OSError(errno.ENOSPC, "No space left on device")}, OSError, "No space left"),
        ({"error": KeyboardInterrupt()}, KeyboardInterrupt, None),
    ],
)
def test_failed_export_leaves_nothing(wish, error, message, quick, model, tmp_path):
    quick.update(model=model, **wish)
    with pytest.raises(error, match=message):
        export(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["model.onnx", "model"])
def test_model_whose_logits_are_not_finite_is_refused_before_any_work(file, tmp_path):
    with pytest.raises(ValueError, match=r"logits of image 0 hold .*, which is not finite"):
        export(overflowing_model(), tmp_path / file, format=None if "." in file else "saved_model")
    assert not any(each.is_file() for each in tmp_path.rglob("*"))


def test_existing_file_is_replaced_on_request_alone(quick, model, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_text("precious")
    with pytest.raises(FileExistsError, match=r"is there already; .*--overwrite"):
        export(model, file)
    quick.update(model=model, off_by=1.0)
    with pytest.raises(RuntimeError, match="off by 1 "):
        export(model, file, overwrite=True)
    assert file.read_text() == "precious"


def test_folder_of_the_file_s_name_is_named_before_the_work(model, tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(FileExistsError, match=r"' is a folder, where a file is to be written; choose another name"):
        export(model, tmp_path / "model.onnx", overwrite=True)


def test_weights_of_another_s_beside_the_file_are_no_more_replaced(model, tmp_path):
    (tmp_path / "pets.bin").write_text("precious")
    with pytest.raises(FileExistsError, match=r"pets.bin' is there already; .*--overwrite"):
        export(model, tmp_path / "pets.xml")
    assert [each.name for each in tmp_path.iterdir()] == ["pets.bin"]
    assert (tmp_path / "pets.bin").read_text() == "precious"


def test_place_that_cannot_be_written_is_named_before_the_work(quick, model):
    with pytest.raises(OSError, match="/proc/nowhere"):
        export(model, "/proc/nowhere/model.onnx")


def test_function_and_room_of_its_name_are_both_there():
    from keras_crossvit.exporting import export_saved_model

    importlib.import_module("keras_crossvit.exporting.litert_writer")
    assert callable(export_saved_model)
    assert kc.export is export
    assert callable(kc.export)
