"""The preview: a page with the live image, served over HTTP."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from edge_daemon import __version__
from edge_daemon._lib.clock import Clock
from edge_daemon._lib.http_server import ConnectionLimits, HttpServer
from edge_daemon._lib.text import authority, without_password
from edge_daemon.analysis import ImageAnalyzer
from edge_daemon.capture.status import Pause
from edge_daemon.config.settings import Settings, ZoneSettings
from edge_daemon.monitoring.health import Health
from edge_daemon.pipeline import Busy, Pipeline, Service, Watcher
from edge_daemon.preview.app import PageConfig, PreviewApp, page_files
from edge_daemon.preview.auth import (
    AuthMiddleware,
    TokenLogin,
    host_names,
    is_ip_address,
    new_token,
)
from edge_daemon.preview.devices import NO_BROKER, DeviceMonitor
from edge_daemon.preview.history import History
from edge_daemon.preview.stream import FrameEncoder, PreviewStream
from edge_daemon.records import EMOTIONS, FrameResult, Image

LIMITS: Final = ConnectionLimits(total=64, per_address=32)

LOGIN_PAGE: Final = "token.html"

PUBLIC_PATHS: Final = frozenset({"/preview.css", "/icon.svg"})
"""Files that the login page needs."""

EXAMPLE_ADDRESSES: Final = {
    socket.AF_INET: ("192.0.2.1", 9),
    socket.AF_INET6: ("2001:db8::1", 9),
}
"""Addresses outside this network (RFC 5737, RFC 3849)."""


class PreviewServer(Service, Watcher):
    """The preview's sink, watcher and service.

    As a sink it records results, as a watcher it notices changes of the source's state, and as a
    service it serves the page.

    Args:
        settings: the daemon's settings.
        listener: a listening socket; closed at the end.
        is_camera: whether the source is a camera, which a pause closes.
        health: source of the figures.
        pause: the privacy switch.
        clock: the clock to use.
        announce: receives the URL to open, once the page is served.
    """

    name = "preview"
    is_hang_fatal = False
    is_failure_fatal = False

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        *,
        is_camera: bool,
        health: Health,
        pause: Pause,
        clock: Clock,
        announce: Callable[[str], None],
    ) -> None:
        self._health = health
        self._pause = pause
        self._announce = announce
        self._history = History(clock)
        encoder = FrameEncoder(health, self._history, pause, clock)
        self._stream = PreviewStream(encoder, settings.preview.fps, clock)
        page = page_files()
        login = _login(listener, page.pop(LOGIN_PAGE).content)
        host, port = settings.preview.address or listener.getsockname()[:2]
        self._url = _url(host, port, login)
        page_config = _page_config(settings, is_camera=is_camera)
        monitor = DeviceMonitor(settings, clock) if settings.sink == "mqtt" else None
        self.services: tuple[Service, ...] = (self,) if monitor is None else (self, monitor)
        """This service, and those that it needs."""
        self._app = PreviewApp(
            page,
            page_config,
            stream=self._stream,
            history=self._history,
            health=health,
            pause=pause,
            analyze=partial(_analyze, settings),
            devices=(lambda: NO_BROKER) if monitor is None else monitor.devices,
            clock=clock,
        )
        names = host_names(host, is_local=login is None)
        protected = AuthMiddleware(self._app.asgi, names, page_config.token, login, PUBLIC_PATHS)
        self._http = HttpServer(protected, listener, LIMITS, websockets=True)
        self._last_state = self._state()

    def apply(self, settings: ZoneSettings) -> None:
        """Show other zones."""
        self._app.apply(settings)

    def __call__(self, result: FrameResult) -> None:
        """Record a result."""
        self._history.record(result)
        self._stream.publish(result)

    def poll(self, _pipeline: Pipeline) -> None:
        """Notify the page when the source's state or the pause has changed."""
        state = self._state()
        if state != self._last_state:
            self._last_state = state
            self._stream.notify()

    def run(self, busy: Busy) -> None:
        """Serve until `stop` is called."""
        asyncio.run(self._serve(busy))

    def stop(self) -> None:
        """End `run` soon."""
        self._stream.close()
        self._http.stop()

    async def _serve(self, busy: Busy) -> None:
        with self._stream.bound():
            self._announce(self._url)
            await self._http.serve(busy)

    def _state(self) -> tuple[str, bool]:
        return self._health.source.state, self._pause.paused


def _page_config(settings: Settings, *, is_camera: bool) -> PageConfig:
    return PageConfig(
        device=settings.device_id,
        version=__version__,
        source=without_password(settings.source),
        camera=is_camera,
        emotions=EMOTIONS,
        zones=settings.zones.ignore,
        interval_ms=1000 / settings.preview.fps,
        token=new_token(),
    )


def _analyze(settings: Settings, image: Image) -> FrameResult:
    """Run the models on a photo, then release them: photos are rare, and memory is scarce."""
    return ImageAnalyzer(settings).analyze(image)


def _login(listener: socket.socket, page: bytes) -> TokenLogin | None:
    """None if only this machine can connect."""
    host, port = listener.getsockname()[:2]
    return None if ipaddress.ip_address(host).is_loopback else TokenLogin(page, port)


def _url(host: str, port: int, login: TokenLogin | None) -> str:
    """The URL to open in a browser."""
    if is_ip_address(host) and ipaddress.ip_address(host).is_unspecified:
        families = (socket.AF_INET6, socket.AF_INET) if ":" in host else (socket.AF_INET,)
        host = next(filter(None, map(_own_address, families)), socket.gethostname())
    return f"http://{authority((host, port))}/" + (f"?token={login.token}" if login else "")


def _own_address(family: socket.AddressFamily) -> str | None:
    """This machine's address in its network; None without a network."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(EXAMPLE_ADDRESSES[family])  # sends nothing, only chooses a route
        except OSError:
            return None
        return str(probe.getsockname()[0])
