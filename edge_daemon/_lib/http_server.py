"""An HTTP server that hostile clients can neither exhaust nor block: uvicorn, with limits.

Uvicorn on its own accepts every connection, and waits for a request without a deadline. This server
accepts connections itself: beyond a limit, in total or for one address, the oldest connection that
has not yet sent its request makes room, and without one the newcomer is refused. A connection
carries one request, which has a deadline. So open files, memory and waiting time stay bounded.
"""

import asyncio
import ipaddress
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from edge_daemon._lib.logging import RateLimitFilter
from edge_daemon._lib.text import Address, authority
from edge_daemon.errors import EdgeDaemonError

logger = logging.getLogger(__name__)

ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
ASGIApp = Callable[[ASGIMessage, Receive, Send], Awaitable[None]]
"""As the ASGI specification defines it."""

BACKLOG: Final = 32
"""Connections that the kernel holds until they are accepted."""

HEAD_TIMEOUT_S: Final = 5.0
"""Time from the connection to the end of the request's headers."""

REQUEST_TIMEOUT_S: Final = 30.0
"""Time from there to the end of the response."""

HEARTBEAT_INTERVAL_S: Final = 1.0

SHUTDOWN_TIMEOUT_S: Final = 0.5
"""Time for connections to close in order at the end; then they are aborted."""

MAX_HEAD_BYTES: Final = 16 * 1024
"""Size of a request line and its headers."""

MAX_WEBSOCKET_MESSAGE_BYTES: Final = 1024
"""Size of a message from a client."""

REFUSAL_DELAY_S: Final = 0.01
"""Pause after a connection had to make room or was refused: a flood takes little CPU time."""

ACCEPT_RETRY_S: Final = 1.0
"""Pause after the system could not accept a connection."""

IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that identify a client; it may choose the others."""

LOG_LIMIT: Final = RateLimitFilter(60.0)
"""For the log lines that clients can cause."""


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections may be open."""

    total: int
    per_address: int


def listen(address: Address, setting: str, error: type[EdgeDaemonError]) -> socket.socket:
    """A listening socket.

    Args:
        address: where to listen; `::` stands for all interfaces, with IPv6 and IPv4.
        setting: name of the setting that has the address.
        error: type of the error to raise.

    Raises:
        EdgeDaemonError: the address cannot be resolved or bound; of the given type.
    """
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, bound = found[0]
        is_dual = bound[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            bound[:2], family=family, backlog=BACKLOG, dualstack_ipv6=is_dual
        )
    except (OSError, UnicodeError) as problem:
        # Python appends the address to the reason.
        reason = str(getattr(problem, "strerror", None) or problem).partition(" (")[0]
        raise error(
            f"{setting}: cannot listen: {reason} (got {authority(address)}); "
            "choose an address of this machine and a free port"
        ) from problem


class HttpServer:
    """Serves an ASGI application on a listening socket, in the thread that calls `serve`.

    Args:
        app: the application.
        listener: the listening socket; closed at the end.
        limits: on connections.
        websockets: whether the application accepts WebSockets.
    """

    def __init__(
        self, app: ASGIApp, listener: socket.socket, limits: ConnectionLimits, *, websockets: bool
    ) -> None:
        for name in (__name__, "uvicorn.error"):
            logging.getLogger(name).addFilter(LOG_LIMIT)
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                _wrapped(app),
                http=_Connection,
                ws=_WebSocket if websockets else "none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                ws_max_size=MAX_WEBSOCKET_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # images do not compress
            ),
            limits,
        )

    async def serve(self, busy: AbstractContextManager[None]) -> None:
        """Serve until `stop` is called.

        Args:
            busy: marks a call that has a time limit: a blocked event loop exceeds it.
        """
        self._listener.settimeout(0)
        heartbeat = asyncio.create_task(_heartbeat(busy))
        # Outside the main thread, uvicorn leaves signals alone.
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            heartbeat.cancel()
            self._listener.close()  # after a failure, clients would wait for a response

    def stop(self) -> None:
        """End `serve` soon. May be called from any thread, also before `serve`."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Uvicorn with an accept loop that limits connections."""

    def __init__(self, config: uvicorn.Config, limits: ConnectionLimits) -> None:
        super().__init__(config)
        self._limits = limits
        self._accepting: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        (listener,) = sockets or []
        self.servers = []
        self._accepting = asyncio.create_task(self._accept(listener))
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT_S, self._abort)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if self._accepting is not None and self._accepting.done():
            self._accepting.result()  # raises what ended it: no client would notice otherwise
        return await super().on_tick(counter)

    def _abort(self) -> None:
        """End what would delay the end: clients that do not read, and requests that take long."""
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()
        # After the connections are lost, so that no response is missing.
        asyncio.get_running_loop().call_soon(self._cancel_tasks)

    def _cancel_tasks(self) -> None:
        for task in tuple(self.server_state.tasks):
            task.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, peer = await loop.sock_accept(listener)
                await self._admit(client, _plain_address(peer[0]))
            except OSError as error:  # no file descriptor left, or the client is gone
                logger.warning("cannot accept connection", extra={"error": str(error)})
                await asyncio.sleep(ACCEPT_RETRY_S)

    async def _admit(self, client: socket.socket, host: str) -> None:
        is_full = self._is_full(host)
        if is_full and not self._make_room(host):
            client.close()
            logger.warning("connection limit reached, refusing clients", extra={"client": host})
        else:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, client)
        if is_full:
            await asyncio.sleep(REFUSAL_DELAY_S)

    def _connection(self) -> asyncio.Protocol:
        return _Connection(self.config, self.server_state, {})

    def _is_full(self, host: str) -> bool:
        connections = self._open_connections()
        own = [each for each in connections if _is_same_client(each, host)]
        return len(connections) >= self._limits.total or len(own) >= self._limits.per_address

    def _make_room(self, host: str) -> bool:
        """Abort the oldest connection without a request, if there is one to abort."""
        connections = self._open_connections()
        own = [each for each in connections if _is_same_client(each, host)]
        candidates = own if len(own) >= self._limits.per_address else connections
        waiting = [each for each in candidates if isinstance(each, _Connection) and each.is_waiting]
        if not waiting:
            return False
        min(waiting, key=lambda each: each.number).transport.abort()
        return True

    def _open_connections(self) -> list[Any]:
        connections = self.server_state.connections
        return [each for each in connections if not each.transport.is_closing()]


class _Connection(H11Protocol):
    """A connection for one request, with deadlines for its headers and for its end."""

    _numbers = itertools.count()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.number = next(self._numbers)
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_waiting = self.is_waiting
        super().data_received(data)
        is_websocket = self.transport.get_protocol() is not self
        if was_waiting and not self.is_waiting and not is_websocket:
            self._deadline.cancel()
            self._deadline = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.abort)

    def handle_websocket_upgrade(self, event: Any) -> None:  # noqa: ANN401  # h11 is not typed
        self._deadline.cancel()
        super().handle_websocket_upgrade(event)

    @property
    def is_waiting(self) -> bool:
        """Whether the client has not yet sent a request."""
        return self.scope is None


class _WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket, whose refusal with a response is no error of the application."""

    async def send(self, message: Any) -> None:  # noqa: ANN401  # uvicorn's own types
        await super().send(message)
        # Uvicorn leaves this unset, and logs that the handshake is not complete.
        self.handshake_complete |= self.initial_response is not None and self.close_sent


async def _heartbeat(busy: AbstractContextManager[None]) -> None:
    while True:
        with busy:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)


def _is_same_client(connection: Any, host: str) -> bool:  # noqa: ANN401  # of either protocol
    return connection.client is not None and _client(connection.client[0]) == _client(host)


def _plain_address(host: str) -> str:
    """The address, without the prefix that a dual-stack socket gives IPv4 (RFC 4291)."""
    return host.removeprefix("::ffff:") if "." in host else host


def _client(host: str) -> str:
    """What a client cannot choose of its address."""
    host = _plain_address(host)
    if ":" not in host:
        return host
    network = ipaddress.ip_network((host.partition("%")[0], IPV6_PREFIX), strict=False)
    return str(network.network_address)


def _wrapped(app: ASGIApp) -> ASGIApp:
    """The application, whose responses announce the connection's end, and which can be cancelled.

    Uvicorn would log a cancelled request as an error of the application.
    """

    async def wrapped(scope: ASGIMessage, receive: Receive, send: Send) -> None:
        async def send_closing(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        with suppress(asyncio.CancelledError):
            await app(scope, receive, send_closing)

    return wrapped
