"""MLServer with one fixed model.

Settings are made with `model_construct`, which takes arguments only. MLServer's constructors also read `.env` and
`MLSERVER_*` variables: a logging configuration runs code, and CORS settings let any website send requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import mlserver
from mlserver.batching import load_batching
from mlserver.errors import MLServerError
from mlserver.registry import MultiModelRegistry
from mlserver.repository.repository import SchemalessModelRepository

from keras_crossvit.serving.mlserver_limits import LimitedGRPCServer, LimitedRESTServer


def server_settings(
    host: str, port: int, grpc_port: int, metrics_port: int | None, max_request_bytes: int
) -> mlserver.Settings:
    """Returns the settings of a server that loads and unloads nothing."""
    return mlserver.Settings.model_construct(
        server_name="keras_crossvit",
        host=host,
        http_port=port,
        grpc_port=grpc_port,
        grpc_max_message_length=max_request_bytes,
        metrics_endpoint=None if metrics_port is None else "/metrics",
        metrics_port=metrics_port,
        model_repository_implementation=NoRepository,
        parallel_workers=0,  # the runtime has its own threads
        debug=False,
    )


def model_settings(name: str, model: type[mlserver.MLModel], **settings: Any) -> mlserver.ModelSettings:
    """Returns the settings of a model."""
    path = f"{model.__module__}.{model.__qualname__}"
    return mlserver.ModelSettings.model_construct(name=name, implementation_=path, **settings)


class NoRepository(SchemalessModelRepository):
    """A repository without models. MLServer's default finds, and would run, every model below the current folder."""

    async def list(self) -> Sequence[mlserver.ModelSettings]:
        """Returns no models."""
        return []

    async def find(self, name: str) -> NoReturn:
        """Rejects a request to load a model."""
        _reject(name)


class FixedRegistry(MultiModelRegistry):
    """A registry that rejects requests to unload a model."""

    async def unload(self, name: str) -> NoReturn:
        """Rejects a request to unload a model."""
        _reject(name)


class FixedModelServer(mlserver.MLServer):
    """MLServer with limits, that rejects requests to load or unload models, which any client may send.

    Args:
        settings: MLServer's.
        request_timeout: Seconds in which a request must arrive.
    """

    def __init__(self, settings: mlserver.Settings, *, request_timeout: float) -> None:
        self._request_timeout = request_timeout
        super().__init__(settings)

    def _create_servers(self) -> None:  # no setting of MLServer 1.7 has these limits
        arguments = self._settings, self._data_plane, self._model_repository_handlers
        self._rest_server = LimitedRESTServer(
            *arguments,
            max_request_bytes=self._settings.grpc_max_message_length,
            request_timeout=self._request_timeout,
        )
        self._grpc_server = LimitedGRPCServer(*arguments, request_timeout=self._request_timeout)
        self._kafka_server = None

    def _create_model_registry(self) -> MultiModelRegistry:  # no setting of MLServer 1.7 chooses the registry
        return FixedRegistry(on_model_load=[self.add_custom_handlers, load_batching])


def _reject(name: str) -> NoReturn:
    raise MLServerError(f"Clients cannot load or unload '{name}'; start another server instead.", status_code=403)
