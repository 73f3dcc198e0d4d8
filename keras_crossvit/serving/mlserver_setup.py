"""MLServer with one fixed model, which can be loaded again.

Settings are made with `model_construct`, which takes arguments only. MLServer's constructors also read `.env` and
`MLSERVER_*` variables: a logging configuration runs code, and CORS settings let any website send requests.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import mlserver
from mlserver.batching import load_batching
from mlserver.errors import MLServerError
from mlserver.registry import MultiModelRegistry
from mlserver.repository.repository import SchemalessModelRepository

from keras_crossvit._internal.errors import CrossViTError
from keras_crossvit._internal.log import logger
from keras_crossvit._internal.user_text import one_line
from keras_crossvit.serving.mlserver_limits import LimitedGRPCServer, LimitedMetricsServer, LimitedRESTServer


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
    """A registry that rejects requests to unload a model.

    Attributes:
        draining: Whether the server is to say that it is not ready, although its model still answers.
    """

    draining = False

    async def get_models(self, name: str | None = None) -> Iterable[mlserver.MLModel]:  # type: ignore[override]
        """Returns the models; a server is ready if all of them are."""
        never_ready = mlserver.MLModel(model_settings("draining", mlserver.MLModel))
        return [*await super().get_models(name), *([never_ready] if self.draining else [])]

    async def unload(self, name: str) -> NoReturn:
        """Rejects a request to unload a model."""
        _reject(name)


class FixedModelServer(mlserver.MLServer):
    """MLServer with limits, that rejects requests to load or unload models, which any client may send.

    SIGTERM, SIGINT and SIGQUIT end it when the requests that it has are answered; SIGHUP loads the model again.

    Args:
        settings: MLServer's.
        model: The model's settings.
        request_timeout: Seconds in which a request must arrive, and in which the last ones must be answered.
        drain_time: Seconds after SIGTERM in which the server answers new requests, but is not ready.

    Attributes:
        signal: The last signal that ended the server, or None.
    """

    def __init__(
        self, settings: mlserver.Settings, model: mlserver.ModelSettings, *, request_timeout: float, drain_time: float
    ) -> None:
        self._model = model
        self._request_timeout = request_timeout
        self._drain_time = drain_time
        self._loading: asyncio.Future | None = None
        self._reload = asyncio.Event()
        self.signal: int | None = None
        super().__init__(settings)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload.set)

    async def serve(self) -> None:
        """Loads the model and serves it until a signal ends the server."""
        # MLServer would first open its ports, and say that a server without a model is ready.
        self._loading = asyncio.ensure_future(self._model_registry.load(self._model))
        await asyncio.wait([self._loading])
        if self._loading.cancelled():
            return
        self._loading.result()
        reloading = asyncio.create_task(self._reload_on_signal())
        await self.start()
        reloading.cancel()

    async def _reload_on_signal(self) -> None:
        """Loads the model again for each SIGHUP; until then, or if that fails, the one before answers."""
        while await self._reload.wait():
            self._reload.clear()
            try:
                await self._model_registry.load(self._model)
            except (CrossViTError, OSError) as error:
                logger.error("The model is not replaced: %s", one_line(error))
            except Exception:
                logger.exception("The model is not replaced:")
            else:
                logger.info("The model is replaced.")

    async def stop(self, sig: int | None = None) -> None:
        """Ends the server; after SIGTERM first lets load balancers find another one."""
        self.signal = sig
        if self._loading and not self._loading.done():
            self._loading.cancel()
            return
        if sig == signal.SIGTERM:
            self._model_registry.draining = True
            self._rest_server.close_connections()
            await asyncio.sleep(self._drain_time)
        # Both at once: MLServer would go on taking requests over HTTP until the last one over gRPC is answered.
        await asyncio.gather(self._grpc_server.stop(sig), self._rest_server.stop(sig))
        if self._metrics_server:
            await self._metrics_server.stop(sig)

    def _create_servers(self) -> None:  # no setting of MLServer 1.7 has these limits
        arguments = self._settings, self._data_plane, self._model_repository_handlers
        self._rest_server = LimitedRESTServer(
            *arguments,
            max_request_bytes=self._settings.grpc_max_message_length,
            request_timeout=self._request_timeout,
        )
        self._grpc_server = LimitedGRPCServer(*arguments, request_timeout=self._request_timeout)
        metrics = self._settings.metrics_endpoint
        self._metrics_server: LimitedMetricsServer | None = LimitedMetricsServer(self._settings) if metrics else None
        self._kafka_server = None

    def _create_model_registry(self) -> MultiModelRegistry:  # no setting of MLServer 1.7 chooses the registry
        return FixedRegistry(on_model_load=[self.add_custom_handlers, load_batching])


def _reject(name: str) -> NoReturn:
    raise MLServerError(f"Clients cannot load or unload '{name}'; start another server instead.", status_code=403)
