"""SavedModels with anything that this package's do not have."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_crossvit as kc
from keras_crossvit.cli import main as cli
from keras_crossvit.exporting.tracing import logits_function, saved_model_of
from keras_crossvit.runtimes.keras_model import logits_model
from keras_crossvit.runtimes.metadata import metadata_of
from keras_crossvit.runtimes.saved_model import METADATA_FILE
from tests.helpers.backends import call
from tests.helpers.exports import small_model
from tests.helpers.models import images


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    with saved_model_of(logits_function(logits_model(model), None)) as staged:
        shutil.copytree(staged, folder)
    describe(folder, model)
    return folder


def describe(folder, model):
    (folder / METADATA_FILE).parent.mkdir(exist_ok=True)
    (folder / METADATA_FILE).write_text(metadata_of(model).to_json(), "utf-8")


@pytest.fixture
def changed(exported, tmp_path):
    """Returns a function that changes the description of a copy of the SavedModel, and the copy's folder."""

    def change(edit):
        folder = shutil.copytree(exported, tmp_path / "model")
        description = saved_model_pb2.SavedModel()
        description.ParseFromString((folder / "saved_model.pb").read_bytes())
        edit(description)
        (folder / "saved_model.pb").write_bytes(description.SerializeToString())
        return folder

    return change


def graph_of(description):
    return description.meta_graphs[0].graph_def


def function_of(description, part):
    return next(each for each in graph_of(description).library.function if part in each.signature.name)


def node(nodes, operation, function=None):
    added = nodes.add(name="added", op=operation)
    if function is not None:
        added.attr["f"].func.name = function


def write_in_a_branch(description):
    function = graph_of(description).library.function.add()
    function.signature.name = "branch"
    node(function.node_def, "WriteFile")
    node(function_of(description, "signature_wrapper").node_def, "StatelessIf", "branch")


def save_from_the_signature(description):
    saver = function_of(description, "traced_save").signature.name
    node(function_of(description, "signature_wrapper").node_def, "StatefulPartitionedCall", saver)


def save_as_a_method(description):
    name = function_of(description, "traced_save").signature.name
    description.meta_graphs[0].object_graph_def.concrete_functions[name].SetInParent()


EDITS = {
    "in the graph": (lambda each: node(graph_of(each).node, "ReadFile"), "'ReadFile'"),
    "in a signature": (
        lambda each: node(function_of(each, "signature_wrapper").node_def, "EagerPyFunc"),
        "EagerPyFunc",
    ),
    "in a branch": (write_in_a_branch, "'WriteFile'"),
    "in the saver": (lambda each: node(function_of(each, "traced_restore").node_def, "MatchingFiles"), "MatchingFiles"),
    "a saver's in a signature": (
        lambda each: node(function_of(each, "signature_wrapper").node_def, "SaveV2"),
        "the operation 'SaveV2'",
    ),
    "the saver called": (save_from_the_signature, "a function that writes its variables"),
    "the saver as a method": (save_as_a_method, "a function that writes its variables"),
    "an old call": (lambda each: node(graph_of(each).node, "__inference__traced_save"), "__inference__traced_save"),
    "two graphs": (lambda each: each.meta_graphs.add(), "2 graphs"),
    "no graph": (lambda each: each.ClearField("meta_graphs"), "0 graphs"),
    "as of TensorFlow 1": (lambda each: each.meta_graphs[0].ClearField("object_graph_def"), "no object graph"),
    "an asset": (lambda each: each.meta_graphs[0].asset_file_def.add(filename="names.txt"), "assets"),
    "a gradient": (lambda each: graph_of(each).library.gradient.add(), "gradients"),
    "a table": (
        lambda each: each.meta_graphs[0].object_graph_def.nodes.add().resource.SetInParent(),
        "an object of the kind resource",
    ),
    "a saver of its own": (
        lambda each: setattr(each.meta_graphs[0].object_graph_def.nodes[0], "registered_saver", "other"),
        "an object of the kind user_object",
    ),
}


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS)
def test_what_exports_do_not_have_is_refused(edit, message, changed):
    with pytest.raises(ValueError, match=message) as raised:
        kc.load_runtime(changed(edit))
    assert "allow_any_operation=True" in str(raised.value)


def test_a_damaged_description_is_one_line(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "model")
    (folder / "saved_model.pb").write_bytes(b"\x0a\xff" + bytes(20))
    with pytest.raises(ValueError, match="not a complete SavedModel"):
        kc.load_runtime(folder)


@pytest.fixture
def writing(model, tmp_path):
    """A SavedModel with the model's logits that writes a file when it is called."""
    file, module = tmp_path / "written", tf.Module()
    function = logits_model(model)

    @tf.function
    def serve(small_patch_image, large_patch_image):
        tf.io.write_file(str(file), "harm")
        return {"logits": function([small_patch_image, large_patch_image], training=False)}

    module.model = function
    shapes = [tf.TensorSpec((None, *each.shape[1:]), name=each.name) for each in model.inputs]
    tf.saved_model.save(module, str(tmp_path / "model"), {"serving_default": serve.get_concrete_function(*shapes)})
    describe(tmp_path / "model", model)
    return tmp_path / "model", file


def test_a_program_runs_only_if_it_is_allowed(writing, model, capsys):
    folder, file = writing
    inputs = images(model)
    with pytest.raises(ValueError, match="has the operation"):
        kc.load_runtime(folder)
    assert cli.main(["predict", str(folder), "anything.png"]) == 2
    assert "--allow-any-operation" in capsys.readouterr().err
    assert not file.exists()
    runtime = kc.load_runtime(folder, allow_any_operation=True)
    np.testing.assert_allclose(runtime.logits(*inputs), call(model, inputs), rtol=0, atol=1e-5)
    assert file.read_text() == "harm"
