"""Joins the preview's parts."""

import ipaddress
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from edge_daemon._lib.address import Address, authority
from edge_daemon._lib.clock import Clock
from edge_daemon.capture.pause import Pause
from edge_daemon.monitoring.health import Health
from edge_daemon.pipeline import Service, Sink
from edge_daemon.preview.app import Preview, page_files
from edge_daemon.preview.auth import Entrance, Guard, local_names, new_token
from edge_daemon.preview.frame_encoder import GlanceMaker
from edge_daemon.preview.history import Minute
from edge_daemon.preview.responses import Facts
from edge_daemon.preview.server import PreviewServer, listening
from edge_daemon.preview.stream import Stream
from edge_daemon.records import FrameResult

ENTRANCE_PAGE: Final = "token.html"

ENTRANCE_LOOKS: Final = frozenset({"/preview.css", "/icon.svg"})
"""What that page is drawn with."""

SOME_OTHER_MACHINE: Final = ("192.0.2.1", 9)
"""An address that is kept free for examples (RFC 5737)."""


def preview(
    address: Address,
    fps: float,
    *,
    device_id: str,
    source: str,
    camera: bool,
    health: Health,
    pause: Pause,
    clock: Clock,
    resources: ExitStack,
    announce: Callable[[str], None],
) -> tuple[list[Sink[FrameResult]], Service]:
    """The steps that show results, and the service that serves them.

    Args:
        address: where to serve.
        fps: pictures a second at most.
        device_id: what the page is named after.
        source: the source's name, as it may be shown.
        camera: whether the source is one, which a pause closes.
        health: how the daemon is.
        pause: the privacy switch.
        clock: where the time is read.
        resources: takes what must be closed in the end.
        announce: is told the address to open, once it is served.

    Raises:
        PreviewError: the address cannot be listened at.
    """
    listener = resources.enter_context(listening(address))
    minute = Minute(clock)
    stream = Stream(GlanceMaker(health, pause, clock), fps, clock)
    health.source.changed.append(stream.tell)
    pause.changed.append(stream.tell)
    facts = Facts(device_id, source, camera, health, minute, clock)
    page = page_files()
    entrance = _entrance(listener, page.pop(ENTRANCE_PAGE).content)
    form_token = new_token()
    app = Guard(
        Preview(page, facts, stream, pause, form_token).app,
        local_names(address[0], local=entrance is None),
        form_token,
        entrance,
        public=ENTRANCE_LOOKS,
    )
    server = PreviewServer(app, listener, stream, lambda: announce(_url(address, entrance)))
    return [minute, stream], server


def _entrance(listener: socket.socket, page: bytes) -> Entrance | None:
    """None where only this machine can come in."""
    host, port = listener.getsockname()[:2]
    return None if ipaddress.ip_address(host).is_loopback else Entrance(page, port)


def _url(address: Address, entrance: Entrance | None) -> str:
    """What to open in a browser."""
    host, port = address
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    reachable = authority((_own_address() if everywhere else host, port))
    return f"http://{reachable}/" + (f"?token={entrance.token}" if entrance else "")


def _own_address() -> str:
    """This machine's address in its network, or its name while it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(SOME_OTHER_MACHINE)  # sends nothing, but chooses the way
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
