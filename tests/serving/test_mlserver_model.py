"""What goes on inside MLServer, in processes of its own: MLServer shares none with tritonclient."""

import contextlib
import json
import socket

import pytest

from keras_crossvit.exporting import litert_writer
from keras_crossvit.exporting.serving_requests import drawn_image, encoded
from keras_crossvit.exporting.tracing import in_float32
from keras_crossvit.runtimes.metadata import metadata_of
from tests.helpers.exports import overflowing_model, small_model
from tests.helpers.processes import run_python
from tests.serving.servers import free_ports

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
    litert_writer.write(in_float32(model), tmp_path / "m.tflite", metadata_of(model), quantize=None, batch_size=1)
    (tmp_path / "picture.png").write_bytes(encoded(drawn_image(), "PNG"))
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run_python(tmp_path / "program.py", tmp_path / "m.tflite", tmp_path / "picture.png", cwd=tmp_path)
    kinds = json.loads(done.stdout.splitlines()[-1])
    assert kinds == ["CancelledError", "InferenceResponse", "InferenceResponse"]


PROGRAM_BY_IPV6 = """
import asyncio, socket, sys
import mlserver
from keras_crossvit.serving.server import EmptyRepository, OneModelServer

async def main(*ports):
    options = dict(zip(("http_port", "grpc_port", "metrics_port"), map(int, ports)))
    server = OneModelServer(mlserver.Settings(
        host="::1", parallel_workers=0, debug=False, model_repository_implementation=EmptyRepository, **options))
    running = asyncio.ensure_future(server.start())
    for port in options.values():
        for _ in range(100):
            try:
                socket.create_connection(("::1", port), timeout=5).close()
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.1)
        else:
            raise SystemExit(f"nothing listens at {port}")
    await server.stop()
    await running
    print("all listen")

asyncio.run(main(*sys.argv[1:]))
"""


def test_it_listens_by_ipv6_too(tmp_path):
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        (tmp_path / "program.py").write_text(PROGRAM_BY_IPV6)
        done = run_python(tmp_path / "program.py", *free_ports(3), cwd=tmp_path)
        assert "all listen" in done.stdout.splitlines()  # among what MLServer says of itself
        return
    pytest.skip("this machine has no IPv6")


PROGRAM_BY_BYTES = """
import asyncio, json, sys
from pathlib import Path
import mlserver
from mlserver.context import model_context
from mlserver.types import InferenceRequest, RequestInput
from keras_crossvit.serving.mlserver_model import CrossViTModel

async def main(file, picture):
    options = {"threads": 1, "max_batch_size": 8, "max_batch_time": 0.01}
    parameters = mlserver.settings.ModelParameters(uri=file, extra=options)
    settings = mlserver.ModelSettings(name="letters", implementation=CrossViTModel, parameters=parameters)
    with model_context(settings):
        model = CrossViTModel(settings)
        await model.load()
        contents = RequestInput(name="image_bytes", shape=[1], datatype="BYTES", data=[Path(picture).read_bytes()])
        try:
            await model.predict(InferenceRequest(inputs=[contents]))
        except mlserver.errors.MLServerError as error:
            print(json.dumps([error.status_code, str(error)]))

asyncio.run(main(*sys.argv[1:]))
"""


def test_image_whose_logits_are_not_finite_is_an_error_of_the_server(tmp_path):
    model = overflowing_model()
    litert_writer.write(in_float32(model), tmp_path / "m.tflite", metadata_of(model), quantize=None, batch_size=1)
    (tmp_path / "picture.png").write_bytes(encoded(drawn_image(), "PNG"))
    (tmp_path / "program.py").write_text(PROGRAM_BY_BYTES)
    done = run_python(tmp_path / "program.py", tmp_path / "m.tflite", tmp_path / "picture.png", cwd=tmp_path)
    code, message = json.loads(done.stdout.splitlines()[-1])
    assert code == 500
    assert "not finite" in message
