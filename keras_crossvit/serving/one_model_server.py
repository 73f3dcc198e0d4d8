"""MLServer for one model, which no client can take away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import mlserver
from mlserver.errors import MLServerError
from mlserver.grpc import GRPCServer
from mlserver.registry import MultiModelRegistry
from mlserver.repository.repository import SchemalessModelRepository


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
