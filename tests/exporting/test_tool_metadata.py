"""What tools of the formats' own ecosystems read from exported files: descriptions, names and options."""

import json
import zipfile

import flatbuffers.table
import numpy as np
import onnxruntime
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import keras_crossvit as kc
from keras_crossvit.exporting.litert_metadata import metadata_table
from keras_crossvit.exporting.tool_metadata import labels, model_info
from keras_crossvit.preprocessing.predictions import imagenet_classes
from keras_crossvit.runtimes.metadata import metadata_of
from tests.helpers.exports import small_model, write_export

NAMES = ("red ant", "bee", "large\ncat", "dog", "émeu")
LABELS = ["red ant", "bee", "large cat", "dog", "émeu"]
MODEL_INFO = {
    "model_type": "Classification",
    "multilabel": "False",
    "reverse_input_channels": "True",
    "resize_type": "crop",
    "topk": "5",
    "labels": "red_ant bee large_cat dog émeu",
}


def described(*, inputs="image", outputs=("logits",), **arguments):
    return metadata_of(small_model(**{"class_names": NAMES, **arguments}), outputs, inputs)


def test_labels_are_one_line_each():
    assert labels(described()) == LABELS
    assert labels(described(class_names=None)) is None
    assert labels(described(class_names=["a", "b\x01", " ", "d", "e"])) == ["a", r"b\x01", "class 2", "d", "e"]


def test_a_thousand_unnamed_classes_are_those_of_imagenet():
    assert labels(described(num_classes=1000, class_names=None)) == [name for _, name in imagenet_classes()]


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        ({}, {}),
        ({"classifier_activation": "sigmoid"}, {"multilabel": "True"}),
        ({"img_size": ((48, 60), 32)}, {"resize_type": "standard"}),
        ({"num_classes": 2, "class_names": ["a", "b c"]}, {"topk": "2", "labels": "a b_c"}),
        (
            {"inputs": "normalized_image"},
            {"mean_values": "123.675 116.28 103.53", "scale_values": "58.395 57.12 57.375"},
        ),
    ],
)
def test_model_api_gets_the_options_of_the_model(arguments, difference):
    assert model_info(described(**arguments)) == MODEL_INFO | difference


@pytest.mark.parametrize(
    "arguments",
    [
        {"inputs": "tensors"},
        {"outputs": ("logits", "explanation")},
        {"in_channels": 1},
        {"num_classes": 1, "class_names": ["dog"]},
        {"classifier_activation": "tanh"},
    ],
)
def test_model_api_gets_no_options_for_files_that_it_would_misread(arguments):
    assert model_info(described(**arguments)) == {}


class Table(flatbuffers.table.Table):
    """Reads a table by the positions of its fields in the schema."""

    def at(self, slot):
        offset = self.Offset(4 + 2 * slot)
        assert offset, slot
        return offset

    def text(self, slot):
        return self.String(self.at(slot) + self.Pos).decode()

    def number(self, slot, flags):
        return self.Get(flags, self.at(slot) + self.Pos)

    def table(self, slot):
        return Table(self.Bytes, self.Indirect(self.at(slot) + self.Pos))

    def tables(self, slot):
        offset = self.at(slot)
        start = self.Vector(offset)
        return [Table(self.Bytes, self.Indirect(start + 4 * i)) for i in range(self.VectorLen(offset))]

    def floats(self, slot):
        offset = self.at(slot)
        start = self.Vector(offset)
        return [self.Get(flatbuffers.number_types.Float32Flags, start + 4 * i) for i in range(self.VectorLen(offset))]


def root(content):
    assert content[4:8] == b"M001"
    return Table(content, int.from_bytes(content[:4], "little"))


def images_of(content):
    """Returns (name, color space, width, height, mean, std) of each input."""
    found = []
    for tensor in root(content).tables(3)[0].tables(2):
        content, (unit,) = tensor.table(3), tensor.tables(4)
        byte, uint = flatbuffers.number_types.Uint8Flags, flatbuffers.number_types.Uint32Flags
        assert (content.number(0, byte), unit.number(0, byte)) == (2, 1)  # ImageProperties, NormalizationOptions
        image, size, options = content.table(1), content.table(1).table(1), unit.table(1)
        sides = [size.number(slot, uint) for slot in (0, 1)]
        found.append((tensor.text(0), image.number(0, byte), *sides, options.floats(0), options.floats(1)))
    return found


def test_litert_table_describes_a_uint8_image():
    content = metadata_table(described(img_size=((48, 60), 32)), ["logits", "probabilities"])
    assert (root(content).text(0), root(content).text(7)) == ("crossvit_9_dagger", "1.0.0")
    assert images_of(content) == [("image", 1, 60, 48, [0, 0, 0], [1, 1, 1])]
    outputs = root(content).tables(3)[0].tables(3)
    assert [each.text(0) for each in outputs] == ["logits", "probabilities"]
    for output in outputs:
        (file,) = output.tables(6)
        assert (file.text(0), file.number(2, flatbuffers.number_types.Uint8Flags)) == ("labels.txt", 2)  # axis labels


def test_litert_table_says_how_both_inputs_are_normalised():
    content = metadata_table(described(inputs="tensors", in_channels=1, class_names=None), ["logits"])
    images = images_of(content)
    assert [each[:4] for each in images] == [("small_patch_image", 2, 48, 48), ("large_patch_image", 2, 32, 32)]
    pixels = np.full((1, 48, 48, 1), 100, "uint8")
    for inputs, (*_, mean, std) in zip(kc.preprocess(pixels, small_model(in_channels=1)), images, strict=True):
        np.testing.assert_allclose(inputs, (100 - mean[0]) / std[0], rtol=1e-5)
    (output,) = root(content).tables(3)[0].tables(3)
    assert not output.Offset(4 + 2 * 6)  # no file of labels


def test_file_for_onnx_runtime(tmp_path):
    model = small_model(class_names=NAMES)
    for inputs in ("image", "tensors"):
        path = write_export(model, tmp_path / f"{inputs}.onnx", inputs=inputs)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        facts, properties = session.get_modelmeta(), session.get_modelmeta().custom_metadata_map
        assert (facts.producer_name, facts.graph_name) == ("keras_crossvit", model.name)
        assert facts.description == facts.graph_description
        assert "5 classes" in facts.description
        assert json.loads(properties["labels"]) == LABELS
        assert session.get_inputs()[0].shape[0] == "batch"
        found = {key.removeprefix("model_info "): text for key, text in properties.items() if "model_info" in key}
        assert found == (MODEL_INFO if inputs == "image" else {})
    assert json.loads(properties["mean"]) == [0.485, 0.456, 0.406]
    assert json.loads(properties["std"]) == [0.229, 0.224, 0.225]


def test_file_for_model_api(tmp_path, monkeypatch):
    openvino = pytest.importorskip("openvino")  # which reports that it is imported, unless its user has opted out
    telemetry = pytest.importorskip("openvino_telemetry").Telemetry
    sent = []
    monkeypatch.setattr(telemetry, "send_event", lambda self, *event, **options: sent.append(event))
    model = small_model(class_names=NAMES)
    for inputs in ("image", "tensors"):
        read = openvino.Core().read_model(write_export(model, tmp_path / f"{inputs}.xml", inputs=inputs))
        assert {str(each.get_layout()) for each in read.get_parameters()} == {"[N,H,W,C]"}
        assert read.get_friendly_name() == model.name
        if inputs == "image":
            assert {key: read.get_rt_info(["model_info", key]).value for key in MODEL_INFO} == MODEL_INFO
            assert next(iter(read.outputs[0].names)) == "logits"  # what Model API reads
        assert read.has_rt_info(["model_info"]) is (inputs == "image")
    assert not sent  # writing reports nothing to the makers of OpenVINO


def test_file_for_mediapipe(tmp_path):
    path = write_export(small_model(class_names=NAMES), tmp_path / "model.tflite", inputs="image")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    (table,) = [model.buffers[each.buffer].data for each in model.metadata if each.name == b"TFLITE_METADATA"]
    outputs = root(bytes(table)).tables(3)[0].tables(3)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    names = {each["index"]: name for name, each in interpreter.get_signature_runner().get_output_details().items()}
    assert [each.text(0) for each in outputs] == [names[each["index"]] for each in interpreter.get_output_details()]
    with zipfile.ZipFile(path) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)  # so that two exports are equal
        assert archive.read(entry).decode().split("\n") == LABELS
    assert kc.load_runtime(path).class_names == NAMES
