"""A fake of TensorFlow Serving for tests of the client: its gRPC stubs and its documented REST format, answered by the
SavedModel in this process. It says nothing about TensorFlow Serving itself."""

import base64
import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class FakeTensorFlowServing:
    """Serves one model over gRPC and REST."""

    def __init__(self, saved_model, name):
        self._loaded = tf.saved_model.load(str(saved_model))
        self.name = name

    def run(self, name, signature, tensors):
        if name != self.name:
            raise KeyError(f"Servable not found for request: Latest({name})")
        return self._loaded.signatures[signature](**tensors)

    def __enter__(self):
        service = _Service(self)
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, self._grpc)
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(0).wait()


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, fake):
        self._fake = fake

    def Predict(self, request, context):  # noqa: N802, the name is gRPC's
        tensors = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        try:
            outputs = self._fake.run(request.model_spec.name, request.model_spec.signature_name, tensors)
        except KeyError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, error.args[0])
        answer = predict_pb2.PredictResponse()
        for name, tensor in outputs.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
        return answer


def _handler(fake):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path, _, verb = self.path.rpartition(":")
            assert verb == "predict"
            tensors = {
                name: tf.constant([base64.b64decode(each["b64"]) for each in values])
                for name, values in body["inputs"].items()
            }
            try:
                outputs = fake.run(path.split("/")[3], body["signature_name"], tensors)
            except KeyError as error:
                return self._answer(404, {"error": error.args[0]})
            return self._answer(200, {"outputs": {name: _as_json(each) for name, each in outputs.items()}})

        def _answer(self, code, content):
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *arguments):
            """Prints nothing."""

    return Handler


def _as_json(tensor):
    array = tensor.numpy()
    return array.astype(str).tolist() if array.dtype == object else array.tolist()
