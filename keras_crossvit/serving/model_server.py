"""Starts MLServer on an exported model."""

from __future__ import annotations

import asyncio
import socket
from os import PathLike
from pathlib import Path

from keras_crossvit.checks import require_integer, require_positive
from keras_crossvit.optional import require_library
from keras_crossvit.runtimes import load_runtime

MOST_BYTES = 64 * 2**20  # of a gRPC message; gRPC's own limit of 4 MiB is less than a dozen photographs


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
) -> None:
    """Serves an exported model by MLServer until it is interrupted.

    The model answers by the KServe v2 protocol ("open inference protocol") over HTTP and gRPC, at
    `/v2/models/<name>/infer`, and requests that arrive together are classified together. It takes either
    `small_patch_image` and `large_patch_image`, or `image_bytes`, the bytes of picture files (base64 in JSON).

    Args:
        path: What `load_runtime` takes: a `.tflite`, `.xml`, `.onnx` or Keras file, or a SavedModel's folder.
        name: Name of the model in URLs. Defaults to None: the one that the file was exported with.
        host: Address to listen at. Defaults to "127.0.0.1", this machine alone; "0.0.0.0" listens everywhere.
        port: Port of HTTP. Defaults to 8080.
        grpc_port: Port of gRPC. Defaults to 8081.
        metrics_port: Port of Prometheus' metrics, at `/metrics`. Defaults to None: there are none.
        threads: Threads that the runtime computes with. Defaults to None: one for each processor.
        max_batch_size: Most requests that are classified together. Defaults to 16.
        max_batch_time: Seconds that a request waits for others. Defaults to 0.005.

    Raises:
        KeyboardInterrupt: a signal has ended the server.
        FileNotFoundError: there is no such model.
        ModuleNotFoundError: MLServer or the runtime's library is missing; the message says how to install it.
        OSError: a port is taken.
        ValueError: the file holds no CrossViT with classes, or an option is out of range.
    """
    options = {
        "threads": threads,
        "max_batch_size": require_integer("max_batch_size", max_batch_size, minimum=1),
        "max_batch_time": require_positive("max_batch_time", max_batch_time),
    }
    own_name, runtime_name = _names(path, threads)
    name = name or own_name
    for each in filter(None, (port, grpc_port, metrics_port)):
        _require_free(host, each)
    mlserver = require_library("mlserver", "serve")  # which takes seconds, and shares no process with tritonclient

    from keras_crossvit.serving.mlserver_model import CrossViTModel

    settings = mlserver.Settings(
        server_name="keras_crossvit",
        host=host,
        http_port=port,
        grpc_port=grpc_port,
        grpc_max_message_length=MOST_BYTES,
        metrics_endpoint=None if metrics_port is None else "/metrics",
        metrics_port=metrics_port or 0,
        parallel_workers=0,  # the runtime has threads of its own
        debug=False,
    )
    model = mlserver.ModelSettings(
        name=name,
        implementation=CrossViTModel,
        parameters=mlserver.settings.ModelParameters(uri=str(Path(path).resolve()), extra=options),
    )
    addresses = f"http://{host}:{port}/v2/models/{name} and grpc://{host}:{grpc_port}/v2/models/{name}"
    print(f"{name} by {runtime_name} at {addresses}", flush=True)

    async def run() -> None:
        await mlserver.MLServer(settings).start([model])  # adds its handlers of signals to the running loop

    # Not asyncio.run: it answers an interrupt too, and would cancel, with tracebacks, what MLServer leaves unfinished.
    asyncio.new_event_loop().run_until_complete(run())
    raise KeyboardInterrupt


def _names(path: str | PathLike, threads: int | None) -> tuple[str, str]:
    """Names of a model and of its runtime, so that a wrong file is answered before any port is open."""
    runtime = load_runtime(path, threads=threads)
    if runtime.config.num_classes == 0:
        raise ValueError(f"'{path}' has no classes to name; export a model with num_classes above 0.")
    return runtime.metadata.name, runtime.name


def _require_free(host: str, port: int) -> None:
    """Raises OSError where nothing can listen; MLServer would say it late and at length."""
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise OSError(
            f"Nothing can listen at {host}:{port} ({error.strerror}); choose another port or host."
        ) from error
