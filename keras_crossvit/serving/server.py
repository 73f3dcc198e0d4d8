"""Starts MLServer on an exported model."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import NoReturn

import mlserver
import numpy as np
from mlserver.errors import MLServerError
from mlserver.grpc import GRPCServer
from mlserver.registry import MultiModelRegistry
from mlserver.repository.repository import SchemalessModelRepository

from keras_crossvit._internal.checks import require_integer, require_positive
from keras_crossvit._internal.errors import FileError, InvalidValueError
from keras_crossvit._internal.optional import require_library
from keras_crossvit._internal.served_name import name_of, require_served_name
from keras_crossvit.runtimes import load_runtime


class EmptyRepository(SchemalessModelRepository):
    """A repository without models; MLServer's own finds, and would run, those in all folders below the present one."""

    async def list(self) -> Sequence[mlserver.ModelSettings]:
        """No model at all."""
        return []

    async def find(self, name: str) -> NoReturn:
        """Refuses to load a model.

        Raises:
            MLServerError: always; clients get it as a status of 403.
        """
        await _refuse(name)


class OneModelServer(mlserver.MLServer):
    """MLServer, but for requests to load or unload models, which every client may send: they are refused.

    Args:
        settings: MLServer's.
    """

    def _create_model_registry(self) -> MultiModelRegistry:
        registry = super()._create_model_registry()
        registry.unload = _refuse
        return registry

    def _create_servers(self) -> None:
        super()._create_servers()
        host = self._settings.host
        if ":" in host:  # IPv6, which gRPC takes in brackets alone, and HTTP without alone
            settings = self._settings.model_copy(update={"host": f"[{host}]"})
            self._grpc_server = GRPCServer(settings, self._data_plane, self._model_repository_handlers)


async def _refuse(name: str) -> NoReturn:
    raise MLServerError(
        f"'{name}' is neither loaded nor unloaded for clients; start a server of its own for another model.",
        status_code=403,
    )


MAX_BYTES = 64 * 2**20  # of a gRPC message; gRPC's own limit of 4 MiB is less than a dozen photographs
_LAST_PORT = 65_535


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
        name: Name of the model in URLs. Defaults to None: the file's without its suffix, or the folder's.
        host: Address to listen at. Defaults to "127.0.0.1", this machine alone; "0.0.0.0" listens everywhere, and "::"
            by IPv6.
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
        ValueError: the file holds no CrossViT with classes, or one whose probabilities are known to Keras alone; or an
            option is out of range.
    """
    options = {
        "threads": threads,
        "max_batch_size": require_integer("max_batch_size", max_batch_size, minimum=1),
        "max_batch_time": require_positive("max_batch_time", max_batch_time),
    }
    ports = {"port": port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    _require_ports(ports)
    remedy = "choose one by name (--name) of" if name is None else "use"
    name = name_of(path) if name is None else name
    require_served_name(name, remedy=remedy)
    runtime_name = _runtime_name(path, threads)
    for each in ports.values():
        if each is not None:
            _require_free(host, each)
    require_library("mlserver", "serve")  # which takes seconds, and shares no process with tritonclient

    from keras_crossvit.serving import explicit_settings as explicit
    from keras_crossvit.serving.mlserver_model import CrossViTModel

    settings = explicit.ExplicitSettings(
        server_name="keras_crossvit",
        host=host,
        http_port=port,
        grpc_port=grpc_port,
        grpc_max_message_length=MAX_BYTES,
        metrics_endpoint=None if metrics_port is None else "/metrics",
        metrics_port=metrics_port or 0,
        model_repository_implementation=EmptyRepository,
        parallel_workers=0,  # the runtime has threads of its own
        debug=False,
        cors_settings=None,  # no website but the server's own may ask
        logging_settings=None,
    )
    model = explicit.ExplicitModelSettings(
        name=name,
        implementation=CrossViTModel,
        parameters=explicit.ExplicitModelParameters(uri=str(Path(path).resolve()), extra=options),
    )
    shown = f"[{host}]" if ":" in host else host
    addresses = f"http://{shown}:{port}/v2/models/{name} and grpc://{shown}:{grpc_port}/v2/models/{name}"
    print(f"{name} by {runtime_name} at {addresses}", flush=True)

    async def run() -> None:
        await OneModelServer(settings).start([model])  # adds its handlers of signals to the running loop

    # Not asyncio.run: it answers an interrupt too, and would cancel, with tracebacks, what MLServer leaves unfinished.
    asyncio.new_event_loop().run_until_complete(run())
    raise KeyboardInterrupt


def _runtime_name(path: str | PathLike, threads: int | None) -> str:
    """Name of a model's runtime; what no server can answer for is said before any port is open."""
    runtime = load_runtime(path, threads=threads)
    if runtime.config.num_classes == 0:
        raise InvalidValueError(f"'{path}' has no classes to name; export a model with num_classes above 0.")
    runtime.probabilities_of(np.zeros((1, runtime.config.num_classes), "float32"))
    return runtime.name


def _require_ports(ports: Mapping[str, int | None]) -> None:
    """Raises ValueError unless the ports are such and differ."""
    used: dict[int, str] = {}
    for label, port in ports.items():
        if port is None:
            continue
        if require_integer(label, port, minimum=1) > _LAST_PORT:
            raise InvalidValueError(f"{label} {port} is too large; use a whole number of at most {_LAST_PORT}.")
        if port in used:
            raise InvalidValueError(f"{label} {port} is the {used[port]} as well; choose another one.")
        used[port] = label


def _require_free(host: str, port: int) -> None:
    """Raises OSError where nothing can listen; MLServer would say it late and at length."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.create_server(address, family=family):
            return
    except OSError as error:
        raise FileError(
            f"Nothing can listen at {host}:{port} ({error.strerror}); choose another port or host."
        ) from error
