"""`keras-crossvit evaluate` on an exported file."""

import pytest

import keras_crossvit as kc
from keras_crossvit import cli
from keras_crossvit.export import litert
from keras_crossvit.export.tracing import in_float32
from keras_crossvit.metadata import metadata_of
from tests.helpers.collections import COLOURS, write_plain
from tests.helpers.exports import confident_model


def test_exported_file_has_the_figures_of_its_model(tmp_path, capsys):
    model = confident_model(num_classes=len(COLOURS), classes=list(COLOURS))
    litert.write(in_float32(model), tmp_path / "m.tflite", metadata_of(model), quantize=None, batch_size=1)
    pictures = write_plain(tmp_path / "pictures", per_class=3)
    of_file = kc.evaluate(tmp_path / "m.tflite", pictures).to_dict()
    of_model = kc.evaluate(model, pictures).to_dict()
    assert of_file["confusion"] == of_model["confusion"]
    assert of_file["loss"] == pytest.approx(of_model["loss"], rel=1e-5)
    assert cli.main(["evaluate", str(tmp_path / "m.tflite"), str(pictures)]) == 0
    assert f"{of_model['top1']:.2%}" in capsys.readouterr().out
