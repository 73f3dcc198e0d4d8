"""The model inside MLServer, in its own processes: MLServer cannot share a process with tritonclient."""

import json

from keras_crossvit.exporting.serving_requests import drawn_image, encoded
from tests.helpers.exports import overflowing_model, small_model, write_export
from tests.helpers.processes import run_python

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from mlserver.context import model_context
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, RequestInput
from keras_crossvit.serving.mlserver_model import CrossViTModel
from keras_crossvit.serving.mlserver_setup import model_settings

async def main(file, image, cancel):
    options = {"threads": 1, "max_batch_size": 8, "max_batch_time": 0.5}
    parameters = ModelParameters(uri=file, extra=options)
    settings = model_settings("letters", CrossViTModel, parameters=parameters)
    with model_context(settings):
        model = CrossViTModel(settings)
        await model.load()
        contents = RequestInput(name="image_bytes", shape=[1], datatype="BYTES", data=[Path(image).read_bytes()])
        answers = [asyncio.ensure_future(model.predict(InferenceRequest(inputs=[contents]))) for _ in range(3)]
        if cancel == "cancel":
            await asyncio.sleep(0.2)
            answers[0].cancel()
        found = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 10)
        print(json.dumps([[type(each).__name__, getattr(each, "status_code", None), str(each)] for each in found]))

asyncio.run(main(*sys.argv[1:]))
"""


def classify_three_times(model, folder, *, cancel):
    write_export(model, folder / "m.tflite")
    (folder / "image.png").write_bytes(encoded(drawn_image(), "PNG"))
    (folder / "program.py").write_text(PROGRAM)
    option = "cancel" if cancel else "wait"
    done = run_python(folder / "program.py", folder / "m.tflite", folder / "image.png", option, cwd=folder)
    return json.loads(done.stdout.splitlines()[-1])


def test_cancelled_request_leaves_the_others_in_its_batch(tmp_path):
    answers = classify_three_times(small_model(), tmp_path, cancel=True)
    assert [kind for kind, *_ in answers] == ["CancelledError", "InferenceResponse", "InferenceResponse"]


def test_logits_of_an_image_that_are_not_finite_are_a_server_error(tmp_path):
    for _, code, message in classify_three_times(overflowing_model(), tmp_path, cancel=False):
        assert code == 500
        assert "not finite" in message
