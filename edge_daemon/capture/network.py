"""What network cameras share: their addresses, limits on opening them, and reasons of failures."""

import http.client
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Final
from urllib.parse import SplitResult, urlsplit

from edge_daemon._lib.text import without_password
from edge_daemon.capture.base import Reader
from edge_daemon.errors import SourceError, SourceLost, in_one_line
from edge_daemon.pipeline import in_thread

NETWORK_TIMEOUT_S: Final = 5.0
"""Seconds for connecting and for each read: less than the supervisor's `capture.read_timeout`."""

OPENING_SHARE: Final = 0.9
"""Part of `capture.read_timeout` for all steps of opening, after which the camera is lost."""

OPEN_TIMEOUT_S: Final = 9.0
"""That part of its default."""

ENCODING_HINT: Final = (
    "percent-encode special characters in the user name and password: "
    "%40 for @, %2F for /, %3F for ?, %23 for #, %3A for :"
)

CERTIFICATE_HINT: Final = (
    "for a camera with a self-signed certificate, set capture.verify_certificate = false"
)

SCHEMES: Final = frozenset({"http", "https", "rtsp", "rtsps"})


class HttpStatusError(Exception):
    """Raised for a response that is not a success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status


def parse_address(url: str) -> SplitResult:
    """Split a camera's address; its scheme is in lower case.

    Raises:
        SourceError: it does not parse, or has an unsupported scheme; the message holds no password.
    """
    masked = without_password(url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise SourceError(f"{masked}: invalid address; {ENCODING_HINT}") from error
    if parts.scheme not in SCHEMES:
        supported = ", ".join(sorted(SCHEMES))
        raise SourceError(f"{masked}: unsupported scheme; supported are {supported}")
    if not host or _may_hide_a_login(parts):
        raise SourceError(f"{masked}: invalid address; {ENCODING_HINT}")
    return parts


def _may_hide_a_login(parts: SplitResult) -> bool:
    """Whether an `@` further on may end a login with unencoded characters, such as `/`."""
    if parts.username is not None:
        return "@" in f"{parts.path}{parts.query}{parts.fragment}"
    return ":" in parts.netloc and "@" in f"{parts.path}{parts.fragment}"


def reason_of(error: BaseException, host: str) -> str:
    """Why a camera cannot be opened or read, and the remedy, in a few words without its address."""
    match error:
        case HttpStatusError():
            reason = _reason_of_status(error.status)
        case ssl.SSLCertVerificationError():
            reason = f"its certificate is not trusted ({error.verify_message}); {CERTIFICATE_HINT}"
        case socket.gaierror() | UnicodeError():
            reason = unknown_host(host)
        case ConnectionRefusedError():
            reason = "connection refused; check the port, and that the camera is on"
        case TimeoutError():
            reason = f"no answer within {NETWORK_TIMEOUT_S:g} s"
        case http.client.IncompleteRead() | http.client.RemoteDisconnected():
            reason = "the camera closed the connection"
        case http.client.HTTPException():
            reason = str(error) or type(error).__name__
        case OSError() if error.strerror:
            reason = error.strerror[:1].lower() + error.strerror[1:]
        case _:
            reason = in_one_line(error)
    return reason


def unknown_host(host: str) -> str:
    return f"unknown host {host}; check the name and the network, or use the IP address"


def _reason_of_status(status: int) -> str:
    match status:
        case 401:
            return f"user name or password is wrong or missing (HTTP 401); {ENCODING_HINT}"
        case 403:
            return "access is forbidden (HTTP 403); check the user's rights in the camera"
        case 404:
            return "no such path on the camera (HTTP 404)"
        case _:
            phrase = http.client.responses.get(status, "unknown status")
            return f"HTTP {status} ({phrase})"


def is_resolvable(host: str) -> bool:
    """Whether the host's name can be looked up now.

    The resolver has no time limit of its own: it waits long for a name server without an answer.
    """
    look_up = in_thread("look-up", partial(socket.getaddrinfo, host, None))
    done, _ = wait([look_up], NETWORK_TIMEOUT_S)
    return bool(done) and look_up.exception() is None


def open_within(
    timeout_s: float, name: str, open_reader: Callable[[], Reader], abort: Callable[[], None]
) -> Reader:
    """Open a camera in a limited time, of which each step has a limit of its own only.

    Args:
        timeout_s: limit on all steps together.
        name: the source's name.
        open_reader: opens it.
        abort: called when that takes too long, to end it soon.

    Raises:
        SourceLost: it takes longer, or as `open_reader`. A reader that comes later is closed.
    """
    opening = in_thread("open", open_reader)
    done, _ = wait([opening], timeout_s)
    if done:
        return opening.result()
    opening.add_done_callback(_close_late)
    abort()
    raise SourceLost(f"{name}: not open within {timeout_s:g} s; check the network and the camera")


def _close_late(opening: Future[Reader]) -> None:
    if opening.exception() is None:
        opening.result().close()


def certificate_file() -> str | None:
    """The system's certificates as one file, as FFmpeg needs them."""
    return ssl.get_default_verify_paths().cafile
