"""Limits on the size and duration of requests, for which MLServer has no settings, and servers that end in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from typing import Any

import uvicorn
from mlserver.errors import MLServerError
from mlserver.grpc import GRPCServer
from mlserver.metrics import MetricsServer
from mlserver.rest import RESTServer
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_CONNECTION = "connection"  # key of an ASGI scope's state
_SMALL_BYTES = 2**20
_LARGE_REQUESTS = 8  # at once; a body is in memory about four times while it is parsed


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers of its own, which would close its port before MLServer is told to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class LimitedMetricsServer(MetricsServer):
    """MLServer's server of metrics, which leaves signals to MLServer."""

    async def start(self) -> None:
        """Serves until it is stopped."""
        self._server = _Uvicorn(self._get_config())
        await self._server.serve()


class LimitedRESTServer(RESTServer):
    """MLServer's HTTP server with limits.

    Args:
        arguments: Those of MLServer's class.
        max_request_bytes: Maximum size of a body, also after decompression; a larger one is answered 413.
        request_timeout: Seconds in which a request must arrive; a slower connection is closed.
    """

    def __init__(self, *arguments: Any, max_request_bytes: int, request_timeout: float) -> None:
        super().__init__(*arguments)
        self._limit = _BodyLimit(self._app, max_request_bytes)
        self._request_timeout = request_timeout

    async def start(self) -> None:
        """Serves until it is stopped."""
        self._server = _Uvicorn(self._get_config())
        await self._server.serve()

    def close_connections(self) -> None:
        """Closes each connection after its next answer, so that clients connect again, perhaps to another server."""
        self._limit.closes_connections = True

    def _get_config(self) -> uvicorn.Config:
        config = super()._get_config()
        config.app = self._limit
        config.timeout_graceful_shutdown = math.ceil(self._request_timeout)
        config.http = functools.partial(_Connection, request_timeout=self._request_timeout)
        config.ws = "none"  # a WebSocket would leave the connection's time limit
        return config


class LimitedGRPCServer(GRPCServer):
    """MLServer's gRPC server with a limit on time; MLServer has a setting for the size of messages.

    Args:
        arguments: Those of MLServer's class.
        request_timeout: Seconds after which a connection takes no new requests; those that it has are cut off as many
            seconds later. gRPC has no limit on the time in which a message arrives. Clients connect again on their own.
    """

    def __init__(self, *arguments: Any, request_timeout: float) -> None:
        super().__init__(*arguments)
        self._request_timeout = request_timeout
        self._milliseconds = min(round(1000 * request_timeout), 2**31 - 1)

    async def stop(self, sig: int | None = None) -> None:
        """Takes no new requests, and waits for those that it has."""
        await self._server.stop(grace=self._request_timeout)

    def _get_options(self) -> list[tuple[str, Any]]:
        limits = {
            "grpc.server_handshake_timeout_ms": self._milliseconds,
            "grpc.max_connection_age_ms": self._milliseconds,
            "grpc.max_connection_age_grace_ms": self._milliseconds,
            "grpc.max_send_message_length": -1,  # the limit is meant for requests
        }
        return list({**dict(super()._get_options()), **limits}.items())


class _Connection(H11Protocol):
    """A connection that is closed if its next request is not complete in time.

    h11, unlike httptools, also limits the size of headers.
    """

    def __init__(self, *, request_timeout: float, app_state: dict[str, Any], **options: Any) -> None:
        super().__init__(app_state={**app_state, _CONNECTION: self}, **options)
        self._request_timeout = request_timeout
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end_request()
        super().connection_lost(exc)

    def expect_request(self) -> None:
        """Starts the time limit."""
        self.end_request()
        self._deadline = asyncio.get_running_loop().call_later(self._request_timeout, self.transport.abort)

    def end_request(self) -> None:
        """Ends the time limit: the request is complete."""
        if self._deadline is not None:
            self._deadline.cancel()


class _BodyLimit:
    """Reads and decompresses a body before the application does, which has no limits.

    A few large bodies are in memory at once; others wait in their clients, and small ones do not.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._large = asyncio.Semaphore(_LARGE_REQUESTS)
        self.closes_connections = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        async with contextlib.AsyncExitStack() as held:
            await self._answer(scope, receive, send, held)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, held: contextlib.AsyncExitStack) -> None:
        connection = scope["state"][_CONNECTION]

        async def send_and_expect(message: Message) -> None:
            if message["type"] == "http.response.start" and self.closes_connections:
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                connection.expect_request()  # or the rest of a body that was refused
            await send(message)

        request = Request(scope, receive)
        try:
            body = await self._read(request, held)
            connection.end_request()
            if "gzip" in request.headers.getlist("Content-Encoding"):
                if len(body) <= _SMALL_BYTES:  # may become large
                    await held.enter_async_context(self._large)
                body = await asyncio.to_thread(self._decompress, body)
                headers = [each for each in scope["headers"] if each[0] != b"content-encoding"]
                scope = {**scope, "headers": headers}
        except ClientDisconnect:
            return
        except MLServerError as error:
            await JSONResponse({"error": str(error)}, error.status_code)(scope, receive, send_and_expect)
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_body() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, receive_body, send_and_expect)

    async def _read(self, request: Request, held: contextlib.AsyncExitStack) -> bytes:
        if "Expect" in request.headers:  # the client waits before it sends the body
            self._require_size(int(request.headers.get("Content-Length", 0)))  # a number: h11 checks that
        chunks, size = [], 0
        async for chunk in request.stream():  # to its end: most clients read no answer before
            if size <= _SMALL_BYTES < size + len(chunk):
                await held.enter_async_context(self._large)
            size += len(chunk)
            chunks.append(chunk)
            if size > self._max_bytes:
                chunks.clear()
        self._require_size(size)
        return b"".join(chunks)

    def _decompress(self, body: bytes) -> bytes:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
                contents = file.read(self._max_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise MLServerError(f"The body is not gzip ({error}); send it complete.", status_code=400) from error
        self._require_size(len(contents))
        return contents

    def _require_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise MLServerError(
                f"The request has at least {size:,} bytes; send at most {self._max_bytes:,}, or start the server with "
                "a larger --max-request-bytes.",
                status_code=413,
            )
