"""Requests that are joined inside MLServer, in a process of its own: MLServer shares none with tritonclient."""

import json

from keras_crossvit.export import litert
from keras_crossvit.export.requests import drawn_picture, encoded
from keras_crossvit.export.tracing import in_float32
from keras_crossvit.metadata import metadata_of
from tests.helpers.exports import small_model
from tests.helpers.processes import run_python

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
import mlserver
from mlserver.context import model_context
from mlserver.types import InferenceRequest, RequestInput
from keras_crossvit.serving.mlserver_model import CrossViTModel

async def main(file, picture):
    options = {"threads": 1, "max_batch_size": 8, "max_batch_time": 0.5}
    parameters = mlserver.settings.ModelParameters(uri=file, extra=options)
    settings = mlserver.ModelSettings(name="letters", implementation=CrossViTModel, parameters=parameters)
    with model_context(settings):
        model = CrossViTModel(settings)
        await model.load()
        contents = RequestInput(name="image_bytes", shape=[1], datatype="BYTES", data=[Path(picture).read_bytes()])
        answers = [asyncio.ensure_future(model.predict(InferenceRequest(inputs=[contents]))) for _ in range(3)]
        await asyncio.sleep(0.2)
        answers[0].cancel()
        found = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), 10)
        print(json.dumps([type(each).__name__ for each in found]))

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_request_that_is_cancelled_takes_no_one_else_s_answer_with_it(tmp_path):
    model = small_model()
    litert.write(in_float32(model), tmp_path / "m.tflite", metadata_of(model), quantize=None, batch_size=1)
    (tmp_path / "picture.png").write_bytes(encoded(drawn_picture(), "PNG"))
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run_python(tmp_path / "program.py", tmp_path / "m.tflite", tmp_path / "picture.png", cwd=tmp_path)
    kinds = json.loads(done.stdout.splitlines()[-1])
    assert kinds == ["CancelledError", "InferenceResponse", "InferenceResponse"]
