"""Serves the metrics over HTTP, one request after another in the pipeline's own thread."""

import io
import logging
import socket
import sys
import threading
from socketserver import TCPServer
from typing import Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from edge_daemon._lib.address import Address, authority
from edge_daemon._lib.clock import Clock
from edge_daemon.errors import MetricsError
from edge_daemon.pipeline import Busy, Service

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT: Final = 1.0
"""Seconds for a request to come in, and for each part of its answer to go out."""

LARGEST_REQUEST: Final = 16 * 1024
"""Bytes."""

LOOP_INTERVAL: Final = 0.25
"""Seconds between two looks at whether to stop, while nobody asks."""


class MetricsServer(Service):
    """The service that answers scrapes.

    Args:
        app: a WSGI application.
        address: where to listen.
        clock: where the time is read.
    """

    name = "metrics"
    is_essential = False

    def __init__(self, app: WSGIApplication, address: Address, clock: Clock) -> None:
        self._app = app
        self._address = address
        self._clock = clock
        self._stopping = threading.Event()

    def run(self, busy: Busy) -> None:
        """Serve until `stop` is called.

        Raises:
            MetricsError: the address cannot be listened at.
        """
        with self._listening() as server:
            server.set_app(self._app)
            logger.info("serving metrics", extra={"address": authority(self._address)})
            while not self._stopping.is_set():
                with busy():
                    server.handle_request()

    def stop(self) -> None:
        self._stopping.set()

    def _listening(self) -> "_Server":
        try:
            return _Server(self._address, self._clock)
        except (OSError, UnicodeError) as error:
            raise MetricsError(
                f"metrics.listen: {authority(self._address)}: cannot listen: {error}; "
                "does another program use it?"
            ) from error


class _Server(WSGIServer):
    timeout = LOOP_INTERVAL

    def __init__(self, address: Address, clock: Clock) -> None:
        self.clock = clock
        self._address = address
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the host's full name, which may take long without a network.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._address
        self.setup_environ()

    def handle_error(self, *_: object) -> None:
        """A client that is too slow, or leaves, is no error of ours."""
        logger.debug("request for metrics broke off", extra={"error": repr(sys.exception())})


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT
    server: _Server

    def setup(self) -> None:
        head = _request_head(self.request, self.server.clock)
        super().setup()
        self.rfile.close()
        self.rfile = io.BytesIO(head)

    def log_message(self, *_: object) -> None:
        """Scrapes come every few seconds and are not worth a line."""


def _request_head(connection: socket.socket, clock: Clock) -> bytes:
    """All that is sent until the empty line behind the headers.

    A time limit on the socket alone would let a client hold the thread with a byte at a time.

    Raises:
        TimeoutError: it did not come in time.
    """
    end = clock.monotonic() + REQUEST_TIMEOUT
    head = b""
    while b"\r\n\r\n" not in head and len(head) < LARGEST_REQUEST:
        if (left := end - clock.monotonic()) <= 0:
            raise TimeoutError("request took too long")
        connection.settimeout(left)
        if not (part := connection.recv(LARGEST_REQUEST)):
            break
        head += part
    return head
