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

_MAX_GRPC_BYTES = 64 * 2**20  # the default of 4 MiB is less than a dozen photos


def server_settings(host: str, port: int, grpc_port: int, metrics_port: int | None) -> mlserver.Settings:
    """Returns the settings of a server that loads and unloads nothing."""
    return mlserver.Settings.model_construct(
        server_name="keras_crossvit",
        host=host,
        http_port=port,
        grpc_port=grpc_port,
        grpc_max_message_length=_MAX_GRPC_BYTES,
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
    """MLServer that rejects requests to load or unload models, which any client may send."""

    def _create_model_registry(self) -> MultiModelRegistry:  # no setting of MLServer 1.7 chooses the registry
        return FixedRegistry(on_model_load=[self.add_custom_handlers, load_batching])


def _reject(name: str) -> NoReturn:
    raise MLServerError(f"Clients cannot load or unload '{name}'; start another server instead.", status_code=403)
