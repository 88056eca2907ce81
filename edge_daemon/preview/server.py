"""Serves the preview over HTTP: uvicorn, in the pipeline's own thread."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from edge_daemon._lib.address import Address, authority
from edge_daemon.errors import PreviewError
from edge_daemon.pipeline import Busy, Service
from edge_daemon.preview.stream import Stream

MOST_CONNECTIONS: Final = 64

LONGEST_HEAD: Final = 16 * 1024
"""Bytes of a request's line and headers."""

LONGEST_WORD: Final = 1024
"""Bytes of what a watcher may say at once."""

HEARTBEAT_INTERVAL_S: Final = 1.0

LAST_WORDS: Final = 0.5
"""Seconds in which clients may take leave, before they are cut off."""


class PreviewServer(Service):
    """The service that serves the preview.

    Args:
        app: an ASGI application.
        listener: a socket that listens already; it is closed in the end.
        stream: what its watchers wait at.
        ready: called once it is served.
    """

    name = "preview"
    is_essential = False

    def __init__(
        self, app: ASGIApp, listener: socket.socket, stream: Stream, ready: Callable[[], None]
    ) -> None:
        self._listener = listener
        self._stream = stream
        self._ready = ready
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Connection,
                ws=WebSocketsSansIOProtocol,
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=LONGEST_HEAD,
                ws_max_size=LONGEST_WORD,
                ws_per_message_deflate=False,  # pictures do not shrink
            )
        )

    def run(self, busy: Busy) -> None:
        """Serve until `stop` is called."""
        asyncio.run(self._serve(busy))

    def stop(self) -> None:
        self._stream.close()
        self._server.should_exit = True

    async def _serve(self, busy: Busy) -> None:
        heartbeat = asyncio.create_task(_heartbeat(busy))
        with self._stream.bound():
            self._ready()
            # Not in the main thread, uvicorn leaves signals alone.
            await self._server.serve(sockets=[self._listener])
        heartbeat.cancel()


async def _heartbeat(busy: Busy) -> None:
    """Let the supervisor detect a blocked event loop: each sleep then exceeds its limit."""
    while True:
        with busy():
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)


def listening(address: Address) -> socket.socket:
    """A socket that listens at the address.

    Raises:
        PreviewError: it cannot.
    """
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server(found[0][4][:2], family=found[0][0])
    except (OSError, UnicodeError) as error:
        raise PreviewError(
            f"preview.listen: {authority(address)}: cannot listen: {error}; "
            "does another program use it?"
        ) from error


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(LAST_WORDS, self._cut_off)
        await super().shutdown(sockets)

    def _cut_off(self) -> None:
        """Whoever does not read would hold up the end."""
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()


class _Connection(H11Protocol):
    """One of a limited number, which must soon ask for something: each takes an open file."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
