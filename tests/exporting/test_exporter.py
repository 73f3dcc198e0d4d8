import errno
import os
import re
import shutil
import traceback

import keras
import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting import exporter, onnx_writer
from keras_crossvit.preprocessing.images import read_image
from keras_crossvit.runtimes.formats import FORMATS
from tests.helpers.backends import call
from tests.helpers.exports import (
    CLASSES,
    FILES,
    export_all,
    overflowing_model,
    require_one_partition,
    small_model,
    stored_result,
    write_export,
)
from tests.helpers.models import images

openvino = pytest.importorskip("openvino")

INPUTS = {"small_patch_image", "large_patch_image"}


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export_all(model, tmp_path_factory.mktemp("exported"))


@pytest.mark.parametrize("name", FILES)
def test_export_writes_the_file_and_its_report(name, exported):
    result = exported[name]
    files = {each.name for each in result.path.parent.iterdir()}
    companions = {"model.bin"} if name == "openvino" else set()
    assert files == {result.path.name, f"{result.path.name}.export_report.json"} | companions
    stored = stored_result(result)
    assert stored["relative_rms"] == result.relative_rms <= FORMATS[name].precisions["float32"]
    assert (stored["precision"], stored["quantize"]) == ("float32", None)
    assert stored["same_top1"] == stored["num_images"] == 14
    assert stored["latency_ms"] > 0 < stored["keras_latency_ms"]
    assert all(text in str(result) for text in ("relative rms", "14 of 14", "MB", "latency"))


@pytest.mark.parametrize("name", FILES)
def test_runtime_computes_the_logits_of_any_batch_size(name, exported, model):
    runtime = kc.load_runtime(exported[name].path, threads=1)
    assert runtime.batch_size == FILES[name][1]
    assert (runtime.config, runtime.class_names) == (model.config, CLASSES)
    for batch in (3, 1):
        inputs = images(model, batch=batch, seed=batch)
        # float32 sums in another order, over logits of at most 0.3
        np.testing.assert_allclose(runtime.logits(*inputs), call(model, inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_predict_command_agrees_with_keras(name, exported, model, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype="uint8")).save(tmp_path / "noise.png")
    assert cli.main(["predict", str(exported[name].path), str(tmp_path / "noise.png"), "--format", "csv"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    logits = call(model, kc.preprocess(read_image(tmp_path / "noise.png"), model))
    probabilities = np.exp(logits) / np.exp(logits).sum()
    ((*expected,),) = kc.decode_predictions(probabilities, class_names=CLASSES)
    assert [row[3] for row in rows] == [label for _, label, _ in expected]
    assert [float(row[4]) for row in rows] == pytest.approx([each for *_, each in expected], abs=1e-6)


def test_litert_file_runs_as_one_partition_of_xnnpack(exported):
    require_one_partition(exported["litert"].path)


def test_file_of_both_inputs_refuses_one_image(exported):
    runtime = kc.load_runtime(exported["onnx"].path)
    with pytest.raises(ValueError, match=r"Got 1 inputs.*takes 2 \(small_patch_image, large_patch_image\)"):
        runtime.logits(np.zeros((1, 48, 48, 3), "uint8"))


def test_files_name_their_inputs_and_outputs(exported):
    (signature,) = Interpreter(str(exported["litert"].path)).get_signature_list().items()
    assert signature[0] == "serving_default"
    assert (set(signature[1]["inputs"]), signature[1]["outputs"]) == (INPUTS, ["logits"])
    network = openvino.Core().read_model(exported["openvino"].path)
    assert {each.get_any_name() for each in network.inputs} == INPUTS
    assert [each.get_any_name() for each in network.outputs] == ["logits"]
    assert all(each.get_partial_shape()[0].is_dynamic for each in network.inputs)
    content = onnx.load(exported["onnx"].path)
    onnx.checker.check_model(content, full_check=True)
    assert {each.version for each in content.opset_import if not each.domain} == {18}
    assert {each.name for each in content.graph.input} == INPUTS
    assert [each.name for each in content.graph.output] == ["logits"]
    assert content.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    operations = {node.op_type for node in content.graph.node}
    assert "Erf" in operations
    assert "Erfc" not in operations


def test_openvino_weights_of_another_export_are_refused(tmp_path):
    paths = [tmp_path / name / "model.xml" for name in ("one", "other")]
    for path, class_names in zip(paths, (CLASSES, CLASSES[::-1]), strict=True):
        path.parent.mkdir()
        keras.utils.set_random_seed(len(path.parent.name))
        write_export(small_model(class_names=class_names), path)
        assert kc.load_runtime(path).class_names == class_names
    shutil.copy(paths[1].with_suffix(".bin"), paths[0].with_suffix(".bin"))  # its shapes are the same
    with pytest.raises(ValueError, match=r"one/model\.bin'"):
        kc.load_runtime(paths[0])
    text = paths[0].read_text()
    (entry,) = re.findall(r"<keras_crossvit_weights_sha256 [^>]*>", text)
    paths[0].write_text(text.replace(entry, ""))  # the documented way to allow weights that OpenVINO's tools changed
    assert kc.load_runtime(paths[0]).class_names == CLASSES


@pytest.mark.parametrize("name", FILES)
def test_damaged_and_foreign_files_are_refused(name, exported, tmp_path):
    source = exported[name].path
    shutil.copytree(source.parent, tmp_path / "copy")
    file = tmp_path / "copy" / source.name
    content = file.read_bytes()
    file.write_bytes(content.replace(b"keras_crossvit", b"keras_somewhat"))
    with pytest.raises(ValueError, match="does not describe a CrossViT"):
        kc.load_runtime(file)
    for kept in (len(content) // 2, 0):
        file.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=f"'.*{source.name}'.* not a complete"):
            kc.load_runtime(file)


@pytest.fixture
def stand_in(monkeypatch):
    """Replaces conversion and fresh process; returns what decides on their outcome."""
    outcome = {"error": None, "off_by": 0.0}

    def convert(model, path, options):
        path.write_text("half a file")
        if outcome["error"] is not None:
            raise outcome["error"]

    def run(path, inputs):
        return {"logits": call(outcome["model"], list(inputs.values())) * (1 + outcome["off_by"])}

    monkeypatch.setattr(exporter, "convert", convert)
    monkeypatch.setattr(exporter, "run_file", run)
    return outcome


@pytest.mark.parametrize(
    ("outcome", "error", "message"),
    [
        ({"off_by": 1e-3}, RuntimeError, r"'.*model.onnx' .* 0.001, .*1e-05"),
        ({"off_by": float("nan")}, RuntimeError, "nan"),
        ({"error": OSError(errno.ENOSPC, "No space left on device")}, OSError, "No space left"),
        ({"error": KeyboardInterrupt()}, KeyboardInterrupt, None),
    ],
)
def test_failed_export_leaves_nothing(outcome, error, message, stand_in, model, tmp_path):
    stand_in.update(model=model, **outcome)
    with pytest.raises(error, match=message):
        kc.export(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_converter_that_fails_shows_its_own_output(tmp_path, monkeypatch):
    def fail(*arguments):
        os.write(2, b"E0000 cannot lower operation Erfc")
        raise RuntimeError("conversion failed")

    kc.save_checkpoint(small_model(), tmp_path / "model.keras")
    monkeypatch.setattr(onnx_writer, "write", fail)
    with pytest.raises(RuntimeError, match="conversion failed") as raised:  # not a user's mistake: with its traceback
        cli.main(["export", str(tmp_path / "model.keras"), str(tmp_path / "model.onnx")])
    assert "E0000 cannot lower operation Erfc" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("file", ["model.onnx", "model"])
def test_model_whose_logits_are_not_finite_is_refused(file, tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        kc.export(overflowing_model(), tmp_path / file, format=None if "." in file else "saved_model")
    assert not any(each.is_file() for each in tmp_path.rglob("*"))


def test_existing_file_is_kept_without_overwrite_and_after_a_failure(stand_in, model, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_text("precious")
    with pytest.raises(FileExistsError, match=r"model.onnx' .*--overwrite"):
        kc.export(model, file)
    stand_in.update(model=model, off_by=1.0)
    with pytest.raises(RuntimeError, match="error of 1,"):
        kc.export(model, file, overwrite=True)
    assert file.read_text() == "precious"


def test_existing_openvino_weights_are_kept_without_overwrite(model, tmp_path):
    (tmp_path / "pets.bin").write_text("precious")
    with pytest.raises(FileExistsError, match=r"pets.bin' .*--overwrite"):
        kc.export(model, tmp_path / "pets.xml")
    assert [each.name for each in tmp_path.iterdir()] == ["pets.bin"]


def test_folder_with_the_name_of_the_file_is_refused(model, tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(FileExistsError, match=r"model.onnx' is a folder"):
        kc.export(model, tmp_path / "model.onnx", overwrite=True)


def test_folder_that_cannot_be_written_is_named(stand_in, model):
    with pytest.raises(OSError, match="/proc/nowhere"):
        kc.export(model, "/proc/nowhere/model.onnx")
