"""Serves an exported model with MLServer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from keras_crossvit._internal.checks import require_integer, require_number, require_positive
from keras_crossvit._internal.errors import FileError, InvalidValueError
from keras_crossvit._internal.keywords import known_keywords_only
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.optional import require_library
from keras_crossvit._internal.served_name import default_served_name, require_served_name
from keras_crossvit.preprocessing.images import max_pixels as pillow_max_pixels
from keras_crossvit.serving.servable import load_servable


@known_keywords_only
def serve(
    path: str | PathLike,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    grpc_port: int = 8081,
    metrics_port: int | None = None,
    threads: int | None = None,
    max_batch_size: int = 16,
    max_batch_time: float = 0.005,
    max_request_bytes: int = 32 * 2**20,
    max_images: int = 32,
    max_pixels: int = 25_000_000,
    request_timeout: float = 30.0,
    decoding_threads: int = 2,
    drain_time: float = 5.0,
    allow_any_operation: bool = False,
) -> None:
    """Serves an exported model over HTTP and gRPC until a signal ends the process.

    The server speaks the KServe v2 protocol (Open Inference Protocol) at `/v2/models/<name>/infer` and batches
    concurrent requests. A request holds either the normalized inputs `small_patch_image` and `large_patch_image`, or
    `image_bytes`: contents of image files, base64-encoded in JSON.

    SIGTERM ends the server after `drain_time`, and SIGINT at once; requests that it has are answered first. SIGHUP
    loads the model again, from the same path, while the one before answers, which stays if that fails.

    Args:
        path: A `.tflite`, `.xml`, `.onnx` or Keras file, the folder of a SavedModel, or the folder of a training run.
        name: Name of the model in URLs. Defaults to the name of the file without its suffix, or of the folder.
        host: Host name or IPv4 address to listen on. Defaults to "127.0.0.1", this machine only; "0.0.0.0" accepts
            connections from everywhere.
        port: HTTP port. Defaults to 8080.
        grpc_port: gRPC port. Defaults to 8081.
        metrics_port: Port of Prometheus metrics, at `/metrics`. Defaults to None: no metrics.
        threads: Threads of the runtime. Defaults to the number of available processors.
        max_batch_size: Maximum number of requests per batch. Defaults to 16.
        max_batch_time: Maximum seconds a request waits for its batch to fill. Defaults to 0.005.
        max_request_bytes: Maximum size of a request, also after decompression. A larger one is answered 413 over HTTP
            and RESOURCE_EXHAUSTED over gRPC. Defaults to 33,554,432 (32 MiB).
        max_images: Maximum number of images per request; more are answered 400. Defaults to 32.
        max_pixels: Maximum number of pixels per image file, which is read from its header. A request with a larger
            image is answered 400. Defaults to 25,000,000; at most 89,478,485, Pillow's limit.
        request_timeout: Seconds in which a request must arrive over HTTP; the connection of a slower client is closed.
            A gRPC connection takes new requests for as long, and is cut off after twice that time. Defaults to 30.
        decoding_threads: Maximum number of images that are decoded at once. Defaults to 2.
        drain_time: Seconds after SIGTERM for which the server continues to answer requests, but says at
            `/v2/health/ready` that it is not ready, so that a load balancer chooses another one. Defaults to 5.
        allow_any_operation: As in `load_runtime`. Defaults to False.

    Raises:
        KeyboardInterrupt: Another signal than SIGTERM ended the server.
        MissingFileError: The model does not exist.
        MissingLibraryError: MLServer or the runtime is not installed; the message says how to install it.
        FileError: A port is in use, or the host is unknown.
        InvalidValueError: The file is not a CrossViT with classes, only Keras can compute its probabilities, or an
            option is out of range.
    """
    loading = {"threads": threads, "allow_any_operation": allow_any_operation}
    options = {
        "loading": loading,
        "max_batch_size": require_integer("max_batch_size", max_batch_size, minimum=1),
        "max_batch_time": require_positive("max_batch_time", max_batch_time),
        "max_images": require_integer("max_images", max_images, minimum=1),
        "max_pixels": require_integer("max_pixels", max_pixels, minimum=1, maximum=pillow_max_pixels()),
        "decoding_threads": require_integer("decoding_threads", decoding_threads, minimum=1),
    }
    require_integer("max_request_bytes", max_request_bytes, minimum=1, maximum=2**31 - 1)  # gRPC's type
    require_positive("request_timeout", request_timeout)
    if require_number("drain_time", drain_time) < 0:
        raise InvalidValueError(f"drain_time {drain_time:g} is negative; use 0 or more seconds.")
    _require_free(host, {"port": port, "grpc_port": grpc_port, "metrics_port": metrics_port})
    name = default_served_name(path) if name is None else name
    require_served_name(name, remedy="pass a name (--name) of")
    runtime_name = load_servable(path, **loading).name  # raises before a port is opened
    require_library("mlserver", "serve")

    # Imported here: MLServer takes seconds to import, and cannot share a process with tritonclient.
    from mlserver.settings import ModelParameters

    from keras_crossvit.serving.mlserver_model import CrossViTModel
    from keras_crossvit.serving.mlserver_setup import FixedModelServer, model_settings, server_settings

    settings = server_settings(host, port, grpc_port, metrics_port, max_request_bytes)
    parameters = ModelParameters.model_construct(uri=str(Path(path).absolute()), extra=options)
    model = model_settings(name, CrossViTModel, parameters=parameters)
    http, grpc = (f"{host}:{each}/v2/models/{name}" for each in (port, grpc_port))
    logger.info("Serving %s with %s at http://%s and grpc://%s", name, runtime_name, http, grpc)

    async def run() -> int | None:
        server = FixedModelServer(settings, model, request_timeout=request_timeout, drain_time=drain_time)
        await server.serve()  # handles signals on the running loop
        return server.signal

    # Not asyncio.run, which on an interrupt also cancels what MLServer leaves running, with tracebacks.
    if asyncio.new_event_loop().run_until_complete(run()) != signal.SIGTERM:
        raise KeyboardInterrupt


def _require_free(host: str, ports: Mapping[str, int | None]) -> None:
    """Raises before MLServer would, which reports a port in use late and with a traceback."""
    if ":" in host:  # MLServer passes it to gRPC without the brackets that gRPC expects
        raise InvalidValueError(f"host '{host}' is an IPv6 address; use an IPv4 address or a host name.")
    with contextlib.ExitStack() as stack:
        for label, port in ports.items():
            if port is None:
                continue
            require_integer(label, port, minimum=1, maximum=65_535)
            try:
                stack.enter_context(socket.create_server((host, port)))
            except OSError as error:
                raise FileError(f"{label} {port} cannot be used on {host}: {error.strerror}.") from error
